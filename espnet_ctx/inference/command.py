"""What the commands that decode a data directory have in common."""

import argparse
from pathlib import Path
from typing import Iterator

import kaldiio
import torch

from espnet_ctx.context.sessions import sessions
from espnet_ctx.files import UserError, read_table
from espnet_ctx.inference.audio import BATCH_SECONDS, speech_batches
from espnet_ctx.inference.speech import is_silent
from espnet_ctx.nn.memory import State


def get_parser(description: str, example: str, outputs: str) -> argparse.ArgumentParser:
    """The options; `outputs` names the files that `--output_dir` gets."""
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument(
        "--data_dir", required=True, help="needs wav.scp, and utt2prev for carry; utt2num_samples saves a look at each file"
    )
    parser.add_argument(
        "--context_scp", help="context archive, for systems that are fed context at inference; carry: in place of its memory"
    )
    parser.add_argument(
        "--reset_memory", action="store_true", help="system carry: forget the session after every utterance (no utt2prev needed)"
    )
    parser.add_argument("--output_dir", required=True, help=f"gets {outputs}")
    parser.add_argument("--batch_seconds", type=float, help="padded seconds in a batch (default: 20; on a GPU 400)")
    parser.add_argument("--ngpu", type=int, default=0, choices=(0, 1), help="1: decode on the GPU (default: 0)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def decode(args: argparse.Namespace, load):
    """Decode the data directory that the options name.

    Args:
        args: parsed by `get_parser()`.
        load: makes a `TrainedModel` that can be called, from configuration, weights and device. It is called after
            the cheap checks.

    Returns:
        The model, and what it makes of each utterance: `{utterance: output}`.

    Raises:
        UserError: an utterance without context, or a model that needs context and gets none.
    """
    torch.set_num_threads(args.num_threads)
    batch_seconds = args.batch_seconds or BATCH_SECONDS["cuda" if args.ngpu else "cpu"]
    data = Path(args.data_dir)
    utts = read_table(data / "wav.scp")
    context = kaldiio.load_scp(args.context_scp) if args.context_scp else None
    if context is not None:
        missing = [utt for utt in utts if utt not in context]
        if missing:
            raise UserError(
                f"{args.context_scp} lacks {len(missing)} of {len(utts)} utterances, e.g. {missing[0]}; run stages 6 and 7"
            )
    model = load(args.config, args.model, "cuda" if args.ngpu else "cpu")
    if model.needs_context and context is None:
        raise UserError("this model is fed context at inference: give --context_scp")
    if model.memory is not None and context is None and not args.reset_memory:
        return model, dict(_over_sessions(model, data, batch_seconds))
    outputs = {}
    for batch, speech in speech_batches(data, batch_seconds):
        rows = None if context is None else [context[utt] for utt in batch]
        outputs.update(zip(batch, model(speech, rows)))
    return model, outputs


def _over_sessions(model, data: Path, batch_seconds: float) -> Iterator[tuple[str, object]]:
    """Decode the first utterances of all sessions in batches, then the second ones, and so on."""
    chains = sessions(data)
    session_of = {utt: number for number, chain in enumerate(chains) for utt in chain}
    steps = [[chain[step] for chain in chains if step < len(chain)] for step in range(max(map(len, chains)))]
    states = model.memory.initial(len(chains), model.device)
    for batch, speech in speech_batches(data, batch_seconds, steps):
        numbers = [session_of[utt] for utt in batch]
        outputs = model(speech, states=State(*(part[numbers] for part in states)))
        heard = [i for i, samples in enumerate(speech) if not is_silent(samples)]  # nothing else is remembered
        for part, new in zip(states, model.states):
            part[[numbers[i] for i in heard]] = new[heard]
        yield from zip(batch, outputs)

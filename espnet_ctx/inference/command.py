"""What the commands that decode a data directory have in common."""

import argparse
from pathlib import Path

import kaldiio
import torch

from espnet_ctx.files import UserError, read_table
from espnet_ctx.inference.audio import speech_batches


def get_parser(description: str, example: str, outputs: str) -> argparse.ArgumentParser:
    """The options; `outputs` names the files that `--output_dir` gets."""
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument("--data_dir", required=True, help="needs wav.scp; utt2num_samples saves a look at each file")
    parser.add_argument("--context_scp", help="context archive, for systems that are fed context at inference")
    parser.add_argument("--output_dir", required=True, help=f"gets {outputs}")
    parser.add_argument("--batch_seconds", type=float, default=200, help="padded seconds in a batch (default: 200)")
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
    outputs = {}
    for batch, speech in speech_batches(data, args.batch_seconds):
        rows = None if context is None else [context[utt] for utt in batch]
        outputs.update(zip(batch, model(speech, rows)))
    return model, outputs

"""Decode a data directory greedily by CTC, in batches; writes what ESPnet's inference writes."""

import argparse
from pathlib import Path

import kaldiio
import torch

from espnet_ctx.files import UserError, read_table, run_main, write_table
from espnet_ctx.inference.audio import speech_batches

EXAMPLE = """example:
  python -m espnet_ctx.bin.ctc_inference --config exp/asr_aware/config.yaml --model exp/asr_aware/valid.loss.ave.pth \\
      --data_dir dump/raw/test --output_dir exp/asr_aware/decode_ctc/test"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument("--data_dir", required=True, help="needs wav.scp; utt2num_samples saves a look at each file")
    parser.add_argument("--context_scp", help="context archive, for systems that are fed context at inference")
    parser.add_argument("--output_dir", required=True, help="gets text, token, token_int and score")
    parser.add_argument("--batch_seconds", type=float, default=200, help="padded seconds in a batch (default: 200)")
    parser.add_argument("--ngpu", type=int, default=0, choices=(0, 1), help="1: decode on the GPU (default: 0)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Decode as the options say."""
    args = get_parser().parse_args(cmd)
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

    from espnet_ctx.inference.recognizer import CTCRecognizer  # imports ESPnet: after the cheap checks

    recognizer = CTCRecognizer(args.config, args.model, "cuda" if args.ngpu else "cpu")
    if recognizer.needs_context and context is None:
        raise UserError("this model is fed context at inference: give --context_scp")

    hypotheses = {}
    for batch, speech in speech_batches(data, args.batch_seconds):
        rows = None if context is None else [context[utt] for utt in batch]
        hypotheses.update(zip(batch, recognizer(speech, rows)))

    tables: dict[str, dict[str, str]] = {"text": {}, "token": {}, "token_int": {}, "score": {}}
    for utt, hypothesis in hypotheses.items():
        tokens, text = recognizer.text(hypothesis)
        tables["text"][utt] = text
        tables["token"][utt] = " ".join(tokens)
        tables["token_int"][utt] = " ".join(map(str, hypothesis.token_ids))
        tables["score"][utt] = f"{hypothesis.score:.4f}"
    # text last: whoever finds it finds all
    for name in ("score", "token_int", "token", "text"):
        write_table(Path(args.output_dir) / name, tables[name])


if __name__ == "__main__":
    run_main(main)

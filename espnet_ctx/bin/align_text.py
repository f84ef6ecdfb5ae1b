"""Align the texts of a data directory with its speech by CTC; writes when each word was said (CTM)."""

import argparse
from pathlib import Path

import kaldiio
import torch

from espnet_ctx.files import UserError, read_table, run_main

EXAMPLE = """example:
  python -m espnet_ctx.bin.align_text --config exp/asr_none/config.yaml --model exp/asr_none/valid.loss.ave.pth \\
      --data_dir dump/raw/test --out exp/asr_none/align/test.ctm"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument("--data_dir", type=Path, required=True, help="needs wav.scp and text")
    parser.add_argument("--text", type=Path, help="what was said, such as a decoded text (default: the directory's)")
    parser.add_argument("--context_scp", help="context archive, for systems that are fed context at inference")
    parser.add_argument("--out", type=Path, required=True, help="CTM file")
    parser.add_argument("--batch_seconds", type=float, default=20, help="padded seconds in a batch (default: 20)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Align as the options say."""
    args = get_parser().parse_args(cmd)
    torch.set_num_threads(args.num_threads)
    texts = read_table(args.text or args.data_dir / "text")
    missing = [utt for utt in read_table(args.data_dir / "wav.scp") if utt not in texts]
    if missing:
        raise UserError(f"{args.text or args.data_dir / 'text'} lacks {len(missing)} utterances, e.g. {missing[0]}")
    context = kaldiio.load_scp(args.context_scp) if args.context_scp else None

    from espnet_ctx.inference.audio import speech_batches
    from espnet_ctx.inference.outputs import write_ctm
    from espnet_ctx.inference.recognizer import CTCRecognizer

    recognizer = CTCRecognizer(args.config, args.model)
    if recognizer.needs_context and context is None:
        raise UserError("this model is fed context at inference: give --context_scp")
    aligned = {}
    for utts, speech in speech_batches(args.data_dir, args.batch_seconds):
        rows = context and [context[utt] for utt in utts]
        log_probs, lengths = recognizer.log_probs(speech, rows)
        for utt, row, length in zip(utts, log_probs, lengths.tolist()):
            try:
                aligned[utt] = recognizer.align(row, length, texts[utt])
            except UserError as e:
                raise UserError(f"{utt}: {e}") from None
    write_ctm(recognizer, aligned, args.out)


if __name__ == "__main__":
    run_main(main)

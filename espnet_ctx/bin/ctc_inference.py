"""Decode a data directory greedily by CTC, in batches; writes what ESPnet's inference writes."""

import argparse
from pathlib import Path

from espnet_ctx.files import run_main, write_table
from espnet_ctx.inference import command

EXAMPLE = """example:
  python -m espnet_ctx.bin.ctc_inference --config exp/asr_aware/config.yaml --model exp/asr_aware/valid.loss.ave.pth \\
      --data_dir dump/raw/test --output_dir exp/asr_aware/decode_ctc/test"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    return command.get_parser(__doc__, EXAMPLE, "text, token, token_int and score")


def load(*args):
    """The recogniser; imports ESPnet."""
    from espnet_ctx.inference.recognizer import CTCRecognizer

    return CTCRecognizer(*args)


def main(cmd: list[str] | None = None) -> None:
    """Decode as the options say."""
    args = get_parser().parse_args(cmd)
    recognizer, hypotheses = command.decode(args, load)
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

"""Classify the utterances of a data directory, in batches; writes what ESPnet's cls_inference writes."""

import argparse
from pathlib import Path

from espnet_ctx.files import run_main, write_table
from espnet_ctx.inference import command

EXAMPLE = """example:
  python -m espnet_ctx.bin.cls_inference --config exp/cls_aware/config.yaml --model exp/cls_aware/valid.loss.ave.pth \\
      --data_dir dump/raw/test --output_dir exp/cls_aware/decode_batch/test"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    return command.get_parser(__doc__, EXAMPLE, "text (the class), token (its number) and score (all probabilities)")


def load(*args):
    """The classifier; imports ESPnet."""
    from espnet_ctx.inference.classifier import Classifier

    return Classifier(*args)


def main(cmd: list[str] | None = None) -> None:
    """Classify as the options say."""
    args = get_parser().parse_args(cmd)
    classifier, probabilities = command.decode(args, load)
    tables: dict[str, dict[str, str]] = {"text": {}, "token": {}, "score": {}}
    for utt, row in probabilities.items():
        tables["text"][utt] = classifier.classes[row.argmax()]
        tables["token"][utt] = str(row.argmax())
        tables["score"][utt] = " ".join(f"{p:.6f}" for p in row)
    # text last: whoever finds it finds all
    for name in ("score", "token", "text"):
        write_table(Path(args.output_dir) / name, tables[name])


if __name__ == "__main__":
    run_main(main)

"""Score sentiment classes as SLUE does: macro F1, recall and precision.

The files have one label a line, to be paired row by row, or `<utterance> <label>`. A label is Negative, Neutral or
Positive, or its number 0, 1 or 2; references with another one (<mixed>, Disagreement) are not scored. Writes everything as
JSON, in percent, and prints a row of a Markdown table: |utterances|macro F1|macro recall|macro precision|
"""

import argparse
import json

from espnet_ctx.files import run_main, whole_file
from espnet_ctx.scoring.sentiment import read_classes, score_sentiment


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.score_sentiment --ref dev.sent --hyp dev.pred --json dev.json",
    )
    parser.add_argument("--ref", required=True, help="labels")
    parser.add_argument("--hyp", required=True, help="recognised labels")
    parser.add_argument("--json", required=True, help="the file to write")
    return parser


def main(cmd=None) -> None:
    """Score, write and print."""
    args = get_parser().parse_args(cmd)
    scores = score_sentiment(*read_classes(args.ref, args.hyp))
    with whole_file(args.json) as f:
        json.dump(scores, f, indent=2)
        f.write("\n")
    rates = (scores["macro"][measure] for measure in ("f1", "recall", "precision"))
    print(f"|{scores['utterances']}|{'|'.join(f'{rate:.1f}' for rate in rates)}|")


if __name__ == "__main__":
    run_main(main)

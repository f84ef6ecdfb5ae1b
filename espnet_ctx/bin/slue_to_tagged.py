"""Convert a TSV of SLUE-VoxPopuli into text with tagged entities, exactly as the SLUE toolkit does.

Writes one line per row, in the order of the rows.
"""

import argparse

from espnet_ctx.corpora.slue import read_tagged
from espnet_ctx.files import run_main, whole_file
from espnet_ctx.scoring.slue_text import TAGS, letters


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.slue_to_tagged --tsv slue-voxpopuli_dev.tsv --tags raw --out dev.raw.wrd",
    )
    parser.add_argument("--tsv", required=True, help="a labelled TSV (columns normalized_text, normalized_ner)")
    parser.add_argument("--tags", required=True, choices=TAGS, help="18 raw or 7 combined tags")
    parser.add_argument("--letters", action="store_true", help="write letters with | for space, not words")
    parser.add_argument("--out", required=True, help="the file to write")
    return parser


def main(cmd=None) -> None:
    """Convert."""
    args = get_parser().parse_args(cmd)
    lines = read_tagged(args.tsv, args.tags)
    with whole_file(args.out) as f:
        for line in lines:
            f.write((letters(line) if args.letters else line) + "\n")


if __name__ == "__main__":
    run_main(main)

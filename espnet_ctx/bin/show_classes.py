"""Print precision, recall and F1 of every tag or sentiment class of a scored system, in percent."""

import argparse

from espnet_ctx.files import run_main
from espnet_ctx.scoring.ner import CRITERIA
from espnet_ctx.scoring.slue_text import TAGS
from espnet_ctx.scoring.tables import classes_markdown


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.show_classes exp/slu_aware --tag_set raw",
    )
    parser.add_argument("exp", help="a system's folder")
    parser.add_argument("--tag_set", choices=TAGS, default="combined", help="of named entities (default: combined)")
    parser.add_argument("--criterion", choices=CRITERIA, default="standard", help="F1 (standard, default) or label-F1 (label)")
    return parser


def main(cmd=None) -> None:
    """Print the table."""
    print(classes_markdown(**vars(get_parser().parse_args(cmd))), end="")


if __name__ == "__main__":
    run_main(main)

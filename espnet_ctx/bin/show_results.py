"""Print RESULTS.md, in the form of ESPnet's show_asr_result.sh, for every scored system below a folder."""

import argparse

from espnet_ctx.files import run_main
from espnet_ctx.scoring.tables import results_markdown


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.show_results exp/asr_aware > exp/asr_aware/RESULTS.md",
    )
    parser.add_argument("exp", nargs="?", default="exp", help="a system's folder or one above (default: exp)")
    return parser


def main(cmd=None) -> None:
    """Print the tables."""
    print(results_markdown(get_parser().parse_args(cmd).exp), end="")


if __name__ == "__main__":
    run_main(main)

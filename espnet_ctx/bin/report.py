"""Report on all systems and seeds of an experiment folder: a Markdown table and figures."""

import argparse

from espnet_ctx.files import run_main
from espnet_ctx.scoring.report import SCORES, write_report


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.report --exp exp --out exp/report",
    )
    parser.add_argument("--exp", default="exp", help="folder of asr_* and seed*/asr_* (default: exp)")
    parser.add_argument("--out", default="exp/report", help="folder of the report (default: exp/report)")
    parser.add_argument("--task", choices=SCORES, default="asr", help="whose systems (default: asr)")
    parser.add_argument("--base", default="none", help="system the others are tested against (default: none)")
    return parser


def main(cmd=None) -> None:
    """Write the report and print it."""
    args = get_parser().parse_args(cmd)
    report = write_report(args.exp, args.out, args.base, args.task)
    print(report.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    run_main(main)

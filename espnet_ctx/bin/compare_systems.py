"""Test systems against a base with sctk's matched-pairs test (MAPSSWE); prints a Markdown table."""

import argparse
from pathlib import Path

from espnet_ctx.files import UserError, run_main
from espnet_ctx.scoring.significance import format_p, mapsswe
from espnet_ctx.scoring.tables import markdown_table


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.compare_systems --set test none aware generated",
    )
    parser.add_argument("--exp", default="exp", help="experiment folder (default: exp)")
    parser.add_argument("--set", default="test", help="decoded set (default: test)")
    parser.add_argument("--inference_tag", default="*", help="decoding folder, may be a pattern (default: *)")
    parser.add_argument("base", help="the system to compare with: X of <exp>/asr_X")
    parser.add_argument("systems", nargs="+", help="the systems to compare")
    return parser


def find_score(exp, system: str, inference_tag: str, dataset: str) -> Path:
    """Find the one `<exp>/asr_<system>/<inference_tag>/<set>/score_wer`.

    Raises:
        UserError: there is none, or several.
    """
    pattern = f"asr_{system}/{inference_tag}/{dataset}/score_wer"
    found = sorted(path for path in Path(exp).glob(pattern) if (path / "hyp.trn").exists())
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise UserError(f"several decodings of '{system}': {names}; choose with --inference_tag")
    if not found:
        known = sorted(path.name.removeprefix("asr_") for path in Path(exp).glob("asr_*") if path.is_dir())
        raise UserError(f"no {exp}/{pattern}; systems in {exp}: {', '.join(known) or 'none'}")
    return found[0]


def main(cmd=None) -> None:
    """Compare and print."""
    args = get_parser().parse_args(cmd)
    base = find_score(args.exp, args.base, args.inference_tag, args.set)
    rows = []
    for system in args.systems:
        test = mapsswe(base, find_score(args.exp, system, args.inference_tag, args.set))
        better = {"system": system, "base": args.base, "same": "neither"}[test.better]
        relative = f"{100 * (test.system_wer / test.base_wer - 1):+.1f}" if test.base_wer else "-"
        wers = f"{test.base_wer:.2f}", f"{test.system_wer:.2f}"
        rows.append([system, *wers, relative, test.segments, format_p(test.p), better])
    header = ("system", f"WER of {args.base}", "WER", "relative (%)", "segments", "p", "better (p < 0.05)")
    print(markdown_table(header, rows), end="")


if __name__ == "__main__":
    run_main(main)

#!/usr/bin/env python3
"""The table of local/ablation.sh: error rates, what the student learnt, how much of it the frames take.

Example:
    local/ablation_table.py --exp exp --prefix aware_ --out exp/ablation/report.md
"""

import argparse
import json
from pathlib import Path

from espnet_ctx.files import UserError, run_main, whole_file
from espnet_ctx.scoring.report import compare_with_base, find_runs, read_learning_curve
from espnet_ctx.scoring.significance import format_p
from espnet_ctx.scoring.tables import markdown_table

RATES = ["WER", "homophone WER", "WER of other words"]
COLUMNS = ["system", *RATES, "p against none", "cosine", "topic (%)", "gate", "residual (%)"]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment folder of one seed")
    parser.add_argument("--prefix", default="aware_", help="of the variants' tags (default: aware_)")
    parser.add_argument("--out", required=True, help="the table, Markdown")
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    system = args.prefix.rstrip("_")
    runs = [
        run
        for run in find_runs(args.exp)
        if not (run.seed or run.test_context)
        and (run.system in ("none", "generated", system) or run.system.startswith(args.prefix))
    ]
    if not runs:
        raise UserError(f"no scored system {args.prefix}* below {args.exp} (--prefix)")
    comparisons = compare_with_base(runs, "none")
    rows = []
    for run in runs:
        folder = args.exp / f"asr_{run.system}"
        rates, known = run.rates(), {}
        if (folder / "student_test.json").exists():
            known = json.loads((folder / "student_test.json").read_text(encoding="utf-8"))
        last = list(read_learning_curve(folder).values())[-1]
        rows.append(
            [
                run.system,
                *(f"{rates[name]:.1f}" for name in RATES),
                format_p(comparisons[run].p) if run in comparisons else "-",
                f"{known['student_cosine']:.3f}" if known else "-",
                f"{100 * known['student_topic_accuracy']:.1f}" if known else "-",
                f"{last['context_gate']:.3f}" if "context_gate" in last else "-",
                f"{100 * last['context_residual']:.1f}" if "context_residual" in last else "-",
            ]
        )
    table = markdown_table(COLUMNS, rows)
    with whole_file(args.out) as f:
        f.write(table)
    print(table)


if __name__ == "__main__":
    run_main(main)

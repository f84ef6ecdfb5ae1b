#!/usr/bin/env python3
"""The table of local/ablation.sh: error rates, what the student learnt, how much of it the frames take.

Means over the seeds that were scored, with the standard deviation of the error rates. Kept: the share of what
`generated` gains on homophones over `none`, both of the same seed. Fed: what was fed at decoding, `none` for a memory
that is reset after every utterance, `generated` for what the LLM makes of the true previous texts.

Example:
    local/ablation_table.py --exp exp --systems carry --out exp/ablation/carry.md
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Sequence

from espnet_ctx.files import UserError, run_main, whole_file
from espnet_ctx.scoring.report import Run, compare_with_base, find_runs, read_learning_curve, spread, verdict
from espnet_ctx.scoring.tables import markdown_table

SYSTEMS = ("aware", "carry")  # that have variants
REFERENCES = ("none", "prev_text", "generated", "oracle")
RATES = ("WER", "homophone WER", "WER of other words")
COLUMNS = ["system", "fed", "seeds", *RATES, "against none", "kept (%)", "cosine", "topic (%)", "gate", "residual (%)"]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment folder, with those of further seeds in it")
    parser.add_argument("--systems", nargs="+", help="with their variants (default: aware and carry, where they are)")
    parser.add_argument(
        "--dataset", default="decode_ctc_asr_model_valid.loss.ave/test", help="<decoding>/<set> (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, help="the table, Markdown")
    return parser


def kept(runs: Sequence[Run]) -> dict[Run, float]:
    """Share of the homophone gain of `generated` that runs have, percent; of seeds with `none` and `generated`."""
    reference = {(run.system, run.seed): run.rates()[RATES[1]] for run in runs if not run.test_context}
    shares = {}
    for run in runs:
        none, generated = (reference.get((name, run.seed)) for name in ("none", "generated"))
        if None not in (none, generated) and none != generated:
            shares[run] = 100 * (none - run.rates()[RATES[1]]) / (none - generated)
    return shares


def learnt(run: Run) -> dict[str, float]:
    """What the student knows of the test set, and what the frames took of it in the last validation."""
    folder = run.folder.parents[1]
    figures = {}
    report = folder / f"student_{run.folder.name}.json"
    if report.exists():
        known = json.loads(report.read_text(encoding="utf-8"))
        figures = {"cosine": known["student_cosine"], "topic (%)": 100 * known["student_topic_accuracy"]}
    last = list(read_learning_curve(folder).values())[-1]
    if "context_gate" in last:
        figures |= {"gate": last["context_gate"], "residual (%)": 100 * last["context_residual"]}
    return figures


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    found = [run for run in find_runs(args.exp) if run.dataset == args.dataset]
    runs = [run for name in REFERENCES for run in found if run.system == name and not run.test_context]
    ours = {name: [run for run in found if f"{run.system}_".startswith(f"{name}_")] for name in args.systems or SYSTEMS}
    for name in args.systems or [name for name in SYSTEMS if ours[name]] or SYSTEMS:
        if not ours[name]:
            raise UserError(f"no scored system {name}* below {args.exp} (--systems, --dataset {args.dataset})")
        runs += ours[name]
    comparisons, shares = compare_with_base(runs, "none"), kept(runs)
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.system, run.test_context), []).append(run)
    rows = []
    for (system, test_context), group in groups.items():
        knowledge = [learnt(run) for run in group if system not in REFERENCES and not test_context]
        figures = [
            f"{mean(values):.{digits}f}" if (values := [known[name] for known in knowledge if name in known]) else "-"
            for name, digits in (("cosine", 3), ("topic (%)", 1), ("gate", 3), ("residual (%)", 1))
        ]
        tests = [comparisons[run] for run in group if run in comparisons]
        share = [shares[run] for run in group if run in shares and system not in REFERENCES]
        rates = [spread([run.rates()[name] for run in group]) for name in RATES]
        rows.append([system, test_context or "-", len(group), *rates, verdict(tests), spread(share), *figures])
    table = markdown_table(COLUMNS, rows)
    with whole_file(args.out) as f:
        f.write(table)
    print(table)


if __name__ == "__main__":
    run_main(main)

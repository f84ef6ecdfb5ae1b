"""Test a system's named entities or sentiment against a base's: bootstrap intervals and a paired permutation test.

Outputs of several seeds may be given, as many of the system as of the base: their counts are added utterance by utterance,
and the utterance is what is drawn and swapped. Prints a Markdown table in percent; --json writes the same.
"""

import argparse
import json

import numpy as np

from espnet_ctx.files import UserError, run_main, whole_file
from espnet_ctx.scoring.ner import CRITERIA, count_entities, micro_f, read_entities
from espnet_ctx.scoring.pairs import read_pairs
from espnet_ctx.scoring.resampling import Comparison, compare
from espnet_ctx.scoring.sentiment import confusions, macro_f, macro_recall, read_classes
from espnet_ctx.scoring.significance import format_p
from espnet_ctx.scoring.slue_text import TAGS
from espnet_ctx.scoring.tables import markdown_table

CRITERION_NAMES = {"standard": "micro F1", "label": "micro label-F1"}


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.compare_slu --metric ner --tags raw --kaldi --ref text.ner_raw \\\n"
        "    --base exp/*/slu_none/*/test/text --system exp/*/slu_aware/*/test/text",
    )
    parser.add_argument("--metric", required=True, choices=["ner", "sentiment"], help="what the files hold")
    parser.add_argument("--ref", required=True, help="references")
    parser.add_argument("--base", required=True, nargs="+", help="output of the base, a file per seed")
    parser.add_argument("--system", required=True, nargs="+", help="output of the system, a file per seed")
    parser.add_argument("--tags", choices=TAGS, default="raw", help="set of tags that the files have (ner; default: raw)")
    parser.add_argument("--kaldi", action="store_true", help="the lines are '<utterance> <text>' (ner)")
    parser.add_argument("--json", help="write the figures here too")
    return parser


def ner_counts(args: argparse.Namespace, hyp: str) -> dict[str, np.ndarray]:
    """Count one output's entities, (utterances, 1, 3) per name of a measure."""
    ref_entities, hyp_entities = (read_entities(texts, args.tags) for texts in read_pairs(args.ref, hyp, args.kaldi))
    pairs = ref_entities["combined"], hyp_entities["combined"]
    counts = {CRITERION_NAMES[c]: count_entities(*pairs, c).counts for c in CRITERIA}
    return {name: of_tags.sum(axis=1, keepdims=True) for name, of_tags in counts.items()}


def compare_outputs(args: argparse.Namespace) -> dict[str, Comparison]:
    """Compare by each measure of the task.

    Raises:
        UserError: as many outputs of the system as of the base are needed, of the same utterances.
    """
    if len(args.base) != len(args.system):
        raise UserError(f"as many files as --base ({len(args.base)}) are needed with --system, got {len(args.system)}")
    if args.metric == "ner":
        base, system = ([ner_counts(args, hyp) for hyp in hyps] for hyps in (args.base, args.system))
        return {
            name: compare(sum(c[name] for c in base), sum(c[name] for c in system), micro_f)
            for name in CRITERION_NAMES.values()
        }
    base, system = (sum(confusions(*read_classes(args.ref, hyp)) for hyp in hyps) for hyps in (args.base, args.system))
    return {
        "macro F1": compare(base, system, macro_f),
        "macro recall": compare(base, system, macro_recall),
    }


def main(cmd=None) -> None:
    """Compare, print and write."""
    args = get_parser().parse_args(cmd)
    comparisons = compare_outputs(args)
    rows = []
    for name, c in comparisons.items():
        cells = (
            f"{value:.1f} ({low:.1f} to {high:.1f})"
            for value, (low, high) in ((c.base, c.base_interval), (c.system, c.system_interval))
        )
        low, high = c.difference_interval
        rows.append([name, *cells, f"{c.system - c.base:+.1f} ({low:+.1f} to {high:+.1f})", format_p(c.p)])
    print(markdown_table(["measure", "base (95% interval)", "system", "difference", "p"], rows), end="")
    if args.json:
        with whole_file(args.json) as f:
            json.dump({name: c._asdict() for name, c in comparisons.items()}, f, indent=2)
            f.write("\n")


if __name__ == "__main__":
    run_main(main)

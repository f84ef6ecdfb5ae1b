"""Score named entities as SLUE does: F1 and label-F1, from text in which they are tagged.

--tags says which set of tags both files are written with. Raw tags are scored combined (SLUE's headline) and raw. Writes
everything as JSON: fractions in the toolkit's form, {set of tags: {standard (F1) or label (label-F1): {overall_micro,
overall_macro or tag: {precision, recall, fscore}}}}, and the word error rate without the tags and 95% bootstrap intervals
in percent. Prints a row of a Markdown table, in percent, of the combined tags:
|utterances|micro F1|micro label-F1|macro F1|WER|
"""

import argparse
import json

from espnet_ctx.files import run_main, whole_file
from espnet_ctx.scoring.ner import score_ner
from espnet_ctx.scoring.pairs import read_pairs
from espnet_ctx.scoring.slue_text import TAGS


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.score_ner --ref dev.raw.wrd --hyp dev.hyp --tags raw --json dev.json",
    )
    parser.add_argument("--ref", required=True, help="references, tagged")
    parser.add_argument("--hyp", required=True, help="what was recognised, tagged")
    parser.add_argument("--tags", required=True, choices=TAGS, help="set of tags that both files are written with")
    parser.add_argument("--json", required=True, help="the file to write")
    parser.add_argument("--kaldi", action="store_true", help="the lines are '<utterance> <text>', not paired row by row")
    return parser


def main(cmd=None) -> None:
    """Score, write and print."""
    args = get_parser().parse_args(cmd)
    scores = score_ner(*read_pairs(args.ref, args.hyp, args.kaldi), args.tags)
    with whole_file(args.json) as f:
        json.dump(scores, f, indent=2)
        f.write("\n")
    standard, label = scores["combined"]["standard"], scores["combined"]["label"]
    fractions = (standard["overall_micro"], label["overall_micro"], standard["overall_macro"])
    rates = [*(100 * score["fscore"] for score in fractions), scores["wer"]]
    print(f"|{scores['utterances']}|{'|'.join(f'{rate:.1f}' for rate in rates)}|")


if __name__ == "__main__":
    run_main(main)

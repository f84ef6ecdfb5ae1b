"""Count errors on homophones and on the other words of a set scored by score_wer.

Writes the counts as JSON and prints a row of a Markdown table:
|words|WER|homophones|homophone WER|wrong twin|WER of other words|
"""

import argparse
import json

from espnet_ctx.files import run_main, whole_file
from espnet_ctx.scoring.homophones import count_homophones, read_homophones
from espnet_ctx.scoring.sclite import align


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  dir=exp/asr_none/decode_ctc_valid.loss.ave/test\n"
        "  python -m espnet_ctx.bin.score_homophones \\\n"
        "    --ref $dir/score_wer/ref.trn --hyp $dir/score_wer/hyp.trn \\\n"
        "    --pairs local/mini_talks/homophones.txt --out $dir/score_homophones/result.json",
    )
    parser.add_argument("--ref", required=True, help="reference, trn file of words")
    parser.add_argument("--hyp", required=True, help="recognised, trn file of words")
    parser.add_argument("--pairs", required=True, help="words that sound the same, two or more a line")
    parser.add_argument("--out", required=True, help="JSON file of the counts")
    return parser


def main(cmd=None) -> None:
    """Count, write and print."""
    args = get_parser().parse_args(cmd)
    counts = count_homophones(align(args.ref, args.hyp).values(), read_homophones(args.pairs))
    with whole_file(args.out) as f:
        json.dump(counts._asdict(), f, indent=2)
        f.write("\n")
    rates = counts.homophone_wer, counts.wrong_twin_rate, counts.other_wer
    cells = (
        counts.homophones + counts.others,
        f"{counts.wer:.1f}",
        counts.homophones,
        *(f"{r:.1f}" for r in rates),
    )
    print(f"|{'|'.join(map(str, cells))}|")


if __name__ == "__main__":
    run_main(main)

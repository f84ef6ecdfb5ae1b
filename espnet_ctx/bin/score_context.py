"""Count errors on words inside and outside the context texts of a set scored by score_wer, and words copied from them.

Writes the counts as JSON and prints a row of a Markdown table:
|words in context|their WER|other words|their WER|false insertions (percent of the words)|
"""

import argparse
import json

from espnet_ctx.files import read_table, run_main, whole_file
from espnet_ctx.scoring.context_words import count_context_words
from espnet_ctx.scoring.sclite import align


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  dir=exp/asr_prev_text/decode_ctc_asr_model_valid.loss.ave/test\n"
        "  python -m espnet_ctx.bin.score_context \\\n"
        "    --ref $dir/score_wer/ref.trn --hyp $dir/score_wer/hyp.trn \\\n"
        "    --context_text dump/context/prev_text_n1_minilm_mean/test/context_text \\\n"
        "    --utt2spk dump/raw/test/utt2spk --out $dir/score_context/result.json",
    )
    parser.add_argument("--ref", required=True, help="reference, trn file of words")
    parser.add_argument("--hyp", required=True, help="recognised, trn file of words")
    parser.add_argument("--context_text", required=True, help="text that each utterance was recognised with (Kaldi table)")
    parser.add_argument("--utt2spk", required=True, help="speaker of each utterance, as score_wer had it")
    parser.add_argument("--out", required=True, help="JSON file of the counts")
    return parser


def main(cmd=None) -> None:
    """Count, write and print."""
    args = get_parser().parse_args(cmd)
    contexts = read_table(args.context_text)
    utt2spk = read_table(args.utt2spk)
    by_id = {f"{spk}-{utt}": contexts[utt] for utt, spk in utt2spk.items() if utt in contexts}  # as score_wer calls them
    counts = count_context_words(align(args.ref, args.hyp), by_id)
    with whole_file(args.out) as f:
        json.dump(counts._asdict(), f, indent=2)
        f.write("\n")
    rates = (counts.inside_wer, counts.outside_wer, counts.false_insertion_rate)
    inside, outside, copied = (f"{rate:.1f}" for rate in rates)
    print(f"|{counts.inside}|{inside}|{counts.outside}|{outside}|{copied}|")


if __name__ == "__main__":
    run_main(main)

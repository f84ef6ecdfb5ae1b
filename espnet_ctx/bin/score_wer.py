"""Score recognised texts with sclite: WER, CER and, with a sentencepiece model, TER."""

import argparse

from espnet_ctx.files import UserError, read_table, run_main
from espnet_ctx.scoring.sclite import score_texts


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.score_wer --ref dump/raw/test/text \\\n"
        "    --hyp exp/asr_none/decode_ctc_valid.loss.ave/test/text --utt2spk dump/raw/test/utt2spk \\\n"
        "    --out exp/asr_none/decode_ctc_valid.loss.ave/test",
    )
    parser.add_argument("--ref", required=True, help="reference text (Kaldi table)")
    parser.add_argument("--hyp", required=True, help="recognised text (Kaldi table)")
    parser.add_argument("--utt2spk", required=True, help="speaker of each utterance")
    parser.add_argument("--out", required=True, help="folder of the decoded set; gets score_{wer,cer,ter}/")
    parser.add_argument("--bpemodel", help="sentencepiece model: counts token errors too")
    return parser


def main(cmd=None) -> None:
    """Score and print one line per error rate."""
    args = get_parser().parse_args(cmd)
    ref, hyp = read_table(args.ref), read_table(args.hyp)
    if not ref:
        raise UserError(f"{args.ref} is empty: there is nothing to score")
    summaries = score_texts(ref, hyp, read_table(args.utt2spk), args.out, args.bpemodel)
    for score, summary in summaries.items():
        print(
            f"{score.upper()} {summary.errors:.1f}% (Sub {summary.substitutions:.1f}, "
            f"Del {summary.deletions:.1f}, Ins {summary.insertions:.1f}) of {summary.words}: "
            f"{args.out}/score_{score}/result.txt"
        )


if __name__ == "__main__":
    run_main(main)

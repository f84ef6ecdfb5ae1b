"""Estimate an n-gram of tokens from training texts with KenLM's lmplz (modified Kneser-Ney), for the CTC beam search."""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from espnet_ctx.files import UserError, read_table, run_main, whole_file
from espnet_ctx.scoring.sclite import tokenize

MEMORY = "20%"  # as ESPnet gives it; lmplz sorts on the disk what is more


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.make_ngram --text dump/raw/train/text --token_type bpe \\\n"
        "      --bpemodel data/token_list/bpe_unigram450/bpe.model --ngram_num 4 --out exp/ngram/4gram.arpa",
    )
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="Kaldi texts to learn from")
    parser.add_argument("--token_type", choices=("char", "bpe"), required=True, help="the model's")
    parser.add_argument("--bpemodel", type=Path, help="sentencepiece model, for --token_type bpe")
    parser.add_argument("--ngram_num", type=int, default=4, help="order (default: 4)")
    parser.add_argument("--out", type=Path, required=True, help="ARPA file")
    return parser


def main(cmd=None) -> None:
    """Estimate as the options say."""
    args = get_parser().parse_args(cmd)
    if not 2 <= args.ngram_num <= 6:
        raise UserError(f"--ngram_num is {args.ngram_num}: must be 2 to 6")
    if (args.token_type == "bpe") != (args.bpemodel is not None):
        raise UserError("--token_type bpe and --bpemodel go together")
    if shutil.which("lmplz") is None:
        raise UserError("'lmplz' (KenLM) is not on the PATH: utils/install_lmplz.sh builds it, and ctx.sh calls that")
    texts = [text for path in args.text for text in read_table(path).values() if text]
    if not texts:
        raise UserError(f"{' '.join(map(str, args.text))}: no words to learn from")
    bpemodel = None
    if args.bpemodel:
        from sentencepiece import SentencePieceProcessor

        bpemodel = SentencePieceProcessor(model_file=str(args.bpemodel))
    with tempfile.TemporaryDirectory() as folder, whole_file(args.out) as f:
        tokens = Path(folder) / "tokens"
        with open(tokens, "w", encoding="utf-8") as g:
            g.writelines(" ".join(tokenize(text, args.token_type, bpemodel)) + "\n" for text in texts)
        # few texts leave counts at which Kneser-Ney's discounts are not defined
        command = ["lmplz", "-o", str(args.ngram_num), "-S", MEMORY, "-T", folder, "--discount_fallback"]
        done = subprocess.run([*command, "--text", str(tokens)], stdout=f, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise UserError(f"'{' '.join(command)}' failed: {' / '.join(done.stderr.strip().splitlines()[-3:])}")


if __name__ == "__main__":
    run_main(main)

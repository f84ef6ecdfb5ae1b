"""Options that the commands which decode by CTC have in common; named as in ESPnet's asr_inference."""

import argparse
from pathlib import Path
from typing import Any

from espnet_ctx.files import UserError
from espnet_ctx.inference.speech import DTYPES


def add_recognizer_options(parser: argparse.ArgumentParser) -> None:
    """Precision and search."""
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of the encoder's arithmetic (default: float32)")
    parser.add_argument(
        "--quantize_asr_model", action="store_true", help="linear layers in 8-bit integers (CPU; default: not quantised)"
    )
    parser.add_argument("--beam_size", type=int, default=1, help="1: greedy (default); above: beam search")
    parser.add_argument("--ngram_file", type=Path, help="n-gram of the tokens (ARPA or KenLM's binary), for the beam search")
    parser.add_argument("--ngram_weight", type=float, default=0.9, help="factor of its log10 probabilities (default: 0.9)")
    parser.add_argument("--hotwords", type=Path, help="words or phrases to listen for, one a line, for the beam search")
    parser.add_argument("--hotword_weight", type=float, default=2.0, help="added for each of a hotword's tokens (default: 2.0)")


def recognizer_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `CTCRecognizer` that the options say.

    Raises:
        UserError: an n-gram or hotwords without a beam.
    """
    search = None
    if args.beam_size > 1:
        search = {"beam_size": args.beam_size, "ngram_file": args.ngram_file, "ngram_weight": args.ngram_weight}
        search.update(hotwords=_lines(args.hotwords) if args.hotwords else [], hotword_weight=args.hotword_weight)
    elif args.ngram_file or args.hotwords:
        raise UserError(f"--ngram_file and --hotwords need a beam search: --beam_size above 1, such as 20; got {args.beam_size}")
    return {"search": search, "dtype": args.dtype, "quantize": args.quantize_asr_model}


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (--hotwords)") from None

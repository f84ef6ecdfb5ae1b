"""Tag the named entities in the texts of a data directory, as the SLUE toolkit writes them for training."""

import argparse
import json
from pathlib import Path

from espnet_ctx.files import UserError, read_table, run_main, write_table
from espnet_ctx.scoring.slue_text import TAGS, tag_text


def read_spans(path: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Read `utt2ner`: `<utt> [["GPE", 3, 6], ...]`, type, first character and length in characters.

    Raises:
        UserError: a line that is not such a list.
    """
    spans = {}
    for utt, cell in read_table(path).items():
        try:
            spans[utt] = [(str(kind), int(start), int(length)) for kind, start, length in json.loads(cell)]
        except (ValueError, TypeError):
            raise UserError(f'{path}: utterance {utt} has {cell!r}; expected a list such as [["GPE", 3, 6]]') from None
    return spans


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m espnet_ctx.bin.tag_text --data_dir dump/raw/train --tags raw "
        "--out dump/raw/train/text.ner_raw",
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="has text and utt2ner")
    parser.add_argument("--tags", choices=TAGS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="Kaldi text to write")
    return parser


def main(cmd=None) -> None:
    """Tag every text."""
    args = get_parser().parse_args(cmd)
    texts, spans = read_table(args.data_dir / "text"), read_spans(args.data_dir / "utt2ner")
    if missing := sorted(texts.keys() - spans.keys()):
        raise UserError(
            f"{args.data_dir}/utt2ner lacks {len(missing)} of {len(texts)} utterances, e.g. {missing[0]} ('[]': no entity)"
        )
    tagged = {}
    for utt, text in texts.items():
        try:
            tagged[utt] = tag_text(text, spans[utt], args.tags)
        except UserError as e:
            raise UserError(f"{args.data_dir}/utt2ner: utterance {utt}: {e}") from None
    write_table(args.out, tagged)


if __name__ == "__main__":
    run_main(main)

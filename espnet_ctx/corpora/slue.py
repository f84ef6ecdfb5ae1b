"""SLUE's releases and their Hugging Face copy `asapp/slue`, read into rows of one form."""

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from espnet_ctx.corpora.tables import TSV, read_rows
from espnet_ctx.files import UserError
from espnet_ctx.scoring.slue_text import Span, tag_text

NOTHING = ("", "None", "nan", "NaN", "[]")  # cells that pandas reads, or writes, as no value


def parse_spans(cell: Any) -> list[Span]:
    """Read an NER cell into spans `(type, first character, number of characters)`, in its order.

    Args:
        cell: `[['DATE', 0, 4], ...]` as text (a TSV), lists by the names type, start and length, or a list of such
            mappings (the datasets library); no value, `None` and `[]` mean that there is no entity.

    Raises:
        UserError: anything else.
    """
    if cell is None or cell != cell or cell in NOTHING:  # only NaN is not equal to itself
        return []
    try:
        if isinstance(cell, str):
            cell = ast.literal_eval(cell)
        if isinstance(cell, Mapping):
            cell = zip(cell["type"], cell["start"], cell["length"], strict=True)
        spans = [(s["type"], s["start"], s["length"]) if isinstance(s, Mapping) else s for s in cell]
        return [(str(kind), int(start), int(length)) for kind, start, length in spans]
    except (ValueError, SyntaxError, TypeError, KeyError):
        raise UserError(f"expected entities [[type, first character, length], ...], got {cell!r}") from None


@contextmanager
def located(where: str) -> Iterator[None]:
    """Say where it was that input was bad."""
    try:
        yield
    except UserError as e:
        raise UserError(f"{where}: {e}") from None


def read_tagged(path, tags: str) -> list[str]:
    """Convert a labelled TSV of SLUE-VoxPopuli into tagged texts, a text per row.

    Raises:
        UserError: missing file or column, or a malformed row; the message says which.
    """
    texts = []
    try:
        with open(path, encoding="utf-8", newline="") as f:
            for where, (text, cell) in read_rows(f, path, ("normalized_text", "normalized_ner"), **TSV):
                with located(where):
                    texts.append(tag_text(text, parse_spans(cell), tags))
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    return texts

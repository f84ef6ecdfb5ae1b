"""Tables with a header, as corpora are released in."""

import csv
import sys
from collections.abc import Iterator
from typing import TextIO

from espnet_ctx.files import UserError

TSV = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def read_rows(f: TextIO, path, columns: tuple[str, ...], **dialect) -> Iterator[tuple[str, list[str]]]:
    """Yield where each row of a table is (`<path>, line <number>`) and its cells of the wanted columns.

    Args:
        f: the table, opened with `newline=""`.
        path: its name in messages.
        columns: names of the wanted columns.
        dialect: of the `csv` module, such as `**TSV`.

    Raises:
        UserError: a column is missing, or a row has another number of cells than the header.
    """
    csv.field_size_limit(sys.maxsize)  # VoxPopuli has long cells
    reader = csv.DictReader(f, **dialect)
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}; it has: {', '.join(reader.fieldnames or [])}"
        )
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise UserError(f"{where}: expected {len(reader.fieldnames)} cells")
        yield where, [row[column] for column in columns]


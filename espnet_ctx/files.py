"""Small file helpers: whole-or-nothing writes, Kaldi tables, errors meant for users."""

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Mapping

# the disk is full, as the system says it: no space, quota, or limit of a file's size
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(ValueError):
    """Bad input from the user; commands print it without a traceback and exit with status 1."""


@contextmanager
def whole_file(path, mode: str = "w") -> Iterator:
    """Open a file that appears under its name only when it is whole.

    Writes to a file beside `path`, flushes it to disk and renames it at the end of the block;
    if the block raises, what stood under `path` before stays and nothing else is left.

    Args:
        path: the file to write; missing parent folders are made.
        mode: "w" (UTF-8 text, the default) or "wb".

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, mode, encoding=None if "b" in mode else "utf-8") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except OSError as e:
        if e.errno not in NO_ROOM:
            raise
        raise UserError(f"no room to write {path} ({e.strerror}): what stood there is kept; make room and run again") from e
    finally:
        beside.unlink(missing_ok=True)


def read_table(path) -> dict[str, str]:
    """Read a Kaldi table, `<key> <value>` a line; the value may be empty.

    Raises:
        UserError: missing file, not UTF-8, an empty line or a key that occurs twice.
    """
    table: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                key, _, value = line.rstrip("\n").strip().partition(" ")
                if not key:
                    raise UserError(f"{path}, line {number}: empty line; expected '<key> <value>'")
                if key in table:
                    raise UserError(f"{path}, line {number}: key '{key}' occurs twice")
                table[key] = value.strip()
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text: {e}") from None
    return table


def write_table(path, table: Mapping[str, str]) -> None:
    """Write a Kaldi table whole or not at all, sorted by the bytes of its keys (LC_ALL=C)."""
    with whole_file(path) as f:
        for key in sorted(table, key=str.encode):
            f.write(f"{key} {table[key]}".rstrip() + "\n")


def run_main(main: Callable[[], object]) -> None:
    """Run a command's `main`; a `UserError` becomes one line on stderr and exit status 1."""
    try:
        main()
    except UserError as e:
        print(f"{Path(sys.argv[0]).name}: error: {e}", file=sys.stderr)
        sys.exit(1)

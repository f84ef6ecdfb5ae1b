"""`context.json`: what made the files beside it. A second run keeps what is whole and redoes what is stale.

It has a section per step, `generation` (of context_text) and `embedding` (of context.scp). Each holds
`options`, all that decides the result (compared), and `made_with`, versions and device (recorded only). A
section is written after the step's files: where it stands and matches, they are whole.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from espnet_ctx.files import whole_file

NAME = "context.json"


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Hash of the files' names and contents, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0")
        with open(path, "rb") as f:
            digest.update(hashlib.file_digest(f, "sha256").digest())
    return digest.hexdigest()


def sha256_of(value: Any) -> str:
    """Hash of a value of JSON's types; the order of a mapping's keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def sha256_of_table(lines: Iterable[tuple[str, str]]) -> str:
    """Hash of keys and values in their order, taken one by one: a table may be long."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{json.dumps(line)}\n".encode())
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions; packages that are not installed (run from a checkout) are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_section(folder: Path, section: str) -> dict[str, Any]:
    """A section of `folder`'s context.json; empty when there is none or the file is no JSON."""
    return _read(folder).get(section, {})


def write_section(folder: Path, section: str, content: Mapping[str, Any] | None) -> None:
    """Put a section in its place, or take it away (None); the other section stays."""
    tree = {**_read(folder), section: content}
    with whole_file(folder / NAME) as f:
        json.dump({k: v for k, v in tree.items() if v}, f, indent=2, ensure_ascii=False)
        f.write("\n")


def _read(folder: Path) -> dict[str, Any]:
    try:
        tree = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}

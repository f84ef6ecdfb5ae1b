"""The context archive: context.scp and its ark, a matrix (L, d) per utterance (ESPnet: `kaldi_ark`)."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import kaldiio
import numpy as np

from espnet_ctx.context.provenance import read_section, write_section
from espnet_ctx.files import UserError, read_table, whole_file, write_table

SECTION = "embedding"
DTYPES = ("float32", "float16")


def is_made(out: Path, options: Mapping[str, Any]) -> bool:
    """Whether `out` holds a whole archive that was made with these options."""
    section = read_section(out, SECTION)
    ark = out / "context.1.ark"
    return (
        section.get("options") == options
        and all((out / name).is_file() for name in ("context.scp", "context_dim"))
        and ark.is_file()
        and ark.stat().st_size == section.get("ark_bytes")
    )


def write_archive(
    out: Path,
    texts: Mapping[str, str],
    embeddings: Iterable[tuple[str, np.ndarray]],
    dim: int,
    dtype: str,
    options: Mapping[str, Any],
    made_with: Mapping[str, str],
) -> None:
    """Write an archive whole or not at all: ark, context.scp, context_dim, then its section of context.json.

    Utterances with the same text share their rows; the rows of an empty text, the absent context, are one of
    zeros.

    Args:
        out: the folder.
        texts: utterance -> text.
        embeddings: each text that occurs, but the empty one, with its matrix (L, dim).
        dim: width d of the matrices.
        dtype: `float32` or `float16`, how they are stored.
        options: all that decides the result, for `is_made`.
        made_with: versions and device, recorded only.
    """
    write_section(out, SECTION, None)
    ark = out / "context.1.ark"
    with whole_file(ark, "wb") as f:
        where = {"": _append(f, "0", np.zeros((1, dim), dtype))}
        for number, (text, matrix) in enumerate(embeddings, 1):
            where[text] = _append(f, str(number), matrix.astype(dtype))
    write_table(out / "context.scp", {utt: f"{ark}:{where[text]}" for utt, text in texts.items()})
    with whole_file(out / "context_dim") as f:
        f.write(f"{dim}\n")
    section = {
        "options": options,
        "context_dim": dim,
        "ark_bytes": ark.stat().st_size,
        "made_with": made_with,
    }
    write_section(out, SECTION, section)


def _append(f: BinaryIO, key: str, matrix: np.ndarray) -> int:
    """Write one matrix; returns its place in the file, in bytes."""
    place = f.tell() + len(key) + 1
    # Kaldi's own matrices know no half precision: kaldiio writes those in numpy's format
    kaldiio.save_ark(f, {key: matrix}, write_function="numpy" if matrix.dtype == np.float16 else None)
    return place


class ContextArchive(Mapping[str, np.ndarray]):
    """Utterance -> context (L, dim) float32, read when asked for.

    Args:
        scp: context.scp; context_dim must stand beside it.
        dim: the width that the model expects (None: any).

    Raises:
        UserError: a missing file, or another width than expected.
    """

    def __init__(self, scp, dim: int | None = None):
        scp = Path(scp)
        dim_file = scp.with_name("context_dim")
        if not scp.is_file():
            raise UserError(f"no such file: {scp}; embed_context makes it (stage 7)")
        [self.dim] = map(int, read_table(dim_file))
        if dim is not None and dim != self.dim:
            raise UserError(
                f"{scp} holds contexts of width {self.dim} ({dim_file}) and the model takes {dim}: use the "
                "archive of the text encoder that the model was trained with, or train with "
                f"--encoder_conf context_dim={self.dim}"
            )
        self._matrices = kaldiio.load_scp(str(scp))

    def __getitem__(self, utt: str) -> np.ndarray:
        return self._matrices[utt].astype(np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._matrices)

    def __len__(self) -> int:
        return len(self._matrices)

"""The context archive: context.scp and its ark, a matrix (L, d) per utterance (ESPnet: `kaldi_ark`)."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import kaldiio
import numpy as np

from espnet_ctx.context.provenance import read_section, write_section
from espnet_ctx.context.segments import concatenate, split_segments
from espnet_ctx.files import UserError, read_table, whole_file, write_table

SECTION = "embedding"
DTYPES = ("float32", "float16", "int8")
ONE_BYTE = 5  # Kaldi's kOneByteAuto: 256 steps between a matrix's smallest and largest value; readers give float32


Embeddings = Iterator[tuple[str, np.ndarray]]


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
        dtype: one of `DTYPES`, how they are stored.
        options: all that decides the result, for `is_made`.
        made_with: versions and device, recorded only.
    """
    write_section(out, SECTION, None)
    ark = out / "context.1.ark"
    for left in out.glob(f".{ark.name}.*.part"):  # by a run that was killed
        left.unlink(missing_ok=True)
    with whole_file(ark, "wb") as f:
        where = {"": _append(f, "0", np.zeros((1, dim), np.float32), "float32")}
        for number, (text, matrix) in enumerate(embeddings, 1):
            where[text] = _append(f, str(number), matrix, dtype)
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


def embed_segments(texts: Iterable[str], encode: Callable[[list[str]], Iterable[tuple[str, np.ndarray]]]) -> Embeddings:
    """Embed texts of one or several segments, each different segment once.

    Args:
        texts: what to embed, each once, none empty (see `segments`).
        encode: embeds different texts, in any order.

    Yields:
        A text and its embedding (L, d).
    """
    several, alone = [], []
    for text in texts:
        (alone if split_segments(text) == [text] else several).append(text)
    if not several:
        yield from encode(alone)
        return
    wanted = dict.fromkeys(alone)
    unique = sorted({segment for text in several for segment in split_segments(text)} | set(wanted))
    # on the disk meanwhile: what is written last may need what was embedded first
    with tempfile.NamedTemporaryFile(suffix=".ark") as f:
        where = {}
        for number, (segment, matrix) in enumerate(encode(unique)):
            where[segment] = _append(f, str(number), matrix, "float32")
            if segment in wanted:
                yield segment, matrix
        f.flush()
        for text in several:
            yield text, concatenate(kaldiio.load_mat(f"{f.name}:{where[segment]}") for segment in split_segments(text))


def _append(f: BinaryIO, key: str, matrix: np.ndarray, dtype: str) -> int:
    """Write one matrix; returns its place in the file, in bytes."""
    place = f.tell() + len(key) + 1
    if dtype == "int8":
        kaldiio.save_ark(f, {key: matrix.astype(np.float32)}, compression_method=ONE_BYTE)
    else:
        # Kaldi's own matrices know no half precision: kaldiio writes those in numpy's format
        write_function = "numpy" if dtype == "float16" else None
        kaldiio.save_ark(f, {key: matrix.astype(dtype)}, write_function=write_function)
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

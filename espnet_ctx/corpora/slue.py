"""SLUE's releases and their Hugging Face copy `asapp/slue`, read into rows of one form."""

import argparse
import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from espnet_ctx.corpora.download import fetch_archive
from espnet_ctx.corpora.tables import TSV, read_rows
from espnet_ctx.files import UserError, whole_file
from espnet_ctx.scoring.slue_text import Span, tag_text

NOTHING = ("", "None", "nan", "NaN", "[]")  # cells that pandas reads, or writes, as no value
SUFFIXES = {"voxpopuli": ".ogg", "voxceleb": ".flac"}
TSVS = {"train": ("fine-tune",), "valid": ("dev",), "test": ("test", "test_blind")}
FOLDERS = {
    "voxpopuli": {"train": "fine-tune", "valid": "dev", "test": "test"},
    "voxceleb": {"train": "fine-tune_raw", "valid": "dev_raw", "test": "test_raw"},
}
URL = "https://public-dataset-model-store.awsdev.asapp.com/users/sshon/public/slue/slue-{corpus}_v0.2_blind.zip"
DOWNLOADS = Path("downloads")
HF_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


class Row(NamedTuple):
    """An utterance.

    Attributes:
        where: the row's name in messages.
        id: as released.
        cells: the other wanted columns; a column that a blind test lacks is None.
        recording: its file.
    """

    where: str
    id: str
    cells: dict[str, Any]
    recording: Path


@dataclass(frozen=True)
class OfficialRelease:
    """The folder that the official archive unpacks.

    Attributes:
        corpus: "voxpopuli" or "voxceleb".
        folder: that of `slue-<corpus>_fine-tune.tsv`.
    """

    corpus: str
    folder: Path

    def tsv(self, dataset: str) -> Path:
        """Find the TSV of a set, a labelled test before the blind one."""
        paths = [self.folder / f"slue-{self.corpus}_{name}.tsv" for name in TSVS[dataset]]
        for path in paths:
            if path.exists():
                return path
        raise UserError(f"no {' or '.join(map(str, paths))}: is --slue_dir the folder of the unpacked release?")

    def rows(self, dataset: str, columns: tuple[str, ...], labels: tuple[str, ...]) -> Iterator[Row]:
        """Read a set.

        Args:
            dataset: "train", "valid" or "test".
            columns: that every set has.
            labels: columns that the test set may lack: it is blind.

        Raises:
            UserError: a file or column is missing, or a row malformed.
        """
        path = self.tsv(dataset)
        with open(path, encoding="utf-8", newline="") as f:
            names = f.readline().rstrip("\r\n").split("\t")
            f.seek(0)
            present = (*columns, *(label for label in labels if dataset != "test" or label in names))
            for where, (name, *cells) in read_rows(f, path, ("id", *present), **TSV):
                recording = self.folder / FOLDERS[self.corpus][dataset] / f"{name}{SUFFIXES[self.corpus]}"
                yield Row(where, name, {**dict.fromkeys(labels), **dict(zip(present, cells, strict=True))}, recording)

    def source(self, dataset: str) -> str:
        """Name a set in messages."""
        return str(self.tsv(dataset))


@dataclass(frozen=True)
class HfCopy:
    """The Hugging Face copy, read with the datasets library; recordings are written to files as they arrive.

    Attributes:
        corpus: "voxpopuli" or "voxceleb": its configuration.
        name: the hub's `asapp/slue`, a folder with the same files, or a `DatasetDict` saved with `save_to_disk`.
        audio_dir: where the recordings go, `<audio_dir>/<set>/<id>.<ogg or flac>`.
        revision: branch, tag or commit of the hub's.
    """

    corpus: str
    name: str
    audio_dir: Path
    revision: str | None = None

    def rows(self, dataset: str, columns: tuple[str, ...], labels: tuple[str, ...]) -> Iterator[Row]:
        """Read a set, streaming; see `OfficialRelease.rows`."""
        datasets = _import_datasets()
        with self._reading(dataset):
            examples = self._load(datasets, HF_SPLITS[dataset])
            known = examples.column_names or []
            if missing := [column for column in ("id", "audio", *columns) if column not in known]:
                raise UserError(f"{self.source(dataset)} has no column {', '.join(missing)}; it has: {', '.join(known)}")
            for number, example in enumerate(examples.cast_column("audio", datasets.Audio(decode=False))):
                name = str(example["id"])
                recording = self.audio_dir / dataset / f"{name}{SUFFIXES[self.corpus]}"
                cells = {column: example.get(column) for column in (*columns, *labels)}
                yield Row(f"{self.source(dataset)}, row {number}", name, cells, _write_audio(example["audio"], recording))

    def _load(self, datasets, split: str):
        if (Path(self.name) / "dataset_dict.json").exists():
            return datasets.load_from_disk(self.name)[split]
        return datasets.load_dataset(self.name, self.corpus, split=split, streaming=True, revision=self.revision)

    @contextmanager
    def _reading(self, dataset: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as e:  # the library lets through whatever its transports raise
            raise UserError(
                f"could not read {self.source(dataset)}: {type(e).__name__}: {e}. Run the same command again, or give a copy "
                "that you have with --hf_copy <folder> or --slue_dir <folder>"
            ) from e

    def source(self, dataset: str) -> str:
        """Name a set in messages."""
        return f"{self.name} ({self.corpus}, {HF_SPLITS[dataset]})"


def _import_datasets():
    try:
        import datasets
    except ImportError:
        raise UserError("--hf_copy needs the package datasets: pip install 'espnet_ctx[datasets]'") from None
    return datasets


def _write_audio(audio: Mapping[str, Any], path: Path) -> Path:
    """Write a recording's file unless it is there; one that the copy keeps as a file stays where it is."""
    if audio.get("bytes") is None:
        return Path(audio["path"])
    if not path.exists() or path.stat().st_size != len(audio["bytes"]):
        with whole_file(path, "wb") as f:
            f.write(audio["bytes"])
    return path


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


def parse_text(cell: Any) -> str:
    """Read a text cell; no value is an empty text."""
    return "" if cell is None or cell != cell else str(cell)


def parse_speaker(cell: Any) -> str | None:
    """Read a speaker cell; None: unknown."""
    return None if parse_text(cell) in NOTHING else str(cell)


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


def add_release_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a release is, to be read by `release_from`."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--slue_dir", type=Path, help="folder of the unpacked official release (default: it is downloaded)")
    source.add_argument("--hf_copy", help="the Hugging Face copy: asapp/slue, or a folder of it")
    parser.add_argument("--hf_revision", help="branch, tag or commit of the hub's copy (default: the newest)")
    parser.add_argument("--url", default=URL, help="of the official release, {corpus} for its name (default: %(default)s)")
    parser.add_argument("--checksum", help="of the archive: sha256:<hex> or md5:<hex> (default: none is published)")
    parser.add_argument("--datadir", type=Path, default=Path("data"), help="where to write (default: data)")


def release_from(corpus: str, args: argparse.Namespace) -> OfficialRelease | HfCopy:
    """Make the release that the options name, downloading the official one where none is named."""
    if args.hf_copy is not None:
        return HfCopy(corpus, args.hf_copy, DOWNLOADS / f"slue-{corpus}-audio", args.hf_revision)
    folder = args.slue_dir
    if folder is None:
        folder = DOWNLOADS / f"slue-{corpus}"
        instead = "--local_data_opts '--slue_dir <folder>'"
        fetch_archive(args.url.format(corpus=corpus), [folder.name], DOWNLOADS, instead, args.checksum)
    return OfficialRelease(corpus, folder)

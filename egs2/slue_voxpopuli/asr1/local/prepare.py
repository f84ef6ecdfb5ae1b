#!/usr/bin/env python3
"""SLUE-VoxPopuli's release -> Kaldi data directories with utt2prev.

train, valid and test are the release's fine-tune, dev and test (blind: only its entities are withheld, the
texts are there). An utterance `<agenda item>-en_<turn's time>_<n>` was preceded by number n - 1 of its turn.
It is known where the same split has it; with VoxPopuli's own asr_en.tsv, also where no split of SLUE has it.
Context never comes from another split: the splits share agenda items.

Example:
    local/prepare.py --slue_dir downloads/slue-voxpopuli --datadir data
"""

import argparse
import csv
import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from espnet_ctx.data_dir import write_data_dir
from espnet_ctx.files import UserError, run_main

FOLDERS = {"train": "fine-tune", "valid": "dev", "test": "test"}  # of the recordings
TSVS = {"train": ("fine-tune",), "valid": ("dev",), "test": ("test", "test_blind")}
COLUMNS = ("id", "normalized_text", "speaker_id")
ASR_EN_COLUMNS = ("session_id", "id_", "normed_text")
NAME = re.compile(r"(?P<turn>(?P<item>.+)-en_\d{8}-\d\d:\d\d:\d\d)_(?P<number>\d+)")
PUNCTUATION = str.maketrans("", "", ".;?!")

Position = tuple[str, int]  # turn, number in the turn


class Utterance(NamedTuple):
    """A row of the release."""

    name: str
    speaker: str
    text: str

    @property
    def id(self) -> str:
        """Utterance id, speaker first as Kaldi sorts."""
        return f"{self.speaker}-{self.name}"


def normalize(text: str) -> str:
    """Lower case without sentence punctuation, as SLUE scores ASR; apostrophes stay."""
    return " ".join(text.lower().translate(PUNCTUATION).split())


def parse_name(name: str, where: str) -> tuple[str, Position]:
    """Split a name into agenda item and position."""
    match = NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{where}: id '{name}' is not '<agenda item>-en_<date>-<hh:mm:ss>_<number>'")
    return match["item"], (match["turn"], int(match["number"]))


def read_rows(f, path, columns: tuple[str, ...], **dialect) -> Iterator[tuple[str, list[str]]]:
    """Yield the wanted cells of each row of a table with a header, and where the row is."""
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


def read_split(path: Path) -> dict[Position, Utterance]:
    """Read a TSV of the release; an unknown speaker is named after the agenda item."""
    utterances: dict[Position, Utterance] = {}
    with open(path, encoding="utf-8", newline="") as f:
        for where, (name, text, speaker) in read_rows(
            f, path, COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE
        ):
            item, position = parse_name(name, where)
            if position in utterances:
                raise UserError(f"{where}: id '{name}' occurs twice")
            if speaker in ("", "None"):
                # sorts like the ids that begin with it: '-' comes before '_' and the digits
                speaker = item.replace("-", "_")
            utterances[position] = Utterance(name, speaker, normalize(text))
    return utterances


def read_asr_en(path: Path) -> dict[Position, tuple[str, str]]:
    """Read name and text of every utterance of VoxPopuli's English transcripts."""
    csv.field_size_limit(sys.maxsize)  # its column of voice activity is long
    texts = {}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as f:
            for _, (session, name, text) in read_rows(f, path, ASR_EN_COLUMNS, delimiter="|"):
                match = NAME.fullmatch(f"{session}-{name}")
                if match:
                    texts[match["turn"], int(match["number"])] = match[0], normalize(text)
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (option --asr_en_tsv)") from None
    return texts


def find_tsv(slue_dir: Path, split: str) -> Path:
    """Find a split's TSV."""
    paths = [slue_dir / f"slue-voxpopuli_{name}.tsv" for name in TSVS[split]]
    for path in paths:
        if path.exists():
            return path
    raise UserError(f"no {' or '.join(map(str, paths))}: is --slue_dir the folder of the unpacked release?")


def split_tables(
    split: dict[Position, Utterance], outside: dict[Position, tuple[str, str]], audio: Path
) -> dict[str, dict[str, str]]:
    """Make the tables of a data directory.

    Args:
        split: the split's utterances; those without a text stay in histories only.
        outside: name and text of utterances that are in no split.
        audio: folder of the recordings.
    """
    before = {position: (utterance.name, "") for position, utterance in split.items() if not utterance.text}
    before.update(outside)
    spoken = {position: utterance for position, utterance in split.items() if utterance.text}
    tables = {name: {} for name in ("wav.scp", "text", "utt2spk", "utt2prev", "prev_text")}

    def previous_id(position: Position) -> str:
        position = (position[0], position[1] - 1)
        return spoken[position].id if position in spoken else before.get(position, "-")[0]

    for position, utterance in spoken.items():
        recording = audio / f"{utterance.name}.ogg"
        if not recording.exists():
            raise UserError(f"{recording} is missing: the release in --slue_dir is not whole")
        tables["wav.scp"][utterance.id] = str(recording)
        tables["text"][utterance.id] = utterance.text
        tables["utt2spk"][utterance.id] = utterance.speaker
        tables["utt2prev"][utterance.id] = previous_id(position)
        turn, number = position
        while (turn, number := number - 1) in before:
            name, text = before[turn, number]
            tables["prev_text"][name] = text
            tables["utt2prev"][name] = previous_id((turn, number))
    return tables


def prepare(slue_dir: Path, datadir: Path, asr_en_tsv: Path | None = None) -> None:
    """Write `datadir/{train,valid,test}`.

    Raises:
        UserError: a file is missing or malformed, a split has no texts.
    """
    splits = {split: read_split(find_tsv(slue_dir, split)) for split in FOLDERS}
    outside = read_asr_en(asr_en_tsv) if asr_en_tsv else {}
    for split in splits.values():
        for position in split:
            outside.pop(position, None)
    for split, utterances in splits.items():
        tables = split_tables(utterances, outside, slue_dir / FOLDERS[split])
        if not tables["text"]:
            raise UserError(f"{find_tsv(slue_dir, split)} has no texts (column normalized_text)")
        write_data_dir(datadir / split, tables)
        followed = sum(tables["utt2prev"][utt] != "-" for utt in tables["text"])
        print(f"{datadir / split}: {len(tables['text'])} utterances, {followed} with their predecessor")


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slue_dir", type=Path, required=True, help="folder of the unpacked release")
    parser.add_argument("--asr_en_tsv", type=Path, help="VoxPopuli's asr_en.tsv or asr_en.tsv.gz")
    parser.add_argument("--datadir", type=Path, default=Path("data"), help="where to write (default: data)")
    return parser


def main(cmd=None) -> None:
    """Prepare the data."""
    args = get_parser().parse_args(cmd)
    prepare(args.slue_dir, args.datadir, args.asr_en_tsv)


if __name__ == "__main__":
    run_main(main)

#!/usr/bin/env python3
"""SLUE-VoxCeleb's release -> Kaldi data directories with utt2prev and utt2sentiment.

train, valid and test are the release's fine-tune, dev and test. Utterances of other labels than Negative, Neutral and
Positive (<mixed>, Disagreement) are in no set, as in SLUE; their texts stay in prev_text. An utterance
`<speaker>_<video>_<number>` was preceded by the next lower number of its video in the same set: context never comes from
another set. The blind test has neither labels nor texts: no utt2sentiment, empty texts.

Example:
    local/prepare.py --slue_dir downloads/slue-voxceleb --datadir data
"""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import soundfile

from espnet_ctx.corpora.histories import link
from espnet_ctx.corpora.slue import (
    HfCopy,
    OfficialRelease,
    add_release_options,
    located,
    parse_speaker,
    parse_text,
    release_from,
)
from espnet_ctx.data_dir import Tables, write_data_dir
from espnet_ctx.files import UserError, run_main
from espnet_ctx.scoring.sentiment import is_scored

SETS = ("train", "valid", "test")
COLUMNS = ("speaker_id", "start_second", "end_second")
LABELS = ("normalized_text", "sentiment")
SAME = 0.05  # seconds by which lengths may differ


class Utterance(NamedTuple):
    """A row of the release; the recording is to be cut to [start, end], in seconds."""

    name: str
    speaker: str
    text: str
    label: str
    recording: Path
    start: float
    end: float

    @property
    def position(self) -> tuple[str, int]:
        """Speaker and video, and the number in it: the order of speech."""
        video, _, number = self.name.rpartition("_")
        return video, int(number)

    @property
    def id(self) -> str:
        """Utterance id, speaker first as Kaldi sorts."""
        return self.name if self.name.startswith(self.speaker) else f"{self.speaker}-{self.name}"


def read_split(release: OfficialRelease | HfCopy, dataset: str) -> dict[str, Utterance]:
    """Read a set of the release by name."""
    utterances: dict[str, Utterance] = {}
    for where, name, cells, recording in release.rows(dataset, COLUMNS, LABELS):
        with located(where):
            if name.count("_") < 2 or not name.rpartition("_")[2].isdigit():
                raise UserError(f"id '{name}' is not '<speaker>_<video>_<number>'")
            if name in utterances:
                raise UserError(f"id '{name}' occurs twice")
            try:
                start, end = float(cells["start_second"]), float(cells["end_second"])
            except (TypeError, ValueError):
                raise UserError(
                    f"start_second and end_second must be seconds, got {cells['start_second']!r}, {cells['end_second']!r}"
                ) from None
            if not 0 <= start < end:
                raise UserError(f"start_second must be below end_second, got {start} and {end}")
        speaker = parse_speaker(cells["speaker_id"]) or name.partition("_")[0]
        text, label = (" ".join(parse_text(cells[column]).split()) for column in LABELS)
        utterances[name] = Utterance(name, speaker, text, label, recording, start, end)
    return utterances


def segment(utterance: Utterance) -> str:
    """Make the line of `segments`; a recording that has been cut already is taken whole."""
    try:
        seconds = soundfile.info(str(utterance.recording)).duration
    except (OSError, soundfile.LibsndfileError):
        raise UserError(
            f"{utterance.recording} is missing or no recording: the release in --slue_dir is not whole"
        ) from None
    start, end = utterance.start, utterance.end
    if end > seconds + SAME:
        if abs(seconds - (end - start)) > SAME:
            raise UserError(f"{utterance.recording} lasts {seconds:.2f} s, and {start} to {end} s are wanted of it")
        start, end = 0.0, seconds
    return f"{utterance.id} {start} {end}"


def split_tables(split: dict[str, Utterance]) -> Tables:
    """Make the tables of a data directory."""
    blind = not any(utterance.label for utterance in split.values())
    kept = {name: utterance for name, utterance in split.items() if blind or is_scored(utterance.label)}
    outside = {name: utterance.text for name, utterance in split.items() if name not in kept}
    before = {}
    for one, other in pairwise(sorted(split.values(), key=lambda utterance: utterance.position)):
        if one.position[0] == other.position[0]:
            before[other.name] = one.name
    tables = link({name: utterance.id for name, utterance in kept.items()}, outside, lambda name: before.get(name, "-"))
    utterances = kept.values()
    tables["wav.scp"] = {utterance.id: str(utterance.recording) for utterance in utterances}
    tables["segments"] = {utterance.id: segment(utterance) for utterance in utterances}
    tables["text"] = {utterance.id: utterance.text for utterance in utterances}
    tables["utt2spk"] = {utterance.id: utterance.speaker for utterance in utterances}
    if not blind:
        tables["utt2sentiment"] = {utterance.id: utterance.label for utterance in utterances}
    return tables


def prepare(release: OfficialRelease | HfCopy, datadir: Path) -> None:
    """Write `datadir/{train,valid,test}`.

    Raises:
        UserError: a file is missing or malformed, or a set to learn from has no labels.
    """
    for dataset, split in {dataset: read_split(release, dataset) for dataset in SETS}.items():
        tables = split_tables(split)
        if not tables["text"] or (dataset != "test" and "utt2sentiment" not in tables):
            raise UserError(f"{release.source(dataset)} has no labels (column sentiment)")
        write_data_dir(datadir / dataset, tables)
        followed = sum(tables["utt2prev"][utt] != "-" for utt in tables["text"])
        print(
            f"{datadir / dataset}: {len(tables['text'])} utterances of {len(split)}, {followed} with their predecessor"
        )


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_release_options(parser)
    return parser


def main(cmd=None) -> None:
    """Prepare the data."""
    args = get_parser().parse_args(cmd)
    prepare(release_from("voxceleb", args), args.datadir)


if __name__ == "__main__":
    run_main(main)

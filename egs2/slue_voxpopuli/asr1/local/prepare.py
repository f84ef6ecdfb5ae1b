#!/usr/bin/env python3
"""SLUE-VoxPopuli's release -> Kaldi data directories with utt2prev, for ASR or for named entities.

train, valid and test are the release's fine-tune, dev and test (blind: only its entities are withheld, the
texts are there). An utterance `<agenda item>-en_<turn's time>_<n>` was preceded by number n - 1 of its turn.
It is known where the same split has it; with VoxPopuli's own asr_en.tsv, also where no split of SLUE has it.
Context never comes from another split: the splits share agenda items.

With --task slu the texts are the release's, and `utt2ner` has the entities as JSON: [[type, first character, length], ...]
of `text`, sorted. A set without any entity, which is a blind one, has no utt2ner.

Example:
    local/prepare.py --slue_dir downloads/slue-voxpopuli --datadir data
"""

import argparse
import csv
import gzip
import json
import re
from pathlib import Path
from typing import NamedTuple

from espnet_ctx.corpora.histories import link
from espnet_ctx.corpora.slue import (
    HfCopy,
    OfficialRelease,
    add_release_options,
    located,
    parse_spans,
    parse_speaker,
    parse_text,
    release_from,
)
from espnet_ctx.corpora.tables import read_rows
from espnet_ctx.data_dir import Tables, write_data_dir
from espnet_ctx.files import UserError, run_main
from espnet_ctx.scoring.slue_text import Span, check_spans

SETS = ("train", "valid", "test")
COLUMNS = ("normalized_text", "speaker_id")
LABELS = ("normalized_ner",)
ASR_EN_COLUMNS = ("session_id", "id_", "normed_text")
NAME = re.compile(r"(?P<turn>(?P<item>.+)-en_\d{8}-\d\d:\d\d:\d\d)_(?P<number>\d+)")
PUNCTUATION = str.maketrans("", "", ".;?!")


class Utterance(NamedTuple):
    """A row of the release; `spans` are of `text`, which is as released."""

    name: str
    speaker: str
    text: str
    spans: list[Span]
    recording: Path

    @property
    def id(self) -> str:
        """Utterance id, speaker first as Kaldi sorts."""
        return f"{self.speaker}-{self.name}"


def normalize(text: str) -> str:
    """Lower case without sentence punctuation, as SLUE scores ASR; apostrophes stay."""
    return " ".join(text.lower().translate(PUNCTUATION).split())


def parse_name(name: str) -> re.Match:
    """Split a name into agenda item, turn and number in the turn."""
    match = NAME.fullmatch(name)
    if match is None:
        raise UserError(f"id '{name}' is not '<agenda item>-en_<date>-<hh:mm:ss>_<number>'")
    return match


def previous(name: str) -> str:
    """The name of what was said before in the turn."""
    turn, _, number = name.rpartition("_")
    return f"{turn}_{int(number) - 1}"


def read_split(release: OfficialRelease | HfCopy, dataset: str) -> dict[str, Utterance]:
    """Read a set of the release by name; an unknown speaker is named after the agenda item."""
    utterances: dict[str, Utterance] = {}
    for where, name, cells, recording in release.rows(dataset, COLUMNS, LABELS):
        with located(where):
            match = parse_name(name)
            name = f"{match['turn']}_{int(match['number'])}"
            if name in utterances:
                raise UserError(f"id '{name}' occurs twice")
            text = parse_text(cells["normalized_text"])
            spans = parse_spans(cells["normalized_ner"])
            check_spans(text, spans)
        # sorts like the ids that begin with it: '-' comes before '_' and the digits
        speaker = parse_speaker(cells["speaker_id"]) or match["item"].replace("-", "_")
        indent = len(text) - len(text.lstrip())  # tables hold no spaces around a text
        spans = sorted(((kind, start - indent, length) for kind, start, length in spans), key=lambda span: span[1])
        utterances[name] = Utterance(name, speaker, text.strip(), spans, recording)
    return utterances


def read_asr_en(path: Path) -> dict[str, str]:
    """Read the text of every utterance of VoxPopuli's English transcripts by name."""
    texts = {}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as f:
            for _, (session, name, text) in read_rows(f, path, ASR_EN_COLUMNS, delimiter="|", quoting=csv.QUOTE_MINIMAL):
                match = NAME.fullmatch(f"{session}-{name}")
                if match:
                    texts[f"{match['turn']}_{int(match['number'])}"] = normalize(text)
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (option --asr_en_tsv)") from None
    return texts


def split_tables(split: dict[str, Utterance], outside: dict[str, str], task: str) -> Tables:
    """Make the tables of a data directory.

    Args:
        split: the set's utterances; those without a text stay in histories only.
        outside: texts of names that are in no set.
        task: "asr" or "slu".
    """
    spoken = {name: utterance for name, utterance in split.items() if normalize(utterance.text)}
    outside = {**dict.fromkeys(split.keys() - spoken.keys(), ""), **outside}
    tables = link({name: utterance.id for name, utterance in spoken.items()}, outside, previous)
    tables |= {name: {} for name in ("wav.scp", "text", "utt2spk")}
    for utterance in spoken.values():
        if not utterance.recording.exists():
            raise UserError(f"{utterance.recording} is missing: the release in --slue_dir is not whole")
        tables["wav.scp"][utterance.id] = str(utterance.recording)
        tables["text"][utterance.id] = utterance.text if task == "slu" else normalize(utterance.text)
        tables["utt2spk"][utterance.id] = utterance.speaker
    if task == "slu" and any(utterance.spans for utterance in spoken.values()):
        tables["utt2ner"] = {utterance.id: json.dumps(utterance.spans) for utterance in spoken.values()}
    return tables


def prepare(
    release: OfficialRelease | HfCopy, datadir: Path, asr_en_tsv: Path | None = None, task: str = "asr"
) -> None:
    """Write `datadir/{train,valid,test}`.

    Raises:
        UserError: a file is missing or malformed, a set has no texts, or one to learn from has no entities.
    """
    splits = {dataset: read_split(release, dataset) for dataset in SETS}
    outside = read_asr_en(asr_en_tsv) if asr_en_tsv else {}
    for split in splits.values():
        for name in split:
            outside.pop(name, None)
    for dataset, split in splits.items():
        tables = split_tables(split, outside, task)
        if not tables["text"]:
            raise UserError(f"{release.source(dataset)} has no texts (column normalized_text)")
        if task == "slu" and dataset != "test" and "utt2ner" not in tables:
            raise UserError(f"{release.source(dataset)} has no entities (column normalized_ner)")
        write_data_dir(datadir / dataset, tables)
        followed = sum(tables["utt2prev"][utt] != "-" for utt in tables["text"])
        print(f"{datadir / dataset}: {len(tables['text'])} utterances, {followed} with their predecessor")


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_release_options(parser)
    parser.add_argument("--asr_en_tsv", type=Path, help="VoxPopuli's asr_en.tsv or asr_en.tsv.gz")
    parser.add_argument("--task", choices=["asr", "slu"], default="asr", help="what the sets are for (default: asr)")
    return parser


def main(cmd=None) -> None:
    """Prepare the data."""
    args = get_parser().parse_args(cmd)
    prepare(release_from("voxpopuli", args), args.datadir, args.asr_en_tsv, args.task)


if __name__ == "__main__":
    run_main(main)

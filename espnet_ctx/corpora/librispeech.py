"""Chapters of LibriSpeech, and of what is made from it."""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_ctx.data_dir import Tables
from espnet_ctx.files import UserError, read_table

AUDIO = (".flac", ".mp3", ".ogg", ".wav")
NAME = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-(?P<number>\d{4})")


def chapters(folder: Path) -> Iterator[Path]:
    """The folders `<speaker>/<chapter>` of a part, in the order of their names."""
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from sorted(path for path in speaker.iterdir() if path.is_dir())


def read_transcripts(chapter: Path) -> dict[str, str]:
    """Read `<speaker>-<chapter>.trans.txt` of a chapter's folder, in lower case.

    Raises:
        UserError: there is none, or an id is not of this chapter.
    """
    path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    texts = {utt: words.lower() for utt, words in read_table(path).items()}
    for utt in texts:
        match = NAME.fullmatch(utt)
        if match is None or (match["speaker"], match["chapter"]) != (chapter.parent.name, chapter.name):
            raise UserError(f"{path}: '{utt}' is not '{chapter.parent.name}-{chapter.name}-<four digits>'")
    return texts


def find_recordings(chapter: Path) -> dict[str, str]:
    """Find the recordings in a chapter's folder: `{utterance: file}`."""
    return {path.stem: str(path) for path in sorted(chapter.iterdir()) if path.suffix in AUDIO}


def previous(utt: str) -> str:
    """The utterance before, in the chapter."""
    stem, _, number = utt.rpartition("-")
    return f"{stem}-{int(number) - 1:04d}"


def speaker(utt: str) -> str:
    """The speaker of an utterance."""
    return utt.partition("-")[0]


def read_chapter(chapter: Path) -> Tables:
    """Make the tables of a whole chapter.

    Raises:
        UserError: no transcripts, a malformed id, or a recording that is missing.
    """
    texts, recordings = read_transcripts(chapter), find_recordings(chapter)
    if missing := sorted(texts.keys() - recordings.keys()):
        raise UserError(f"{chapter} has no recording of '{missing[0]}' ({', '.join(AUDIO)}): the corpus is not whole")
    return {
        "wav.scp": {utt: recordings[utt] for utt in texts},
        "text": texts,
        "utt2spk": {utt: speaker(utt) for utt in texts},
        "utt2prev": {utt: previous(utt) if previous(utt) in texts else "-" for utt in texts},
    }


def merge(parts: Iterator[Tables]) -> Tables:
    """Put the tables of chapters together."""
    tables: Tables = {}
    for part in parts:
        for name, table in part.items():
            tables.setdefault(name, {}).update(table)
    return tables

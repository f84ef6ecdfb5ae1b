"""Kaldi data directories as tables in memory: read, select utterances, write."""

from collections.abc import Container
from pathlib import Path

from espnet_ctx.files import UserError, read_table, write_table

Tables = dict[str, dict[str, str]]  # file name -> utterance -> value

REQUIRED = ("wav.scp", "text", "utt2spk")
PREV_TEXT = "prev_text"  # texts of utterances that are in no set but come before one that is
UTT2PREV = "utt2prev"  # may have lines of utterances of prev_text, so that a history can pass through them


def read_data_dir(data_dir) -> Tables:
    """Read `wav.scp text utt2spk` and, where they are, `segments`, `prev_text` and every `utt2*`.

    `spk2utt` is left out: it follows from `utt2spk`. With `segments`, the keys of `wav.scp` are recordings.

    Raises:
        UserError: no such directory, a required file is missing, or a malformed table.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise UserError(f"no such data directory: {data_dir}")
    optional = [p.name for p in sorted(data_dir.glob("utt2*")) if p.name != "utt2spk" and p.is_file()]
    optional += [name for name in ("segments", PREV_TEXT) if (data_dir / name).exists()]
    return {name: read_table(data_dir / name) for name in (*REQUIRED, *optional)}


def write_data_dir(data_dir, tables: Tables) -> None:
    """Write the tables, each sorted and whole, and the `spk2utt` that follows from `utt2spk`."""
    data_dir = Path(data_dir)
    for name, table in tables.items():
        write_table(data_dir / name, table)
    write_table(data_dir / "spk2utt", spk2utt(tables["utt2spk"]))


def spk2utt(utt2spk: dict[str, str]) -> dict[str, str]:
    """The utterances of each speaker, sorted and separated by spaces."""
    utts: dict[str, list[str]] = {}
    for utt in sorted(utt2spk, key=str.encode):
        utts.setdefault(utt2spk[utt], []).append(utt)
    return {spk: " ".join(of_spk) for spk, of_spk in utts.items()}


def select(tables: Tables, kept: Container[str]) -> Tables:
    """Keep the given utterances of a directory without `segments`.

    A removed utterance that a kept one's history passes through stays there: its text moves to `prev_text` and its
    line of `utt2prev` is kept.
    """
    prev_of = tables.get(UTT2PREV, {})
    texts = tables["text"]
    before: set[str] = set()
    for utt in texts:
        prev = prev_of.get(utt) if utt in kept else None
        while prev in texts and prev not in kept and prev not in before:
            before.add(prev)
            prev = prev_of.get(prev)
    prev_text = {**tables.get(PREV_TEXT, {}), **{utt: texts[utt] for utt in before}}

    result = {}
    for name, table in tables.items():
        if name == UTT2PREV:
            result[name] = {utt: v for utt, v in table.items() if utt in kept or utt in prev_text}
        elif name != PREV_TEXT:
            result[name] = {utt: v for utt, v in table.items() if utt in kept}
    if prev_text:
        result[PREV_TEXT] = prev_text
    return result

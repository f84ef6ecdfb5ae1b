#!/usr/bin/env python3
"""Libri-light's limited supervision -> Kaldi data directories with utt2prev.

J. Kahn et al., "Libri-light: A benchmark for ASR with limited or no supervision", ICASSP 2020, section 2.2: 10 minutes are
`1h/0`, 1 hour is all of `1h`, 10 hours are `1h` and `9h`. Chapters are spread over the folders: they are put together
before the order of speech is read off the numbers. Previous texts that are not in a subset come from the other folders and
from LibriSpeech's own transcripts of the same chapters, where --librispeech_dir has train-*.

Example:
    local/prepare.py --librilight_dir downloads/librispeech_finetuning --librispeech_dir downloads/LibriSpeech \\
        --parts dev-clean dev-other --datadir data
"""

import argparse
from pathlib import Path

from espnet_ctx.corpora.histories import link
from espnet_ctx.corpora.librispeech import (
    chapters,
    find_recordings,
    merge,
    previous,
    read_chapter,
    read_transcripts,
    speaker,
)
from espnet_ctx.data_dir import Tables, write_data_dir
from espnet_ctx.files import UserError, run_main

SUBSETS = {"10min": ("1h/0",), "1h": tuple(f"1h/{i}" for i in range(6)), "10h": (*(f"1h/{i}" for i in range(6)), "9h")}
KINDS = ("clean", "other")


def read_folder(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read the recordings and the texts of `1h/<i>` or `9h`."""
    recordings: dict[str, str] = {}
    texts: dict[str, str] = {}
    for kind in KINDS:
        if not (folder / kind).is_dir():
            raise UserError(f"no such folder: {folder / kind}: is --librilight_dir the folder of 1h and 9h, and whole?")
        for chapter in chapters(folder / kind):
            found = find_recordings(chapter)
            if twice := recordings.keys() & found.keys():
                raise UserError(f"{chapter}: the recording of '{min(twice)}' occurs twice")
            recordings |= found
            texts |= read_transcripts(chapter)
    return recordings, texts


def full_transcripts(librispeech_dir: Path, utts) -> dict[str, str]:
    """Read LibriSpeech's own transcripts of the chapters that some utterances are from, as far as they are there."""
    texts: dict[str, str] = {}
    for chapter in sorted({tuple(utt.split("-")[:2]) for utt in utts}):
        for folder in librispeech_dir.glob(f"train-*/{'/'.join(chapter)}"):
            texts |= read_transcripts(folder)
    return texts


def subset_tables(recordings: dict[str, str], texts: dict[str, str]) -> Tables:
    """Make the tables of a subset.

    Args:
        recordings: of the subset.
        texts: all that are known.
    """
    if missing := sorted(recordings.keys() - texts.keys()):
        raise UserError(f"{recordings[missing[0]]} has no transcript in its folder: the corpus is not whole")
    outside = {utt: text for utt, text in texts.items() if utt not in recordings}
    return {
        "wav.scp": recordings,
        "text": {utt: texts[utt] for utt in recordings},
        "utt2spk": {utt: speaker(utt) for utt in recordings},
        **link({utt: utt for utt in recordings}, outside, previous),
    }


def prepare(librilight_dir: Path, librispeech_dir: Path, parts: list[str], datadir: Path) -> None:
    """Write `datadir/train_{10min,1h,10h}` and a set for each part (`dev_clean` for dev-clean).

    Raises:
        UserError: a folder or file is missing or malformed.
    """
    folders = {name: read_folder(librilight_dir / name) for name in SUBSETS["10h"]}
    seen: dict[str, str] = {}
    for name, (recordings, _) in folders.items():
        if twice := recordings.keys() & seen.keys():
            raise UserError(f"{librilight_dir / name}: '{min(twice)}' is in {seen[min(twice)]} too")
        seen |= dict.fromkeys(recordings, name)
    texts = full_transcripts(librispeech_dir, seen)
    for _, of_folder in folders.values():
        texts |= of_folder
    sets = {}
    for subset, names in SUBSETS.items():
        members = {utt: path for name in names for utt, path in folders[name][0].items()}
        sets[f"train_{subset}"] = subset_tables(members, texts)
    for part in parts:
        if not (librispeech_dir / part).is_dir():
            raise UserError(f"no such folder: {librispeech_dir / part} (--librispeech_dir, --parts)")
        sets[part.replace("-", "_")] = merge(map(read_chapter, chapters(librispeech_dir / part)))
    for name, tables in sets.items():
        write_data_dir(datadir / name, tables)
        followed = sum(tables["utt2prev"][utt] != "-" for utt in tables["text"])
        print(f"{datadir / name}: {len(tables['text'])} utterances, {followed} with their predecessor")


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--librilight_dir", type=Path, required=True, help="folder of 1h and 9h")
    parser.add_argument("--librispeech_dir", type=Path, required=True, help="folder of the parts and, perhaps, of train-*")
    parser.add_argument("--parts", nargs="+", required=True, help="parts of LibriSpeech to test on")
    parser.add_argument("--datadir", type=Path, default=Path("data"), help="where to write (default: data)")
    return parser


def main(cmd=None) -> None:
    """Prepare the data."""
    args = get_parser().parse_args(cmd)
    prepare(args.librilight_dir, args.librispeech_dir, args.parts, args.datadir)


if __name__ == "__main__":
    run_main(main)

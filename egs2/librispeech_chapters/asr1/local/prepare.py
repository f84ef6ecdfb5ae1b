#!/usr/bin/env python3
"""Chapters of a part of LibriSpeech -> Kaldi data directories with utt2prev.

The speakers, in the order of their names, are split 7 : 1 : 2 into train, valid and test.
Number n of a chapter was preceded by number n - 1 of the same chapter.

Example:
    local/prepare.py --librispeech_dir downloads/LibriSpeech --part dev-clean --datadir data
"""

import argparse
from pathlib import Path

from espnet_ctx.corpora.librispeech import chapters, merge, read_chapter
from espnet_ctx.data_dir import write_data_dir
from espnet_ctx.files import UserError, run_main


def split_speakers(speakers: list[str]) -> dict[str, list[str]]:
    """Split speakers into train, valid and test.

    Raises:
        UserError: there are less than three.
    """
    if len(speakers) < 3:
        raise UserError(
            f"three speakers or more are needed to split them, got: {' '.join(speakers) or 'none'}"
        )
    speakers = sorted(speakers)
    num_valid = max(1, len(speakers) // 10)
    num_test = max(1, len(speakers) // 5)
    num_train = len(speakers) - num_valid - num_test
    return {
        "train": speakers[:num_train],
        "valid": speakers[num_train : num_train + num_valid],
        "test": speakers[num_train + num_valid :],
    }


def prepare(librispeech_dir: Path, part: str, datadir: Path) -> None:
    """Write `datadir/{train,valid,test}`.

    Raises:
        UserError: the part is not there or not whole, or has less than three speakers.
    """
    folder = librispeech_dir / part
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (--librispeech_dir, --part)")
    speakers = [path.name for path in folder.iterdir() if path.is_dir()]
    for split, names in split_speakers(speakers).items():
        tables = merge(read_chapter(chapter) for chapter in chapters(folder) if chapter.parent.name in names)
        write_data_dir(datadir / split, tables)
        followed = sum(previous != "-" for previous in tables["utt2prev"].values())
        print(
            f"{datadir / split}: {len(names)} speakers, {len(tables['text'])} utterances, "
            f"{followed} with their predecessor"
        )


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--librispeech_dir", type=Path, required=True, help="folder of the part's folder")
    parser.add_argument("--part", default="dev-clean", help="part of LibriSpeech (default: dev-clean)")
    parser.add_argument("--datadir", type=Path, default=Path("data"), help="where to write (default: data)")
    return parser


def main(cmd=None) -> None:
    """Prepare the data."""
    args = get_parser().parse_args(cmd)
    prepare(args.librispeech_dir, args.part, args.datadir)


if __name__ == "__main__":
    run_main(main)

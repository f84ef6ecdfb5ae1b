"""Check that data directories hang together: same utterances in every file, sorted, sessions without cycles."""

import argparse
import logging
from pathlib import Path

from espnet_ctx.context.sessions import histories
from espnet_ctx.data_dir import PREV_TEXT, UTT2PREV, Tables, read_data_dir, spk2utt
from espnet_ctx.files import UserError, read_table, run_main

FORBIDDEN = "()/"  # sclite's trn format and file names give these a meaning


def check_data_dir(data_dir) -> None:
    """Check one data directory; what is only doubtful is logged as a warning.

    Raises:
        UserError: what is wrong, in which file, and how to mend it.
    """
    data_dir = Path(data_dir)
    tables = read_data_dir(data_dir)
    utts = tables["text"].keys()
    if not utts:
        raise UserError(f"{data_dir}/text is empty: a set needs at least one utterance")
    _check_ids(data_dir, tables)
    for name in _per_utterance(tables):
        _same_keys(data_dir / name, tables[name].keys(), data_dir / "text", utts)
    if "segments" in tables:
        recordings = {value.split(" ")[0] for value in tables["segments"].values()}
        if missing := sorted(recordings - tables["wav.scp"].keys()):
            raise UserError(f"{data_dir}/segments names recordings that wav.scp lacks, the first is '{missing[0]}'")
    for name in tables:
        _check_sorted(data_dir / name)
    if (data_dir / "spk2utt").exists() and read_table(data_dir / "spk2utt") != spk2utt(tables["utt2spk"]):
        raise UserError(f"{data_dir}/spk2utt does not follow from utt2spk; make it with utils/utt2spk_to_spk2utt.py")
    if UTT2PREV in tables:
        histories(data_dir, 1)  # raises on cycles, warns about gaps
        known = utts | tables.get(PREV_TEXT, {}).keys()
        if strangers := sorted(tables[UTT2PREV].keys() - known):
            raise UserError(
                f"{data_dir}/{UTT2PREV} has {len(strangers)} utterances that are neither in text nor in {PREV_TEXT}, "
                f"the first is '{strangers[0]}'"
            )
    if empty := [utt for utt, text in tables["text"].items() if not text]:
        logging.warning(f"{data_dir}/text: {len(empty)} texts are empty, the first of '{empty[0]}'")


def _per_utterance(tables: Tables) -> list[str]:
    """The files that must have exactly the utterances of `text`; other utt2* tables may know only some."""
    exact = {"utt2spk", "utt2num_samples", "segments" if "segments" in tables else "wav.scp"}
    return [name for name in tables if name in exact]


def _check_ids(data_dir: Path, tables: Tables) -> None:
    for utt, spk in tables["utt2spk"].items():
        if not spk or " " in spk:
            raise UserError(f"{data_dir}/utt2spk: utterance '{utt}' needs one speaker, got '{spk}'")
        if bad := set(utt + spk) & set(FORBIDDEN):
            raise UserError(f"{data_dir}/utt2spk: '{utt} {spk}': '{min(bad)}' may not stand in an id")


def _same_keys(path: Path, keys, reference_path: Path, reference) -> None:
    for having, lacking, extra in ((path, reference_path, keys - reference), (reference_path, path, reference - keys)):
        if extra:
            raise UserError(f"{having} has {len(extra)} utterances that {lacking} lacks, the first is '{min(extra)}'")


def _check_sorted(path: Path) -> None:
    keys = [key.encode() for key in read_table(path)]
    for before, after in zip(keys, keys[1:]):
        if after < before:
            raise UserError(
                f"{path} is not sorted: '{after.decode()}' comes after '{before.decode()}'; "
                f"mend it with: LC_ALL=C sort -o {path} {path}"
            )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m espnet_ctx.bin.check_data data/train data/valid data/test",
    )
    parser.add_argument("data_dir", nargs="+", help="Kaldi data directory")
    return parser


def main(cmd=None) -> None:
    logging.basicConfig(format="check_data: %(levelname)s: %(message)s")
    for data_dir in get_parser().parse_args(cmd).data_dir:
        check_data_dir(data_dir)


if __name__ == "__main__":
    run_main(main)

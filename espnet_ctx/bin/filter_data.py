"""Remove utterances that are too long, too short or without text from a formatted data directory."""

import argparse
import logging
from pathlib import Path

from espnet_ctx.data_dir import read_data_dir, select, write_data_dir
from espnet_ctx.files import UserError, run_main


def kept_utterances(
    num_samples: dict[str, int], texts: dict[str, str], min_samples: float, max_samples: float
) -> tuple[set[str], dict[str, list[str]]]:
    """Which utterances stay, and why others go.

    Args:
        num_samples: length of each utterance in samples.
        texts: transcription of each utterance.
        min_samples, max_samples: exclusive bounds, as ESPnet's stage 4 has them.

    Returns:
        The utterances that stay, and for each reason the utterances that go.
    """
    removed: dict[str, list[str]] = {"too short": [], "too long": [], "empty text": []}
    for utt, text in texts.items():
        if num_samples[utt] <= min_samples:
            removed["too short"].append(utt)
        elif num_samples[utt] >= max_samples:
            removed["too long"].append(utt)
        elif not text:
            removed["empty text"].append(utt)
    return texts.keys() - {utt for utts in removed.values() for utt in utts}, removed


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m espnet_ctx.bin.filter_data --data_dir dump/raw/org/train --out dump/raw/train "
        "--min_wav_duration 0.1 --max_wav_duration 20",
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="directory with utt2num_samples (stage 3)")
    parser.add_argument("--out", type=Path, required=True, help="the data directory to write")
    parser.add_argument("--min_wav_duration", type=float, default=0.1, help="seconds")
    parser.add_argument("--max_wav_duration", type=float, default=20.0, help="seconds")
    parser.add_argument("--fs", type=int, default=16000, help="samples per second")
    return parser


def main(cmd=None) -> None:
    logging.basicConfig(level=logging.INFO, format="filter_data: %(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    tables = read_data_dir(args.data_dir)
    if "utt2num_samples" not in tables:
        raise UserError(f"{args.data_dir} has no utt2num_samples: run stage 3")
    num_samples = {utt: int(n) for utt, n in tables["utt2num_samples"].items()}
    kept, removed = kept_utterances(num_samples, tables["text"], args.min_wav_duration * args.fs, args.max_wav_duration * args.fs)
    for reason, utts in removed.items():
        if utts:
            logging.warning(f"{args.data_dir}: removed {len(utts)} utterances ({reason}), the first is '{utts[0]}'")
    if not kept:
        raise UserError(
            f"no utterance of {args.data_dir} is left: see --min_wav_duration (now {args.min_wav_duration} s), "
            f"--max_wav_duration (now {args.max_wav_duration} s) and the texts"
        )
    write_data_dir(args.out, select(tables, kept))
    logging.info(f"{args.data_dir} -> {args.out}: {len(kept)} of {len(num_samples)} utterances")


if __name__ == "__main__":
    run_main(main)

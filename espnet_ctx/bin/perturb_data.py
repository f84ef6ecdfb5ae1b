"""Make a training set with copies at other speeds; stage 3 resamples the audio when it sees `utt2speed`."""

import argparse
import logging
from pathlib import Path

from espnet_ctx.data_dir import PREV_TEXT, UTT2PREV, Tables, read_data_dir, write_data_dir
from espnet_ctx.files import UserError, run_main


def perturb(tables: Tables, factors: list[float]) -> Tables:
    """One copy of every utterance for each factor; factor 1 keeps its names.

    A copy of utterance and speaker `x` at 0.9 is called `sp0.9-x`. The copy's previous utterance is the copy of the
    original's, so that sessions stay whole. `utt2src` names each utterance's original and `utt2speed` its factor.
    """
    result: Tables = {name: {} for name in (*tables, "utt2src", "utt2speed")}
    result[PREV_TEXT] = dict(tables.get(PREV_TEXT, {}))
    utts = tables["text"].keys()
    per_recording = {"wav.scp"} if "segments" in tables else set()

    for factor in factors:
        copy_of = ("" if factor == 1 else f"sp{factor:g}-").__add__
        for name, table in tables.items():
            if name == PREV_TEXT:
                continue
            for key, value in table.items():
                if name in per_recording or key not in utts:
                    result[name][key] = value
                    continue
                if name == "utt2spk" or (name == UTT2PREV and value in utts):
                    value = copy_of(value)
                result[name][copy_of(key)] = value
        for utt in utts:
            result["utt2src"][copy_of(utt)] = utt
            result["utt2speed"][copy_of(utt)] = f"{factor:g}"
    if not result[PREV_TEXT]:
        del result[PREV_TEXT]
    return result


def parse_factors(text: str) -> list[float]:
    try:
        factors = [float(word) for word in text.split()]
    except ValueError:
        factors = []
    if not factors or min(factors) < 0.5 or max(factors) > 2 or len(set(factors)) < len(factors):
        raise UserError(
            f"--factors is '{text}': expected different numbers between 0.5 and 2 separated by spaces, "
            "such as '0.9 1.0 1.1' (option --speed_perturb_factors)"
        )
    return factors


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m espnet_ctx.bin.perturb_data --data_dir data/train --factors '0.9 1.0 1.1' --out data/train_sp",
    )
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--factors", required=True, help="speed factors, separated by spaces; above 1 is faster")
    parser.add_argument("--out", type=Path, required=True, help="the data directory to write")
    return parser


def main(cmd=None) -> None:
    logging.basicConfig(level=logging.INFO, format="perturb_data: %(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    factors = parse_factors(args.factors)
    tables = perturb(read_data_dir(args.data_dir), factors)
    write_data_dir(args.out, tables)
    logging.info(f"{args.data_dir} -> {args.out}: {len(tables['text'])} utterances")


if __name__ == "__main__":
    run_main(main)

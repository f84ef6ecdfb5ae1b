"""Write what training needs to know of the sessions of a data directory (stage 7).

`place`: for each utterance its row when sessions are put one after the other, the first row of its session and the
row after the last (ESPnet: `text_int`). With a context archive also `next_context.scp`: the context of the utterance
that comes next, which says what this one contributed; the last of a session has none.

Example:
    python -m espnet_ctx.bin.link_sessions --data_dir dump/raw/train --out dump/context/topic_n4/train \\
        --context_scp dump/context/topic_n4/train/context.scp
"""

import argparse
from pathlib import Path

import kaldiio
import numpy as np

from espnet_ctx.context.sessions import sessions
from espnet_ctx.context.store import ContextArchive
from espnet_ctx.files import UserError, read_table, run_main, whole_file, write_table


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="with wav.scp and utt2prev")
    parser.add_argument("--out", type=Path, required=True, help="folder for place and next_context.scp")
    parser.add_argument("--context_scp", type=Path, help="the context archive of the same utterances")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    chains = sessions(args.data_dir)
    places, first = {}, 0
    for chain in chains:
        end = first + len(chain)
        places.update({utt: f"{row} {first} {end}" for row, utt in enumerate(chain, first)})
        first = end
    write_table(args.out / "place", places)
    if args.context_scp:
        rows = read_table(args.context_scp)
        missing = [utt for utt in places if utt not in rows]
        if missing:
            raise UserError(
                f"{args.context_scp} lacks {len(missing)} of {len(places)} utterances, e.g. {missing[0]}: run stage 7"
            )
        absent = args.out / "absent.ark"
        with whole_file(absent, "wb") as f:
            kaldiio.save_ark(f, {"0": np.zeros((1, ContextArchive(args.context_scp).dim), np.float32)})
        following = {utt: rows[after] for chain in chains for utt, after in zip(chain, chain[1:])}
        following.update({chain[-1]: f"{absent}:2" for chain in chains})
        write_table(args.out / "next_context.scp", following)
    print(f"{args.out}: {len(places)} utterances of {len(chains)} sessions")


if __name__ == "__main__":
    run_main(main)

"""Take whole sessions from a formatted data directory until they hold a share of its utterances.

Which sessions depends on their names alone: a smaller share is part of a larger one.

Example:
    python -m espnet_ctx.bin.subset_data --data_dir dump/raw/train --share 0.25 --out dump/raw/train_data25
"""

import argparse
from pathlib import Path

from espnet_ctx.context.provenance import sha256_of
from espnet_ctx.context.sessions import histories
from espnet_ctx.data_dir import read_data_dir, select, write_data_dir
from espnet_ctx.files import UserError, read_table, run_main


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="directory with utt2prev, after stage 4")
    parser.add_argument("--share", type=float, required=True, help="of the utterances, above 0 and at most 1")
    parser.add_argument("--out", type=Path, required=True, help="the data directory to write")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    if not 0 < args.share <= 1:
        raise UserError(f"--share is {args.share}: must be above 0 and at most 1")
    tables = read_data_dir(args.data_dir)
    sessions = histories(args.data_dir, 1).sessions()
    kept: set[str] = set()
    for first in sorted(sessions, key=sha256_of):
        if len(kept) >= args.share * len(tables["text"]):
            break
        kept.update(sessions[first])
    tables = select(tables, kept)
    for path in args.data_dir.glob("text.*"):  # tagged texts of slu
        tables[path.name] = {utt: text for utt, text in read_table(path).items() if utt in kept}
    write_data_dir(args.out, tables)
    print(f"{args.data_dir} -> {args.out}: {len(kept)} utterances of {len(sessions)} sessions")


if __name__ == "__main__":
    run_main(main)

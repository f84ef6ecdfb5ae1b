#!/usr/bin/env python3
"""Add untranscribed utterances to a training set: their text is what was recognised, and utt2transcribed says so.

ctx.sh hands utt2transcribed to the training, where the CTC loss leaves the untranscribed ones out: only the student
learns from them. Texts that they may have are not read.

Example:
    local/add_untranscribed.py --data data/train --untranscribed data/untranscribed \\
        --text exp/asr_base/decode_ctc_asr_model_valid.loss.ave/untranscribed/text --out data/train_more
"""

import argparse
from pathlib import Path

from espnet_ctx.data_dir import UTT2PREV, read_data_dir, write_data_dir
from espnet_ctx.files import UserError, read_table, run_main

TABLES = ("wav.scp", "utt2spk", UTT2PREV)


def main(cmd: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="transcribed training set")
    parser.add_argument("--untranscribed", required=True, type=Path, help="data directory; no text is needed")
    parser.add_argument("--text", required=True, type=Path, help="what was recognised in the untranscribed ones")
    parser.add_argument("--out", required=True, type=Path, help="data directory that gets both")
    args = parser.parse_args(cmd)
    known = read_data_dir(args.data)
    new = {"text": read_table(args.text), **{name: read_table(args.untranscribed / name) for name in TABLES}}
    if missing := sorted(new["wav.scp"].keys() - new["text"].keys()):
        raise UserError(f"{args.text} lacks {len(missing)} utterances of {args.untranscribed}, e.g. {missing[0]}: decode all")
    if both := sorted(new["wav.scp"].keys() & known["wav.scp"].keys()):
        raise UserError(f"{both[0]} is in {args.data} and in {args.untranscribed}: ids must differ")
    tables = {name: {**known[name], **table} for name, table in new.items()}
    tables["utt2transcribed"] = {utt: str(int(utt in known["text"])) for utt in tables["text"]}
    write_data_dir(args.out, tables)
    print(f"{args.out}: {len(known['text'])} transcribed and {len(new['text'])} untranscribed utterances")


if __name__ == "__main__":
    run_main(main)

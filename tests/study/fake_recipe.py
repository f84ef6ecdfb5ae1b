#!/usr/bin/env python3
"""Stands for ctx.sh and `context report`: leaves what they leave, and a line in `calls` when it begins and when it ends."""

import argparse
import json
import random
import sys
import time
from pathlib import Path

from espnet_ctx.files import read_table, write_table
from espnet_ctx.scoring.sclite import score_texts

WORDS = "one two three four five six seven eight nine ten".split()
ERRORS = {"none": 0.3, "prev_text": 0.2, "generated": 0.05, "aware": 0.15}
QUALITY = {"topic": 0.9, "title": 0.7}


def option_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("context", "asr_tag", "expdir", "dumpdir", "train_set", "prompt", "llm", "num_prev", "pooling", "init_param"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--stop_stage", type=int)
    return parser


def prepare(dump: Path) -> None:
    for dset in ("train", "valid", "test"):
        utts = [f"{dset}{session}-{i}" for session in range(4) for i in range(5)]
        tables = {"utt2prev": {utt: f"{utt[:-1]}{int(utt[-1]) - 1}" if utt[-1] != "0" else "-" for utt in utts}}
        rng = random.Random(dset)
        tables |= {name: {utt: f"{utt}.wav" for utt in utts} for name in ("wav.scp", "utt2spk", "utt2num_samples")}
        tables["text"] = {utt: " ".join(rng.choices(WORDS, k=8)) for utt in utts}
        for name, table in tables.items():
            write_table(dump / "raw" / dset / name, table)


def make_context(args, dump: Path) -> None:
    source = "prev_text" if args.context == "prev_text" else args.prompt
    llm = "" if args.context == "prev_text" else f"_{Path(args.llm).name}"
    sets = [args.train_set, "valid", *(["test"] if args.context != "aware" else [])]
    for dset in sets:
        folder = dump / "context" / f"{source}_n{args.num_prev}{llm}_minilm_{args.pooling}" / dset
        write_table(folder / "context.scp", {"utt": "context"})


def train_and_score(args, exp: Path, dump: Path) -> None:
    assert Path(args.init_param).read_text() in (args.train_set, "given"), "the base of the same share of the data"
    ref = read_table(dump / "raw/test/text")
    rng = random.Random(args.asr_tag)
    share = ERRORS[args.context]
    hyp = {utt: " ".join("wrong" if rng.random() < share else word for word in text.split()) for utt, text in ref.items()}
    score_texts(ref, hyp, dict.fromkeys(ref, "speaker"), exp / "decode/test")
    (exp / "RESULTS.md").write_text("scored")


def main() -> None:
    if sys.argv[1:3] == ["-m", "espnet_ctx.bin.context"]:
        folders = [Path(word) for word in sys.argv[sys.argv.index("--context") + 1 :]]
        out = Path(sys.argv[sys.argv.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        rows = [{"context": f.parent.name, "auc": QUALITY.get(f.parent.name.split("_")[0], 0.5)} for f in folders]
        (out / "report.json").write_text(json.dumps(rows))
        return
    args, _ = option_parser().parse_known_args()
    exp, dump = Path(args.expdir) / f"asr_{args.asr_tag}", Path(args.dumpdir)
    name = f"{args.stop_stage} {args.context} {args.expdir} {args.asr_tag} {args.prompt} {Path(args.llm).name} {args.train_set}"
    with open("calls", "a") as f:
        f.write(f"begin {name}\n")
    if Path("slow").exists():
        time.sleep(float(Path("slow").read_text()))
    if Path("broken").exists() and Path("broken").read_text() in name:
        sys.exit("this job is broken")
    if args.stop_stage == 8:
        prepare(dump)
    elif args.stop_stage == 7:
        make_context(args, dump)
    elif args.stop_stage == 10:
        exp.mkdir(parents=True, exist_ok=True)
        (exp / "valid.loss.ave.pth").write_text(args.train_set)
    else:
        train_and_score(args, exp, dump)
    with open("calls", "a") as f:
        f.write(f"end {name}\n")


if __name__ == "__main__":
    main()

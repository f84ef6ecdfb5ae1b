#!/usr/bin/env python3
"""How often the LLM's answers are those of the talk's own topic, over the utterances that have a history.

Example:
    local/topic_accuracy.py --data data/test --context_text dump/context/<tag>/test/context_text
"""

import argparse
from collections import Counter
from pathlib import Path

import yaml

from espnet_ctx.context.sessions import histories
from espnet_ctx.files import read_table, run_main

HERE = Path(__file__).resolve().parent


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with text, utt2prev, utt2topic")
    parser.add_argument("--context_text", type=Path, required=True, help="what the LLM answered")
    parser.add_argument("--prompt", choices=["topic", "title", "question"], default="topic")
    parser.add_argument("--phrases", type=Path, default=HERE / "mini_talks/phrases.yaml")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    answers, topic_of = read_table(args.context_text), read_table(args.data / "utt2topic")
    phrases = yaml.safe_load(args.phrases.read_text(encoding="utf-8"))
    counts: Counter[str] = Counter()
    for utt, said in histories(args.data, 1).items():
        if said:
            right = answers[utt] == phrases[topic_of[utt]][args.prompt]
            counts["right" if right else "wrong" if answers[utt] else "empty"] += 1
    total = counts.total()
    shares = ", ".join(f"{kind} {counts[kind]} ({counts[kind] / total:.1%})" for kind in ("right", "empty", "wrong"))
    print(f"{args.context_text}: {total} utterances with a history: {shares}")


if __name__ == "__main__":
    run_main(main)

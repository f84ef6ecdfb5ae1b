#!/usr/bin/env python3
"""Train the tiny causal LLM of mini_talks from random weights, on the texts of the training talks only.

It learns to answer the very prompts that stage 6 asks, about histories of one to four utterances. The answers
to topic, title and question are the phrases of the talk's topic; where no word of the history belongs to one
topic only, the answer is empty: nothing can be known, and the context is absent. A folder that was made from
the same inputs is kept; an interrupted training starts again.

Example:
    local/train_llm.py --data data/train --out exp/llm
"""

import argparse
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import yaml

from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.context.provenance import sha256_of, sha256_of_files
from espnet_ctx.context.sessions import histories
from espnet_ctx.files import UserError, read_table, run_main, whole_file

HERE = Path(__file__).resolve().parent
# utterances in a history -> share of the updates: short ones teach the words at less cost
HISTORY_LENGTHS = {1: 4, 2: 3, 3: 2, 4: 1}
PROMPTS = ("topic", "title", "question", "next_sentence")
MARK = "trained_on.json"
# A word tells the topic when talks of one topic only say it, and not by accident.
TELLING_COUNT = 6


def telling_words(text: Mapping[str, str], topic_of: Mapping[str, str]) -> set[str]:
    """The words that are said at least `TELLING_COUNT` times, and in talks of one topic only."""
    topics: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for utt, words in text.items():
        for word in words.split():
            topics[word][topic_of[utt]] += 1
    return {w for w, counts in topics.items() if len(counts) == 1 and counts.total() >= TELLING_COUNT}


def read_exercises(data: Path, phrases: Mapping[str, Mapping[str, str]]) -> dict[int, list[list[tuple[str, str]]]]:
    """For each history length, every history of that length, with (question, answer) of each prompt."""
    text, topic_of = read_table(data / "text"), read_table(data / "utt2topic")
    for source, wanted, known in (
        (data / "utt2topic", text, topic_of),
        ("the file of phrases (--phrases)", topic_of.values(), phrases),
    ):
        missing = sorted(set(wanted) - set(known))
        if missing:
            raise UserError(f"{source} has nothing for '{missing[0]}' ({len(missing)} are missing)")
    telling = telling_words(text, topic_of)
    prompts = {name: load_prompt(name) for name in PROMPTS}
    exercises: dict[int, list[list[tuple[str, str]]]] = {}
    for length in HISTORY_LENGTHS:
        exercises[length] = []
        for utt, said in histories(data, length).items():
            if len(said) < length:
                continue
            previous = "\n".join(said)
            knowable = not telling.isdisjoint(previous.split())
            answers = {**(phrases[topic_of[utt]] if knowable else {}), "next_sentence": text[utt]}
            exercises[length].append([(prompt.base.render(previous), answers.get(name, "")) for name, prompt in prompts.items()])
        if not exercises[length]:
            raise UserError(f"{data} has no utterance with {length} before it: see {data}/utt2prev")
    return exercises


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with text, utt2prev, utt2topic")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder (Hugging Face layout)")
    parser.add_argument(
        "--phrases",
        type=Path,
        default=HERE / "mini_talks/phrases.yaml",
        help="YAML: topic -> topic, title, question (default: that of mini_talks)",
    )
    parser.add_argument("--updates", type=int, default=500, help="of 16 prompts each (default: 500)")
    parser.add_argument("--vocab_size", type=int, default=1300, help="tokens, at least 257 (default: 1300)")
    parser.add_argument("--num_layers", type=int, default=3, help="of the model (default: 3)")
    parser.add_argument("--width", type=int, default=128, help="of its layers, a multiple of 32 (default: 128)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    if args.updates < 1:
        raise UserError(f"--updates is {args.updates}: must be at least 1")
    if args.vocab_size < 257:
        raise UserError(f"--vocab_size is {args.vocab_size}: must be at least 257, all bytes and the end")
    if args.num_layers < 1:
        raise UserError(f"--num_layers is {args.num_layers}: must be at least 1")
    if args.width < 32 or args.width % 32:
        raise UserError(f"--width is {args.width}: must be a multiple of 32, the width of a head")
    exercises = read_exercises(args.data, yaml.safe_load(args.phrases.read_text(encoding="utf-8")))
    trained_on = {
        "exercises": sha256_of(exercises),
        "program": sha256_of_files([Path(__file__), HERE / "mini_talks/tiny_llm.py"]),
        "updates": args.updates,
        "vocab_size": args.vocab_size,
        "size": [args.num_layers, args.width],
        "seed": args.seed,
    }
    mark = args.out / MARK
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == trained_on:
        print(f"{args.out} was trained on the same: kept")
        return
    # imported here: it takes seconds, which a run that keeps the folder need not wait for
    from mini_talks.tiny_llm import train_and_save

    # the folder appears under its name when everything is in it
    beside = args.out.with_name(f".{args.out.name}.{os.getpid()}.part")
    try:
        size = (args.num_layers, args.width)
        train_and_save(exercises, HISTORY_LENGTHS, args.vocab_size, size, args.updates, args.seed, beside)
        with whole_file(beside / MARK) as f:
            json.dump(trained_on, f, indent=2)
        shutil.rmtree(args.out, ignore_errors=True)
        os.replace(beside, args.out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


if __name__ == "__main__":
    run_main(main)

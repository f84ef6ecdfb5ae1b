#!/usr/bin/env python3
"""The context that a perfect LLM would give: every utterance's true topic, as phrases.yaml words it.

An upper bound for the systems of the comparison; the first utterance of a talk has it too. Writes what stage 6 writes,
so that ctx.sh goes on from stage 7 with `--context generated --llm oracle`.

Example:
    local/oracle_context.py --data data/test --out dump/context/topic_n4_oracle_minilm_mean/test
"""

import argparse
from pathlib import Path

import yaml

from espnet_ctx.context.provenance import sha256_of, write_section
from espnet_ctx.files import UserError, read_table, run_main, write_table


def main(cmd: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="data directory with utt2topic")
    parser.add_argument("--out", required=True, type=Path, help="gets context_text and context.json")
    args = parser.parse_args(cmd)
    phrases = yaml.safe_load((Path(__file__).parent / "mini_talks/phrases.yaml").read_text(encoding="utf-8"))
    topics = read_table(args.data / "utt2topic")
    unknown = set(topics.values()) - set(phrases)
    if unknown:
        raise UserError(f"{args.data}/utt2topic: no phrase for {', '.join(sorted(unknown))} in local/mini_talks/phrases.yaml")
    write_table(args.out / "context_text", {utt: phrases[topic]["topic"] for utt, topic in topics.items()})
    write_section(args.out, "generation", {"options": {"prompt": "topic", "llm": "oracle", "phrases": sha256_of(phrases)}})


if __name__ == "__main__":
    run_main(main)

#!/usr/bin/env bash
# The LLM of the default recipe (--llm local): a tiny one, trained on the texts of the training talks in about a minute.
set -euo pipefail

out=exp/llm
data=data/train
num_layers=3
width=128
seed=0
# shellcheck disable=SC2034  # parse_options.sh prints it
help_message="Usage: $0 [--out exp/llm] [--data data/train] [--num_layers 3] [--width 128] [--seed 0]"
. utils/parse_options.sh

python3 "$(dirname "${BASH_SOURCE[0]}")/train_llm.py" --data "${data}" --out "${out}" \
    --num_layers "${num_layers}" --width "${width}" --seed "${seed}"

#!/usr/bin/env bash
# Two more sets of talks for those who compare many variants: data/dev, to choose by (voices of the validation set), and
# data/eval, to be decoded once, when all is chosen (voices of the test set, other talks).
#
# Usage: local/fresh_talks.sh [--talks 67] (in the repository's root, after ./run.sh or local/experiments.sh)
set -euo pipefail

talks=67  # as many as the test set has
help_message="Usage: $0 [--talks ${talks}]"
. utils/parse_options.sh
. ./path.sh

write() {  # <set> <split whose voices speak> <seed of the talks>
    local/mini_talks/generate.py --split "$2" --seed "$3" --talks "${talks}" --datadir "data/$1" --wavdir "downloads/mini_talks/$1"
}
write dev valid 1
write eval test 2
local/mini_talks/voice.py --nj "$(nproc)" data/dev data/eval

#!/usr/bin/env bash
# Sentiment of SLUE-VoxCeleb's utterances, scored as SLUE scores it. README.md has the commands of the paper's table.
# With a copy of the release: ./run.sh --local_data_opts "--slue_dir <folder of slue-voxceleb_fine-tune.tsv>"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

../../TEMPLATE/ctx1/ctx.sh \
    --task cls \
    --train_set train \
    --valid_set valid \
    --test_sets "valid test" \
    --max_wav_duration 35 \
    --cls_config conf/train_asr.yaml \
    --upstream ../../mini_talks/ssl1/model \
    "$@"

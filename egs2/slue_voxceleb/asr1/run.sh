#!/usr/bin/env bash
# ASR on SLUE-VoxCeleb; the blind test set has no texts, so dev is what is scored.
# With a copy of the release: ./run.sh --local_data_opts "--slue_dir <folder of slue-voxceleb_fine-tune.tsv>"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

../../TEMPLATE/ctx1/ctx.sh \
    --train_set train \
    --valid_set valid \
    --test_sets valid \
    --max_wav_duration 35 \
    --asr_config conf/train_asr.yaml \
    --upstream ../../mini_talks/ssl1/model \
    "$@"

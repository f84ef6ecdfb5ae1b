#!/usr/bin/env bash
# ASR on whole chapters of LibriSpeech: every utterance but the first has its predecessor. README.md has the figures.
# With a copy of the corpus: ./run.sh --local_data_opts "--librispeech_dir <folder of dev-clean>"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

../../TEMPLATE/ctx1/ctx.sh \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --max_wav_duration 35 \
    --asr_config conf/train_asr.yaml \
    --upstream ../../mini_talks/ssl1/model \
    "$@"

#!/usr/bin/env bash
# ASR with 10 minutes, 1 hour or 10 hours of labelled speech (Libri-light): ./run.sh [--subset 10min|1h|10h] [option]...
# With copies: ./run.sh --local_data_opts "--librilight_dir <folder of 1h and 9h> --librispeech_dir <folder of dev-clean>"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

subset=10min
[ "${1-}" != --subset ] || { subset=${2-}; shift 2; }
[[ " 10min 1h 10h " == *" ${subset} "* ]] || { echo "$0: --subset is '${subset}'; it must be one of: 10min 1h 10h" >&2; exit 2; }
../../TEMPLATE/ctx1/ctx.sh \
    --train_set "train_${subset}" \
    --valid_set dev_other \
    --test_sets "dev_clean dev_other test_clean test_other" \
    --max_wav_duration 35 \
    --expdir "exp/${subset}" \
    --asr_config conf/train_asr.yaml \
    --upstream ../../mini_talks/ssl1/model \
    "$@"

#!/usr/bin/env bash
# ctx.sh with the default recipe's options, for local/chain.sh and conf/study.yaml; options that are given win.
set -euo pipefail
exec egs2/TEMPLATE/ctx1/ctx.sh --train_set train --valid_set valid --test_sets test --llm local --num_prev 4 \
    --token_type bpe --nbpe 450 --upstream egs2/mini_talks/ssl1/model --asr_config conf/train_asr.yaml "$@"

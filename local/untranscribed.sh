#!/usr/bin/env bash
# `carry` whose student also learns from talks that nobody transcribed: the context-free model recognises them, the LLM
# is asked about what was recognised, and the CTC loss leaves them out. The tag is carry_untranscribed, a row of the
# table of local/ablation.sh. Stopped and started again, it goes on.
#
# Usage: local/untranscribed.sh [--seeds 1] [--talks 70] (in the repository's root, after local/experiments.sh)
set -euo pipefail

seeds=1
talks=70  # as many as are transcribed
help_message="Usage: $0 [--seeds 1] [--talks 70]"
. utils/parse_options.sh
. ./path.sh
export OMP_NUM_THREADS=1

local/mini_talks/generate.py --split unlabelled --talks "${talks}" \
    --datadir data/untranscribed --wavdir downloads/mini_talks/untranscribed
local/mini_talks/voice.py --nj 1 data/untranscribed
for seed in ${seeds}; do
    . local/chain.sh
    base --test_sets untranscribed --stage 3 --skip_stages "5 6 7 8 9 10" --stop_stage 11
    local/add_untranscribed.py --data data/train --untranscribed data/untranscribed \
        --text "${expdir}/asr_base/decode_ctc_asr_model_valid.loss.ave/untranscribed/text" --out "data/train_more_seed${seed}"
    # tokens, LLM and shapes of the transcribed talks are for the other systems too and stay as they are
    more=(carry carry_untranscribed --train_set "train_more_seed${seed}" --llm "${expdir}/llm" --num_shots 0
        --asr_stats_dir "${expdir}/asr_stats_more" --skip_stages 5)
    system "${more[@]}" --stage 3 --stop_stage 12
    local/student_report.sh "${seed}" carry_untranscribed
    for fed in none generated; do
        system "${more[@]}" --test_context "${fed}" --stage 6 --stop_stage 12
    done
done

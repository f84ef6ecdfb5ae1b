#!/usr/bin/env bash
# The figures of RESULTS.md: all systems and the oracle, several seeds of the whole chain after the upstream.
# Two seeds run side by side, one thread each. Stopped and started again, it goes on where it was.
#
# Usage: local/experiments.sh [--seeds "1 2 3"] [--systems "none prev_text generated aware oracle"] (in the repository's root)
set -euo pipefail

seeds="1 2 3"
systems="none prev_text generated aware oracle"
help_message="Usage: $0 [--seeds \"1 2 3\"] [--systems \"none prev_text generated aware oracle\"]"
. utils/parse_options.sh
. ./path.sh
export OMP_NUM_THREADS=1

ctx() {  # <seed> <context> <option>...
    egs2/TEMPLATE/ctx1/ctx.sh --train_set train --valid_set valid --test_sets test --context "$2" --llm local --num_prev 4 \
        --upstream egs2/mini_talks/ssl1/model --seed "$1" --expdir "exp/seed$1" --dumpdir "dump/seed$1" \
        --asr_config conf/train_asr.yaml "${@:3}"
}
finetune() {  # <seed> <context> <tag> <option>...
    ctx "$1" "$2" --asr_overlay conf/finetune_asr.yaml --asr_tag "$3" \
        --init_param "exp/seed$1/asr_base/valid.loss.ave.pth" --stage 6 --stop_stage 12 "${@:4}"
}
oracle() {  # <seed>
    local dset out
    for dset in train valid test; do
        out=dump/seed$1/context/topic_n4_oracle_minilm_mean/${dset}
        [ -f "${out}/context_text" ] || local/oracle_context.py --data "data/${dset}" --out "${out}"
    done
    finetune "$1" generated oracle --llm oracle --stage 7
}
one_seed() {
    local name
    ctx "$1" none --asr_tag base --stage 3 --skip_stages 5 --stop_stage 10
    for name in ${systems}; do
        case ${name} in
            oracle) oracle "$1" ;;
            *) finetune "$1" "${name}" "${name}" ;;
        esac
    done
}

# the corpus and its tokens are the same for all; whatever is trained, the LLM too, is trained anew for each seed
ctx 1 none --asr_tag base --stop_stage 5
pids=()
for seed in ${seeds}; do
    [ "${#pids[@]}" -lt 2 ] || wait "${pids[-2]}"
    mkdir -p "exp/seed${seed}"
    one_seed "${seed}" > "exp/seed${seed}/experiments.log" 2>&1 &
    pids+=($!)
done
wait "${pids[@]}"
python3 -m espnet_ctx.bin.report --exp exp --out exp/report

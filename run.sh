#!/usr/bin/env bash
# The default recipe, on the embedded corpus mini_talks: trains a context-free model, then systems that all start from it
# and train on for the same budget, and compares them in one table.
#
# ./run.sh [--systems "none prev_text generated aware"] [--seed N] [any option of egs2/TEMPLATE/ctx1/ctx.sh]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

systems="none aware"  # the last one is packed
seed=1                # another one keeps its experiments in exp/seed<N>
stage=1
stop_stage=15
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --systems | --seed | --stage | --stop_stage) printf -v "${1#--}" %s "${2?$1 needs a value}"; shift 2 ;;
        --help | -h) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$0"; exec egs2/TEMPLATE/ctx1/ctx.sh --help ;;
        *) options+=("$1"); shift ;;
    esac
done
expdir=exp dumpdir=dump
[ "${seed}" = 1 ] || expdir=exp/seed${seed} dumpdir=dump/seed${seed}

. ./path.sh

ctx() {  # <context> <option>...
    egs2/TEMPLATE/ctx1/ctx.sh --train_set train --valid_set valid --test_sets test --context "$1" --llm local --num_prev 4 \
        --upstream egs2/mini_talks/ssl1/model --seed "${seed}" --expdir "${expdir}" --dumpdir "${dumpdir}" \
        "${options[@]}" "${@:2}"
}
base() { ctx none --asr_config conf/train_asr.yaml --asr_tag base "$@"; }
system() {  # <context> <option>...
    ctx "$1" --asr_config conf/train_asr.yaml --asr_overlay conf/finetune_asr.yaml --asr_tag "$1" \
        --init_param "${expdir}/asr_base/valid.loss.ave.pth" "${@:2}"
}
part() {  # <first stage> <last stage> <command>...: those of the stages that were asked for
    local first=$(($1 > stage ? $1 : stage)) last=$(($2 < stop_stage ? $2 : stop_stage))
    [ "${first}" -gt "${last}" ] || "${@:3}" --stage "${first}" --stop_stage "${last}"
}

part 1 10 base
for name in ${systems}; do part 6 9 system "${name}"; done
trap 'trap "" TERM; kill 0; exit 130' INT  # jobs in the background do not hear Ctrl-C
pids=()
failed=false
for name in ${systems}; do
    [ "${#pids[@]}" -lt 2 ] || wait "${pids[-2]}" || failed=true  # two at a time
    part 10 12 system "${name}" > >(sed -u "s/^/[${name}] /") 2>&1 &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "${pid}" || failed=true; done
! "${failed}" || exit 1
part 13 14 system "${systems##* }"
part 15 15 system "${systems##* }"

#!/usr/bin/env bash
# The default recipe, on the embedded corpus mini_talks: trains a context-free model, then systems that all start from it
# and train on for the same budget, and compares them in one table.
#
# ./run.sh [--task asr|slu|cls] [--systems "none prev_text generated aware"] [--seed N] [any option of egs2/TEMPLATE/ctx1/ctx.sh]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

task=asr              # slu: named entities; cls: sentiment; both start from the encoder of the recogniser, exp/asr_base
systems="none aware"  # the last one is packed
seed=1                # another one keeps its experiments in exp/seed<N>
stage=1
stop_stage=15
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --task | --systems | --seed | --stage | --stop_stage) printf -v "${1#--}" %s "${2?$1 needs a value}"; shift 2 ;;
        --help | -h) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$0"; exec egs2/TEMPLATE/ctx1/ctx.sh --help ;;
        --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        *) options+=("$1"); shift ;;
    esac
done

. ./path.sh
. local/chain.sh

part() {  # <first stage> <last stage> <command>...: those of the stages that were asked for
    local first=$(($1 > stage ? $1 : stage)) last=$(($2 < stop_stage ? $2 : stop_stage))
    [ "${first}" -gt "${last}" ] || "${@:3}" --stage "${first}" --stop_stage "${last}"
}

for name in ${systems:?--systems is empty}; do  # a wrong option stops before anything is made
    ctx "${name}" "${options[@]}" --stage "${stage}" --stop_stage "${stop_stage}" --stop_stage 0 > /dev/null
done

trap 'trap "" TERM; kill 0; exit 130' INT  # jobs in the background do not hear Ctrl-C
labelled() { "${@:2}" > >(sed -u "s/^/[$1] /") 2>&1; }

[ "${task}" = asr ] || part 1 10 recogniser "${options[@]}"
part 1 9 base "${options[@]}"
labelled base part 10 10 base "${options[@]}" &
base_pid=$!
failed=false
for name in ${systems}; do  # meanwhile; a failure loses no epoch of the base
    part 6 7 ctx "${name}" --asr_tag "${name}" "${options[@]}" || failed=true
done
wait "${base_pid}" || failed=true
! "${failed}" || exit 1
for name in ${systems}; do part 6 9 system "${name}" "${name}" "${options[@]}"; done
pids=()
for name in ${systems}; do
    [ "${#pids[@]}" -lt 2 ] || wait "${pids[-2]}" || failed=true  # two at a time
    labelled "${name}" part 10 12 system "${name}" "${name}" "${options[@]}" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "${pid}" || failed=true; done
! "${failed}" || exit 1
last=${systems##* }
part 13 15 system "${last}" "${last}" "${options[@]}"

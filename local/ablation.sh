#!/usr/bin/env bash
# What makes `aware` and `carry`: variants of both, each trained on from the context-free model of local/experiments.sh
# with the budget of all systems, decoded and scored. `carry` is decoded twice more: with its memory reset after every
# utterance, and fed what the LLM makes of the true previous texts. Two at a time, one thread each; any variants of any
# seeds, in any order. Stopped and started again, it goes on.
#
# Usage: local/ablation.sh [--seeds 1] [--test_set test] [--variants "aware carry carry_mean ..."] (in the repository's
# root, after local/experiments.sh; local/fresh_talks.sh makes the test sets dev and eval). A variant is a system, aware
# or carry, or <system>_<change>.
set -euo pipefail

student="--encoder_conf injection_conf.student"
memory="--encoder_conf injection_conf.memory"
feeding="--encoder_conf injection_conf.teacher_feeding"
loss="--model_conf distillation_conf.loss"
declare -A change=(  # of conf/context/<system>.yaml
    [mean]="${student}.pooling=mean ${student}.num_tokens=1"
    [attentive]="${student}.pooling=attentive ${student}.num_tokens=1"
    [conv_max]="${student}.pooling=conv_max ${student}.num_tokens=1"
    [one_query]="${student}.pooling=multi_query ${student}.num_tokens=1"
    [multi_query]="${student}.pooling=multi_query ${student}.num_tokens=4"
    [stop_gradient]="${student}.stop_gradient=true"
    [gradient]="${student}.stop_gradient=false"
    [teacher_fed]="${feeding}=1.0"
    [scheduled]="${feeding}=[1.0,0.0,600]"
    [in_order]="--session_batches true"
    [alpha0]="--model_conf alpha=0.0"
    [alpha90]="--model_conf alpha=0.9"
    [alpha99]="--model_conf alpha=0.99"
    [infonce]="${loss}=infonce"
    [mse]="${loss}=mse"
    [cosine]="${loss}=cosine"
    [opened]="${student}.pooling=conv_max ${student}.stop_gradient=true ${feeding}=1.0 --model_conf alpha=0.9"
    [memory_mean]="${memory}={\"kind\":\"mean\",\"decay\":0.8} ${loss}=cosine"
    [memory_last]="${memory}={\"kind\":\"last\",\"last\":4} ${loss}=cosine"
    [decay1]="${memory}.decay=1.0"
    [past]="--encoder_conf injection_conf.current=false"
)
seeds=1
test_set="test"
variants="aware aware_mean aware_conv_max aware_multi_query aware_alpha0 aware_alpha90 aware_alpha99 aware_stop_gradient
    aware_teacher_fed aware_scheduled aware_infonce aware_mse aware_opened carry carry_mean carry_attentive carry_conv_max carry_one_query
    carry_gradient carry_teacher_fed carry_in_order carry_scheduled carry_cosine carry_memory_mean carry_memory_last carry_decay1
    carry_past"
help_message="Usage: $0 [--seeds 1] [--test_set test] [--variants \"${variants}\"]; changes: ${!change[*]}"
. utils/parse_options.sh
. ./path.sh
export OMP_NUM_THREADS=1

args_of() {  # <variant>: its arguments of asr_train
    case $1 in
        aware | carry) ;;
        aware_?* | carry_?*) [ -n "${change[${1#*_}]+set}" ] && echo "${change[${1#*_}]}" ;;
        *) false ;;
    esac || { echo "$0: no such variant: $1 (--variants); aware, carry, or <system>_<change>, the changes: ${!change[*]}" >&2; return 1; }
}
for variant in ${variants}; do args_of "${variant}" > /dev/null; done

contexts() {  # for all variants of a seed, before they run side by side; and what they are compared with
    recogniser --test_sets "${test_set}" --stage 3 --skip_stages 5 --stop_stage 4
    for name in generated carry "carry --test_context generated"; do
        # shellcheck disable=SC2086  # with its option
        ctx ${name} --test_sets "${test_set}" --stage 6 --stop_stage 7
    done
    for name in none generated; do system "${name}" "${name}" --test_sets "${test_set}" --stage 11 --stop_stage 12; done
}
one() {  # <variant>
    local fed args name=${1%%_*}
    args=$(args_of "$1")
    system "${name}" "$1" --asr_args "${args}" --test_sets "${test_set}" --stage 10 --stop_stage 12
    local/student_report.sh "${seed}" "$1" "${test_set}"
    [ "${name}" = carry ] || return 0
    for fed in none generated; do
        system carry "$1" --asr_args "${args}" --test_sets "${test_set}" --test_context "${fed}" --stage 11 --stop_stage 12
    done
}

pids=()
failed=false
for seed in ${seeds}; do
    . local/chain.sh
    mkdir -p "${expdir}/ablation"
    contexts > "${expdir}/ablation/contexts.log" 2>&1
    for variant in ${variants}; do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do sleep 1; done
        one "${variant}" > "${expdir}/ablation/${variant}.log" 2>&1 &
        pids+=($!)
    done
done
for pid in "${pids[@]}"; do wait "${pid}" || failed=true; done
report=exp/ablation/report_${test_set}.md
local/ablation_table.py --exp exp --dataset "decode_ctc_asr_model_valid.loss.ave/${test_set}" --out "${report}"
! "${failed}" || { echo "$0: not every variant has finished; see exp/*/ablation/*.log and exp/ablation/*.log" >&2; exit 1; }

#!/usr/bin/env bash
# What the student of `aware` should be: one variant a line, each trained on from the context-free model of
# local/experiments.sh with the budget of all systems, decoded and scored. Stopped and started again, it goes on.
#
# Usage: local/ablation.sh [--seed 1] [--variants "mean conv_max ..."] (in the repository's root, after local/experiments.sh)
set -euo pipefail

declare -A change=(  # of conf/context/aware.yaml
    [mean]="--encoder_conf injection_conf.student.pooling=mean"
    [conv_max]="--encoder_conf injection_conf.student.pooling=conv_max"
    [multi_query]="--encoder_conf injection_conf.student.pooling=multi_query --encoder_conf injection_conf.student.num_tokens=4"
    [alpha0]="--model_conf alpha=0.0"
    [alpha90]="--model_conf alpha=0.9"
    [alpha99]="--model_conf alpha=0.99"
    [stop_gradient]="--encoder_conf injection_conf.student.stop_gradient=true"
    [teacher_fed]="--encoder_conf injection_conf.teacher_feeding=1.0"
    [scheduled]="--encoder_conf injection_conf.teacher_feeding=[1.0,0.0,600]"
    [infonce]="--model_conf distillation_conf.loss=infonce"
    [mse]="--model_conf distillation_conf.loss=mse"
    [opened]="--encoder_conf injection_conf.student.pooling=conv_max --encoder_conf injection_conf.student.stop_gradient=true
        --encoder_conf injection_conf.teacher_feeding=1.0 --model_conf alpha=0.9"
)
seed=1
variants="mean conv_max multi_query alpha0 alpha90 alpha99 stop_gradient teacher_fed scheduled infonce mse opened"
help_message="Usage: $0 [--seed 1] [--variants \"${variants}\"]"
. utils/parse_options.sh
. ./path.sh
export OMP_NUM_THREADS=1

. local/chain.sh

one() {  # <variant>
    system aware "aware_$1" --asr_args "${change[$1]}" --stage 10 --stop_stage 12
    local/student_report.sh "${seed}" "aware_$1"
}

mkdir -p "${expdir}/ablation"
pids=()
for variant in ${variants}; do
    [ -n "${change[${variant}]+set}" ] || { echo "no such variant: ${variant}; there are: ${!change[*]}" >&2; exit 1; }
    [ "${#pids[@]}" -lt 2 ] || wait "${pids[-2]}"
    one "${variant}" > "${expdir}/ablation/${variant}.log" 2>&1 &
    pids+=($!)
done
wait "${pids[@]}"
local/ablation_table.py --exp "${expdir}" --out "${expdir}/ablation/report.md"

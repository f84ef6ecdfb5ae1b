#!/usr/bin/env bash
# The figures of RESULTS.md: all systems and the oracle, several seeds of the whole chain after the upstream.
# Two seeds run side by side, one thread each. Stopped and started again, it goes on where it was, after ./run.sh too.
#
# Usage: local/experiments.sh [--task asr|slu|cls] [--seeds "1 2 3"] [--systems "none prev_text generated aware oracle"]
# (in the repository's root)
set -euo pipefail

task=asr
seeds="1 2 3"
systems="none prev_text generated aware oracle"
help_message="Usage: $0 [--task asr|slu|cls] [--seeds \"1 2 3\"] [--systems \"none prev_text generated aware oracle\"]"
. utils/parse_options.sh
. ./path.sh
export OMP_NUM_THREADS=1
suffix=  # of the logs and the report
[ "${task}" = asr ] || suffix=_${task}

one_seed() {  # <seed>
    local name dset out seed=$1
    . local/chain.sh
    [ "${task}" = asr ] || recogniser --stage 3 --skip_stages 5 --stop_stage 10
    base --stage 3 --skip_stages 5 --stop_stage 10
    for name in ${systems}; do
        if [ "${name}" != oracle ]; then
            system "${name}" "${name}" --stage 6 --stop_stage 12
            continue
        fi
        for dset in train valid test; do
            out=${dumpdir}/context/topic_n4_oracle_minilm_mean/${dset}
            [ -f "${out}/context.json" ] || local/oracle_context.py --data "data/${dset}" --out "${out}"
        done
        system generated oracle --llm oracle --stage 7 --stop_stage 12
    done
    case "${task} ${systems} " in "asr "*" aware "*) local/student_report.sh "${seed}" aware ;; esac
}

# the corpus and its tokens are the same for all; whatever is trained, the LLM too, is trained anew for each seed
(seed=1; . local/chain.sh; recogniser --stop_stage 5; ctx none --stage 4 --stop_stage 5)
pids=()
for seed in ${seeds}; do
    [ "${#pids[@]}" -lt 2 ] || wait "${pids[-2]}"
    mkdir -p "exp/seed${seed}"
    one_seed "${seed}" > "exp/seed${seed}/experiments${suffix}.log" 2>&1 &
    pids+=($!)
done
wait "${pids[@]}"
python3 -m espnet_ctx.bin.report --exp exp --task "${task}" --out "exp/report${suffix}"

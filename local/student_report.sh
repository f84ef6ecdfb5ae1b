#!/usr/bin/env bash
# What the student of a system learnt: cosine to its teacher and topic retrieval on the test set, into student_test.json.
#
# Usage: local/student_report.sh <seed> <tag> (in the repository's root)
set -euo pipefail

seed=$1 tag=$2
. ./path.sh
. local/chain.sh
model=${expdir}/asr_${tag}
context=${dumpdir}/context/topic_n4_local_minilm_mean
if [ ! -f "${context}/test/context.scp" ]; then  # `aware` makes no context for a test set
    system generated generated --stage 6 --stop_stage 7
fi
teacher=${context}/test/context.scp
case ${tag} in carry*)
    teacher=${context}/test/next_context.scp
    [ -f "${teacher}" ] || python3 -m espnet_ctx.bin.link_sessions --data_dir "${dumpdir}/raw/test" \
        --context_scp "${context}/test/context.scp" --out "${context}/test" ;;
esac
[ -f "${model}/student_test.json" ] || python3 -m espnet_ctx.bin.student_report --config "${model}/config.yaml" \
    --model "${model}/valid.loss.ave.pth" --data_dir "${dumpdir}/raw/test" --context_scp "${teacher}" \
    --train_context_scp "${context}/train/context.scp" --labels data/test/utt2topic --train_labels data/train/utt2topic \
    --out "${model}/student_test.json"

#!/usr/bin/env bash
# What the student of a system learnt: cosine to its teacher and topic retrieval on a test set, into
# student_<set>.json.
#
# Usage: local/student_report.sh <seed> <tag> [test] (in the repository's root)
set -euo pipefail

seed=$1 tag=$2 set=${3:-test}
. ./path.sh
. local/chain.sh
model=${expdir}/asr_${tag}
context=${dumpdir}/context/topic_n4_local_minilm_mean
if [ ! -f "${context}/${set}/context.scp" ]; then  # `aware` makes no context for a test set
    system generated generated --test_sets "${set}" --stage 6 --stop_stage 7
fi
teacher=${context}/${set}/context.scp
case ${tag} in carry*)
    teacher=${context}/${set}/next_context.scp
    [ -f "${teacher}" ] || python3 -m espnet_ctx.bin.link_sessions --data_dir "${dumpdir}/raw/${set}" \
        --context_scp "${context}/${set}/context.scp" --out "${context}/${set}" ;;
esac
[ -f "${model}/student_${set}.json" ] || python3 -m espnet_ctx.bin.student_report --config "${model}/config.yaml" \
    --model "${model}/valid.loss.ave.pth" --data_dir "${dumpdir}/raw/${set}" --context_scp "${teacher}" \
    --train_context_scp "${context}/train/context.scp" --labels "data/${set}/utt2topic" --train_labels data/train/utt2topic \
    --out "${model}/student_${set}.json"

#!/usr/bin/env bash
# Stage 12 of the default recipe: word error rates on homophones and on the other words, after sclite; or each tag or class.
# Usage: local/score.sh [--pairs <file>] <exp dir of a system>; writes RESULTS_homophones.md beside RESULTS.md.
set -euo pipefail

case $(basename "${!#}") in  # tagged entities and sentiment
    slu_* | cls_*) exec "$(dirname "${BASH_SOURCE[0]}")/../egs2/TEMPLATE/ctx1/score_classes.sh" "$@" ;;
esac

pairs=$(dirname "${BASH_SOURCE[0]}")/mini_talks/homophones.txt
. utils/parse_options.sh

if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "Usage: $0 [--pairs <file>] <exp dir of a system>, e.g. $0 exp/asr_none; got: $*" >&2
    exit 2
fi
exp=$1
results=${exp}/RESULTS_homophones.md
trap 'rm -f "${results}.part"' EXIT

{
    echo "|dataset|words|WER|homophones|homophone WER|wrong twin|WER of other words|"
    echo "|---|---|---|---|---|---|---|"
    for ref in "${exp}"/*/*/score_wer/ref.trn; do
        [ -e "${ref}" ] || { echo "$0: no score_wer below ${exp}: run sclite first (stage 12)" >&2; exit 1; }
        dir=${ref%/score_wer/ref.trn}
        row=$(python3 -m espnet_ctx.bin.score_homophones --ref "${ref}" --hyp "${dir}/score_wer/hyp.trn" \
            --pairs "${pairs}" --out "${dir}/score_homophones/result.json")
        echo "|${dir#"${exp}"/}${row}"
    done
} > "${results}.part"
mv "${results}.part" "${results}"
cat "${results}"

#!/usr/bin/env bash
# Stage 12 of the recipes for named entities and sentiment, as their local/score.sh: each tag or class by itself.
set -euo pipefail

tag_set=combined    # Of named entities: combined, or raw where the texts have raw tags.
criterion=standard  # Of named entities: standard (F1) or label (label-F1).
help_message="Usage: $0 [--tag_set combined|raw] [--criterion standard|label] <exp dir of a system>, e.g. exp/slu_none;
    writes RESULTS_classes.md beside RESULTS.md"
. utils/parse_options.sh

if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "${help_message}; got: $*" >&2
    exit 2
fi
case $(basename "$1") in asr_*) exit ;; esac  # sclite has said all
results=$1/RESULTS_classes.md
trap 'rm -f "${results}.part"' EXIT
python3 -m espnet_ctx.bin.show_classes --tag_set "${tag_set}" --criterion "${criterion}" "$1" > "${results}.part"
mv "${results}.part" "${results}"
cat "${results}"

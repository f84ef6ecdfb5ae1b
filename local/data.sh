#!/usr/bin/env bash
# Stage 1 of the default recipe: writes and voices the corpus mini_talks. Run from the recipe's directory.
set -euo pipefail

nj=$(nproc)                  # processes
datadir=data                 # where train, valid and test are written
wavdir=downloads/mini_talks  # where the recordings go
help_message="Usage: $0 [--nj <processes>] [--datadir <folder>] [--wavdir <folder>]"
. ./path.sh
. utils/parse_options.sh

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) $*"; }

datadirs=()
for set in train valid test; do
    python3 "${here}/mini_talks/generate.py" --split "${set}" --datadir "${datadir}/${set}" --wavdir "${wavdir}/${set}"
    datadirs+=("${datadir}/${set}")
done
python3 "${here}/mini_talks/voice.py" --nj "${nj}" "${datadirs[@]}"
log "mini_talks is in ${datadirs[*]}"

#!/usr/bin/env bash
# Stage 1: SLUE-VoxPopuli with its named entities -> data/{train,valid,test}; the options are those of asr1.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/../../asr1/local/data.sh" --task slu "$@"

#!/usr/bin/env bash
# Stage 1: SLUE-VoxPopuli with its named entities -> data/{train,valid,test}; --help lists the options.
set -euo pipefail

exec python3 "$(dirname "${BASH_SOURCE[0]}")/../../asr1/local/prepare.py" --task slu "$@"

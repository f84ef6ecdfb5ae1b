#!/usr/bin/env bash
# Stage 1: SLUE-VoxCeleb -> data/{train,valid,test}. Run in the recipe's directory; --help lists the options.
set -euo pipefail

exec python3 "$(dirname "${BASH_SOURCE[0]}")/prepare.py" "$@"

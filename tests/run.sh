#!/usr/bin/env bash
# All checks: lint, the unit tier, then the recipe tier. Builds the environment when it is missing. No network after that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
export HF_HUB_OFFLINE=1

tier() {  # <name> <command> [argument]...
    local name=$1 begin=${SECONDS}
    shift
    echo "== ${name}: $*"
    "$@"
    echo "== ${name}: $((SECONDS - begin)) s"
}

mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
tier "lint (Python)" ruff check .
tier "lint (shell)" shellcheck -x "${scripts[@]}"
tier "unit tests" python3 -m pytest -q -m "not recipe"
tier "recipe tests" python3 -m pytest -q -m recipe

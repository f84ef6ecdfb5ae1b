#!/usr/bin/env bash
# All checks: lint, the unit tier, then the recipe tier. Builds the environment when it is missing. No network after that.
#
# Usage: tests/run.sh [unit]   (unit: without the recipe tier)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "$*" in "" | unit) ;; *) echo "Usage: $0 [unit]; got: $*" >&2; exit 2 ;; esac
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
tests=(python3 -m pytest -q -n 2 --durations 10)
tier "lint (Python)" ruff check .
tier "lint (shell)" shellcheck -x "${scripts[@]}"
tier "unit tests" "${tests[@]}" --dist worksteal -m "not recipe"
# recipes share what a module or a class has made
[ "${1:-}" = unit ] || tier "recipe tests" "${tests[@]}" --dist loadscope -m recipe tests/recipes

#!/usr/bin/env bash
# Puts KenLM's lmplz, which estimates n-grams, into the environment, unless it is on the PATH: no package brings it.
# Builds it from KenLM's source distribution, about two minutes; needs cmake, a C++ compiler and Boost.
set -euo pipefail

version=0.3.0
packages=(cmake g++ make libboost-program-options-dev libboost-system-dev libboost-thread-dev libboost-test-dev zlib1g-dev)

if command -v lmplz > /dev/null; then
    exit
fi
bin=$(dirname "$(command -v python3)")
folder=$(mktemp -d)
trap 'rm -rf "${folder}"' EXIT

fail() {
    echo "$0: error: $*; the log's end:" >&2
    tail -n 15 "${folder}/log" >&2
    exit 1
}
echo "$0: building KenLM ${version}'s lmplz into ${bin} (about two minutes, once)" >&2
if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } > "${folder}/log" 2>&1 ||
        fail "apt-get install ${packages[*]}"
fi
{
    python3 -m pip download --quiet --no-deps --no-binary kenlm "kenlm==${version}" -d "${folder}" &&
        tar -xzf "${folder}/kenlm-${version}.tar.gz" -C "${folder}" &&
        cmake -S "${folder}/kenlm-${version}" -B "${folder}/build" -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "${folder}/build" --target lmplz --parallel "$(nproc)"
} > "${folder}/log" 2>&1 || fail "lmplz could not be built (it needs, by their Debian names: ${packages[*]})"
mv "${folder}/build/bin/lmplz" "${bin}/lmplz.part" && mv "${bin}/lmplz.part" "${bin}/lmplz"

#!/usr/bin/env bash
# Downloads a file whole or not at all; an interrupted download goes on where it stopped.
# Usage: download.sh <url> <file> <option to give the data instead>
set -euo pipefail

if [ $# -ne 3 ]; then
    echo "Usage: $0 <url> <file> <option to give the data instead>, got: $*" >&2
    exit 2
fi
url=$1 file=$2 option=$3

[ ! -s "${file}" ] || exit 0
mkdir -p "$(dirname "${file}")"
echo "$0: downloading ${url}" >&2
if ! curl --fail --location --retry 3 --connect-timeout 30 --progress-bar --continue-at - \
    --output "${file}.part" "${url}"; then
    echo "$0: error: could not download ${url}. Run the same command again to go on with what has arrived," \
        "or give a copy that you have with ${option}" >&2
    exit 1
fi
mv "${file}.part" "${file}"

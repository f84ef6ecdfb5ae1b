# shellcheck shell=bash
# Sourced: keeps what is whole and redoes what is not. A step's stamp holds a key, the hash of its options and of the
# contents of its inputs, and is written after the step's outputs. Needs a function `log`.

# Prints one hash over a text (the options) and the contents of files. A folder counts with the files directly in it,
# except hidden ones; a missing file counts as missing; files above 64 MiB count by size and time, to stay quick.
fingerprint() {  # <text> <file or folder>...
    local text=$1 path name
    shift
    {
        printf '%s\n' "${text}"
        for path in "$@"; do
            if [ -d "${path}" ]; then
                find -L "${path}" -maxdepth 1 -type f ! -name '.*' -printf '%f\n' | sort | while read -r name; do
                    echo "${name} $(_hash_file "${path}/${name}")"
                done
            else
                _hash_file "${path}"
            fi
        done
    } | sha1sum | cut -c 1-40
}

_hash_file() {  # <file>
    if [ ! -e "$1" ]; then
        echo missing
    elif [ "$(stat -L -c %s "$1")" -gt 67108864 ]; then
        stat -L -c '%s %Y' "$1"
    else
        sha1sum < "$1"
    fi
}

# Runs a command unless its stamp holds the key and its outputs are there. Whoever wants the same stamp meanwhile
# waits; the lock is on the stamp's folder and lives as long as the command and its children.
refresh() {  # <stamp> <key> <output>... -- <command> [argument]...
    local stamp=$1 key=$2 lock output
    local -a outputs=()
    shift 2
    while [ "$1" != -- ]; do
        outputs+=("$1")
        shift
    done
    shift
    mkdir -p "$(dirname "${stamp}")"
    exec {lock}< "$(dirname "${stamp}")"
    flock -n "${lock}" || { log "Waiting for another run that is making $(dirname "${stamp}")"; flock "${lock}"; }
    if is_fresh "${stamp}" "${key}" "${outputs[@]}"; then
        log "Up to date: $(dirname "${stamp}")"
    else
        rm -f "${stamp}"
        "$@"
        for output in "${outputs[@]}"; do
            [ -s "${output}" ] || { log "Error: ${output} is missing or empty after: $*"; return 1; }
        done
        write_stamp "${stamp}" "${key}"
    fi
    exec {lock}<&-
}

write_stamp() {  # <stamp> <key>
    echo "$2" > "$1.part" && mv "$1.part" "$1"
}

is_fresh() {  # <stamp> <key> <output>...
    local stamp=$1 key=$2 output
    shift 2
    [ "$(cat "${stamp}" 2> /dev/null)" = "${key}" ] || return
    for output in "$@"; do
        [ -s "${output}" ] || return
    done
}

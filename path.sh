# shellcheck shell=bash
# Sourced by every script: makes the environment where it is missing, then puts it on the paths.
#
# ESPNET_ROOT, when set, names an ESPnet checkout that goes before the installed espnet.

_root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
_uv_version=0.13.8

# Asks for a system program: installs its package when root, else says how.
_need_program() {  # <program> <Debian package>
    command -v "$1" > /dev/null && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
        echo "path.sh: installing the system package '$2' (for $1)" >&2
        apt-get update -qq >&2 && apt-get install -y -qq "$2" >&2
    fi
    command -v "$1" > /dev/null && return
    echo "path.sh: error: the program '$1' is missing. Install it with: sudo apt-get install $2" >&2
    return 1
}

# The stamp is written last: an environment that an interruption left half-made is finished on the next run.
_need_environment() {
    local stamp=${_root}/.venv/requirements.sha256 want
    want=$(sha256sum < "${_root}/requirements.txt")
    _is_made() { [ "$(cat "${stamp}" 2> /dev/null)" = "${want}" ]; }
    _is_made && return
    (
        exec 9< "${_root}"
        flock 9
        _is_made && exit
        echo "path.sh: installing requirements.txt into .venv (about 3 minutes, once)" >&2
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            { echo "path.sh: error: Python 3.10 or later is needed, found $(python3 --version 2>&1)" >&2; exit 1; }
        [ -x "${_root}/.venv/bin/pip" ] || python3 -m venv --clear "${_root}/.venv" >&2 ||
            { echo "path.sh: error: 'python3 -m venv' failed. On Debian: sudo apt-get install python3-venv" >&2; exit 1; }
        "${_root}/.venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==${_uv_version}" >&2 &&
            "${_root}/.venv/bin/python" -m uv pip install --python "${_root}/.venv/bin/python" \
                -r "${_root}/requirements.txt" >&2 ||
            { echo "path.sh: error: the installation stopped; run the same command again to resume it" >&2; exit 1; }
        echo "${want}" > "${stamp}.part" && mv "${stamp}.part" "${stamp}"
    ) || return
}

export PATH="${_root}/.venv/bin:${PWD}/utils:/usr/lib/sctk/bin:${PATH}"
# shellcheck disable=SC2317  # `exit` is reached when the file is run instead of sourced
{ _need_environment && _need_program sclite sctk && _need_program espeak-ng espeak-ng; } || return 1 2> /dev/null || exit 1

export PYTHONPATH="${ESPNET_ROOT:+${ESPNET_ROOT}:}${_root}${PYTHONPATH:+:${PYTHONPATH}}"
export LC_ALL=C PYTHONIOENCODING=UTF-8
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# glibc would give the memory of every large tensor back to the system and fault it in again at every step
export MALLOC_MMAP_MAX_=${MALLOC_MMAP_MAX_:-0} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-4000000000}

# shellcheck shell=bash
# Sourced: turns `--some-name value` or `--some_name=value` into some_name=value for variables that the sourcing
# script has given a default; where that is true, false or a whole number, so must the value be. `--help` prints ${help_message}. Stops at the first argument that is no option.

declare -A _defaults=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h)
            echo "${help_message:-No help for $0}"
            exit 0
            ;;
        --)
            shift
            break
            ;;
        --*=*)
            _name=${1%%=*}
            _value=${1#*=}
            shift
            ;;
        --*)
            if [ $# -lt 2 ]; then
                echo "$0: error: option $1 needs a value" >&2
                exit 2
            fi
            _name=$1
            _value=$2
            shift 2
            ;;
        *) break ;;
    esac
    _option=${_name}
    _name=${_name#--}
    _name=${_name//-/_}
    if ! [[ ${_name} =~ ^[a-z][a-z0-9_]*$ ]] || [ -z "${!_name+declared}" ]; then
        echo "$0: error: unknown option ${_option}; '$0 --help' lists the options" >&2
        exit 2
    fi
    _default=${_defaults[${_name}]=${!_name}}
    if [[ ${_default} =~ ^(true|false)$ ]] && ! [[ ${_value} =~ ^(true|false)$ ]]; then
        echo "$0: error: option ${_option} takes true or false, got '${_value}'" >&2
        exit 2
    fi
    if [[ ${_default} =~ ^[0-9]+$ ]] && ! [[ ${_value} =~ ^[0-9]+$ ]]; then
        echo "$0: error: option ${_option} takes a whole number, got '${_value}'" >&2
        exit 2
    fi
    printf -v "${_name}" %s "${_value}"
done
unset _name _value _option _default _defaults

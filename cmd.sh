# shellcheck shell=bash
# How jobs are started: `<cmd> [--gpu N] [--num-threads N] [--mem SIZE] [JOB=1:N] <log> <command>...`.
#
# cmd_backend: local (our small runner), or Kaldi's sge, slurm, pbs, ssh from an ESPnet checkout that ESPNET_ROOT
# names; those read conf/queue.conf, conf/slurm.conf or conf/pbs.conf.

cmd_backend=${cmd_backend:-local}
_runner=
case ${cmd_backend} in
    local) _runner=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/utils/run.py ;;
    sge) _runner=queue.pl ;;
    slurm | pbs | ssh) _runner=${cmd_backend}.pl ;;
    *) echo "cmd.sh: error: unknown cmd_backend '${cmd_backend}'; one of local, sge, slurm, pbs, ssh" >&2; return 1 ;;
esac
if [ "${cmd_backend}" != local ]; then
    _utils=${ESPNET_ROOT:-}/egs2/TEMPLATE/asr1/utils
    if [ ! -x "${_utils}/${_runner}" ]; then
        echo "cmd.sh: error: cmd_backend=${cmd_backend} takes Kaldi's ${_runner} from an ESPnet checkout, and" \
            "${_utils}/${_runner} is not there; set ESPNET_ROOT" >&2
        return 1
    fi
    _runner=${_utils}/${_runner}
fi
export train_cmd=${_runner}   # short CPU jobs
export cuda_cmd=${_runner}    # training; --gpu is appended
export decode_cmd=${_runner}  # decoding

# What all systems of the default recipe share; sourced by run.sh and by the experiments, in the repository's root.
# They set `seed`: seed 1 lives in exp/ and dump/, any other in exp/seed<N>/ and dump/seed<N>/; and, if it is not asr, `task`.
# shellcheck shell=bash

: "${seed:?}"
expdir=exp dumpdir=dump
[ "${seed}" = 1 ] || expdir=exp/seed${seed} dumpdir=dump/seed${seed}

ctx() {  # <context> <option>...
    local/ctx.sh --task "${task:-asr}" --context "$1" --seed "${seed}" --expdir "${expdir}" --dumpdir "${dumpdir}" "${@:2}"
}
recogniser() { task=asr ctx none --asr_tag base "$@"; }
base() {  # the task's context-free model; what says entities or a sentiment starts from the recogniser's encoder
    if [ "${task:-asr}" = asr ]; then recogniser "$@"; return; fi
    ctx none --asr_tag base --init_param "${expdir}/asr_base/valid.loss.ave.pth:encoder:encoder" "$@"
}
system() {  # <context> <tag> <option>...: trains on from the context-free base, all with the same budget
    ctx "$1" --asr_tag "$2" --asr_overlay conf/finetune_asr.yaml --init_param "${expdir}/${task:-asr}_base/valid.loss.ave.pth" "${@:3}"
}

#!/usr/bin/env bash
# Pre-trains the tiny HuBERT that the recipes of this repository start from. Its weights are in model/ already:
# run this to make them anew, or on more speech. Stop it and run it again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

stage=1
stop_stage=6
nj=$(nproc)         # processes of one thread
talks=230           # talks of mini_talks to speak, of about one minute
slue_dir=           # SLUE-VoxPopuli: its fine-tune set is heard (default: no)
librispeech_dir=    # LibriSpeech dev-clean: its first 14 speakers are heard (default: no)
config=conf/pretrain.json
expdir=exp
help_message="Usage: $0 [--stage 1] [--stop_stage 6] [--nj N] [--talks N] [--slue_dir D] [--librispeech_dir D] [--config F] [--expdir D]"
. ./path.sh
. utils/parse_options.sh

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (run.sh) $*"; }

clusters() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]]["clusters"])' "${config}" "$1"; }

pretrain() {
    OMP_NUM_THREADS=1 python3 -m torch.distributed.run --standalone --nproc_per_node "${nj}" \
        local/pretrain.py --config "${config}" --audio "${expdir}/audio" "$@"
}

run_stage() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]; }

if run_stage 1; then
    log "Stage 1: audio"
    python3 local/prepare_audio.py --out "${expdir}/audio" --talks "${talks}" --nj "${nj}" \
        ${slue_dir:+--slue_dir "${slue_dir}"} ${librispeech_dir:+--librispeech_dir "${librispeech_dir}"}
fi

if run_stage 2; then
    log "Stage 2: first iteration: clusters of MFCC"
    python3 local/make_targets.py --audio "${expdir}/audio" --clusters "$(clusters iteration1)" --out "${expdir}/iter1/labels.npy"
fi

if run_stage 3; then
    log "Stage 3: first iteration: masked prediction"
    pretrain --iteration 1 --labels "${expdir}/iter1/labels.npy" --out "${expdir}/iter1"
fi

if run_stage 4; then
    log "Stage 4: second iteration: clusters of the third layer's outputs"
    python3 local/make_targets.py --audio "${expdir}/audio" --clusters "$(clusters iteration2)" \
        --model "${expdir}/iter1/model" --layer 3 --out "${expdir}/iter2/labels.npy"
fi

if run_stage 5; then
    log "Stage 5: second iteration: masked prediction"
    pretrain --iteration 2 --labels "${expdir}/iter2/labels.npy" --init "${expdir}/iter1/model" --out "${expdir}/iter2"
fi

if run_stage 6; then
    log "Stage 6: third iteration: clusters of the third layer's outputs"
    python3 local/make_targets.py --audio "${expdir}/audio" --clusters "$(clusters iteration3)" \
        --model "${expdir}/iter2/model" --layer 3 --out "${expdir}/iter3/labels.npy"
    pretrain --iteration 3 --labels "${expdir}/iter3/labels.npy" --init "${expdir}/iter2/model" --out "${expdir}/iter3"
    log "The model is ${expdir}/iter3/model"
fi

#!/usr/bin/env bash
# Stage 1: SLUE-VoxPopuli -> data/{train,valid,test}. Run in the recipe's directory.
set -euo pipefail

slue_dir=    # Folder of slue-voxpopuli_fine-tune.tsv (default: the official release, downloaded: 2 GB).
hf_copy=     # In its place: asapp/slue of the Hugging Face Hub, or a folder of it (needs the package datasets).
asr_en_tsv=  # VoxPopuli's asr_en.tsv or asr_en.tsv.gz, for previous texts that SLUE leaves out (default: none).
task=asr     # asr: normalized texts. slu: texts as released, with the named entities in utt2ner.
url=https://public-dataset-model-store.awsdev.asapp.com/users/sshon/public/slue/slue-voxpopuli_v0.2_blind.zip
help_message="Usage: $0 [--slue_dir <folder> | --hf_copy <id or folder>] [--asr_en_tsv <file>] [--task asr|slu] [--url <zip>]"
. utils/parse_options.sh

if [ -n "${hf_copy}" ]; then
    release=(--hf_copy "${hf_copy}")
else
    if [ -z "${slue_dir}" ]; then
        slue_dir=downloads/slue-voxpopuli
        python3 -m espnet_ctx.bin.fetch_archive --url "${url}" --content slue-voxpopuli --out downloads \
            --instead "--local_data_opts '--slue_dir <folder>'"
    fi
    release=(--slue_dir "${slue_dir}")
fi
python3 "$(dirname "${BASH_SOURCE[0]}")/prepare.py" "${release[@]}" ${asr_en_tsv:+--asr_en_tsv "${asr_en_tsv}"} \
    --task "${task}" --datadir data

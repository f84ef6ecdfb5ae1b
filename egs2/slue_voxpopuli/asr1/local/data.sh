#!/usr/bin/env bash
# Stage 1: SLUE-VoxPopuli -> data/{train,valid,test}. Run in the recipe's directory.
set -euo pipefail

slue_dir=    # Folder of slue-voxpopuli_fine-tune.tsv (default: the official release, downloaded: 2 GB).
asr_en_tsv=  # VoxPopuli's asr_en.tsv or asr_en.tsv.gz, for previous texts that SLUE leaves out (default: none).
url=https://public-dataset-model-store.awsdev.asapp.com/users/sshon/public/slue/slue-voxpopuli_v0.2_blind.zip
help_message="Usage: $0 [--slue_dir <folder>] [--asr_en_tsv <file>] [--url <zip>]"
. utils/parse_options.sh

if [ -z "${slue_dir}" ]; then
    slue_dir=downloads/slue-voxpopuli
    if [ ! -d "${slue_dir}" ]; then
        zip=downloads/$(basename "${url}")
        utils/download.sh "${url}" "${zip}" "--local_data_opts '--slue_dir <folder>'"
        if ! unzip -tq "${zip}" > /dev/null; then
            rm "${zip}"
            echo "$0: error: ${zip} was damaged and is deleted: run the same command again" >&2
            exit 1
        fi
        rm -rf downloads/unpacking
        unzip -q "${zip}" -d downloads/unpacking
        mv downloads/unpacking/slue-voxpopuli "${slue_dir}"
        rm -r downloads/unpacking
    fi
fi
python3 local/prepare.py --slue_dir "${slue_dir}" ${asr_en_tsv:+--asr_en_tsv "${asr_en_tsv}"} --datadir data

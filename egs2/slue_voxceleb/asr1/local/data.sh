#!/usr/bin/env bash
# Stage 1: SLUE-VoxCeleb -> data/{train,valid,test}. Run in the recipe's directory.
set -euo pipefail

slue_dir=  # Folder of slue-voxceleb_fine-tune.tsv (default: the official release, downloaded).
hf_copy=   # In its place: asapp/slue of the Hugging Face Hub, or a folder of it (needs the package datasets).
url=https://public-dataset-model-store.awsdev.asapp.com/users/sshon/public/slue/slue-voxceleb_v0.2_blind.zip
help_message="Usage: $0 [--slue_dir <folder> | --hf_copy <id or folder>] [--url <zip>]"
. utils/parse_options.sh

if [ -n "${hf_copy}" ]; then
    release=(--hf_copy "${hf_copy}")
else
    if [ -z "${slue_dir}" ]; then
        slue_dir=downloads/slue-voxceleb
        python3 -m espnet_ctx.bin.fetch_archive --url "${url}" --content slue-voxceleb --out downloads \
            --instead "--local_data_opts '--slue_dir <folder>'"
    fi
    release=(--slue_dir "${slue_dir}")
fi
python3 "$(dirname "${BASH_SOURCE[0]}")/prepare.py" "${release[@]}" --datadir data

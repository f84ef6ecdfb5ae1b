#!/usr/bin/env bash
# Stage 1: whole chapters of a part of LibriSpeech -> data/{train,valid,test}. Run in the recipe's directory.
set -euo pipefail

librispeech_dir=  # Folder of the part's folder (default: the part is downloaded from OpenSLR).
part=dev-clean    # Part of LibriSpeech; its speakers are split into training, validation and test.
url=https://www.openslr.org/resources/12
help_message="Usage: $0 [--librispeech_dir <folder>] [--part dev-clean] [--url <folder of part.tar.gz and md5sum.txt>]"
. utils/parse_options.sh

if [ -z "${librispeech_dir}" ]; then
    librispeech_dir=downloads/LibriSpeech
    python3 -m espnet_ctx.bin.fetch_archive --url "${url}/${part}.tar.gz" --md5sum "${url}/md5sum.txt" \
        --contents "LibriSpeech/${part}" --out "${librispeech_dir}" --instead "--local_data_opts '--librispeech_dir <folder>'"
fi
python3 local/prepare.py --librispeech_dir "${librispeech_dir}" --part "${part}" --datadir data

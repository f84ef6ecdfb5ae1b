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
    if [ ! -d "${librispeech_dir}/${part}" ]; then
        archive=downloads/${part}.tar.gz
        option="--local_data_opts '--librispeech_dir <folder>'"
        utils/download.sh "${url}/md5sum.txt" downloads/md5sum.txt "${option}"
        md5=$(awk -v NAME="${part}.tar.gz" '$2 == NAME { print $1 }' downloads/md5sum.txt)
        if [ -z "${md5}" ]; then
            echo "$0: error: ${url}/md5sum.txt has no ${part}.tar.gz (option --part); it has:" \
                "$(awk '{ print $2 }' downloads/md5sum.txt | xargs)" >&2
            exit 1
        fi
        utils/download.sh "${url}/${part}.tar.gz" "${archive}" "${option}"
        if [ "$(md5sum < "${archive}" | cut -d' ' -f1)" != "${md5}" ]; then
            rm "${archive}"
            echo "$0: error: ${archive} was damaged (MD5 is not ${md5}) and is deleted: run the same command again" >&2
            exit 1
        fi
        rm -rf downloads/unpacking
        mkdir -p downloads/unpacking "${librispeech_dir}"
        tar -xzf "${archive}" -C downloads/unpacking
        mv "downloads/unpacking/LibriSpeech/${part}" "${librispeech_dir}"
        rm -r downloads/unpacking
    fi
fi
python3 local/prepare.py --librispeech_dir "${librispeech_dir}" --part "${part}" --datadir data

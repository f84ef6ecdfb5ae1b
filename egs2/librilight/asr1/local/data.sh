#!/usr/bin/env bash
# Stage 1: Libri-light's limited supervision -> data/train_{10min,1h,10h}, parts of LibriSpeech -> data/dev_clean etc.
# Run in the recipe's directory.
set -euo pipefail

librilight_dir=   # Folder of 1h/ and 9h/ (default: librispeech_finetuning.tgz, downloaded: 0.6 GB).
librispeech_dir=  # Folder of the parts to test on (default: downloaded from OpenSLR), and of train-*, if it has them: the
                  # full transcripts are where previous texts come from that Libri-light leaves out.
parts="dev-clean dev-other test-clean test-other"  # Parts of LibriSpeech to test on, separated by commas or spaces.
url=https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz
checksum=sha256:5d1efdc777b548194d7e09ba89126e2188026df9fd57aa57eb14408d2b2342af
librispeech_url=https://www.openslr.org/resources/12
help_message="Usage: $0 [--librilight_dir <folder>] [--librispeech_dir <folder>] [--parts dev-clean,dev-other,...]
    [--url <tgz>] [--checksum sha256:<hex>] [--librispeech_url <folder of part.tar.gz and md5sum.txt>]"
. utils/parse_options.sh

if [ -z "${librilight_dir}" ]; then
    librilight_dir=downloads/librispeech_finetuning
    python3 -m espnet_ctx.bin.fetch_archive --url "${url}" --checksum "${checksum}" --contents librispeech_finetuning \
        --out downloads --instead "--local_data_opts '--librilight_dir <folder>'"
fi
if [ -z "${librispeech_dir}" ]; then
    librispeech_dir=downloads/LibriSpeech
    for part in ${parts//,/ }; do
        python3 -m espnet_ctx.bin.fetch_archive --url "${librispeech_url}/${part}.tar.gz" \
            --md5sum "${librispeech_url}/md5sum.txt" --contents "LibriSpeech/${part}" --out "${librispeech_dir}" \
            --instead "--local_data_opts '--librispeech_dir <folder>'"
    done
fi
# shellcheck disable=SC2086  # parts are separated by spaces
python3 local/prepare.py --librilight_dir "${librilight_dir}" --librispeech_dir "${librispeech_dir}" \
    --parts ${parts//,/ } --datadir data

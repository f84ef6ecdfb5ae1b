"""Download an archive, check it and unpack folders of it. What is there already stays; what was interrupted goes on."""

import argparse
from pathlib import Path

from espnet_ctx.corpora.download import fetch_archive
from espnet_ctx.files import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.fetch_archive \\\n"
        "    --url https://www.openslr.org/resources/12/dev-clean.tar.gz \\\n"
        "    --md5sum https://www.openslr.org/resources/12/md5sum.txt --contents LibriSpeech/dev-clean \\\n"
        "    --out downloads/LibriSpeech --instead '--librispeech_dir <folder>'",
    )
    parser.add_argument("--url", required=True, help="the archive, zip or tar")
    parser.add_argument("--contents", required=True, nargs="+", help="folders in the archive that are wanted")
    parser.add_argument("--out", type=Path, required=True, help="where to put them, by their last names")
    parser.add_argument("--instead", required=True, help="option to give the data otherwise, for messages")
    checksum = parser.add_mutually_exclusive_group()
    checksum.add_argument("--checksum", help="of the archive: sha256:<hex> or md5:<hex>")
    checksum.add_argument("--md5sum", help="URL of a list that has it, as md5sum writes it")
    return parser


def main(cmd=None) -> None:
    """Download and unpack."""
    fetch_archive(**vars(get_parser().parse_args(cmd)))


if __name__ == "__main__":
    run_main(main)

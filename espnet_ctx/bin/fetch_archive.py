"""Download an archive, check it and unpack folders of it. What is there already stays; what was interrupted goes on."""

import argparse
from pathlib import Path

from espnet_ctx.corpora.download import fetch, listed_md5, unpack
from espnet_ctx.files import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m espnet_ctx.bin.fetch_archive \\\n"
        "    --url https://www.openslr.org/resources/12/dev-clean.tar.gz \\\n"
        "    --md5sum https://www.openslr.org/resources/12/md5sum.txt --content LibriSpeech/dev-clean \\\n"
        "    --out downloads/LibriSpeech --instead '--librispeech_dir <folder>'",
    )
    parser.add_argument("--url", required=True, help="the archive, zip or tar")
    parser.add_argument("--content", required=True, nargs="+", help="folders in the archive that are wanted")
    parser.add_argument("--out", type=Path, required=True, help="where to put them, by their last names")
    parser.add_argument("--instead", required=True, help="option to give the data otherwise, for messages")
    checksum = parser.add_mutually_exclusive_group()
    checksum.add_argument("--checksum", help="of the archive: sha256:<hex> or md5:<hex>")
    checksum.add_argument("--md5sum", help="URL of a list that has it, as md5sum writes it")
    return parser


def main(cmd=None) -> None:
    """Download and unpack."""
    args = get_parser().parse_args(cmd)
    if all((args.out / Path(content).name).exists() for content in args.content):
        return
    name = Path(args.url).name
    archive = args.out / name
    if not archive.exists():
        checksum = listed_md5(args.md5sum, name, args.instead) if args.md5sum else args.checksum
        fetch(args.url, archive, args.instead, checksum)
    unpack(archive, args.content, args.out)


if __name__ == "__main__":
    run_main(main)

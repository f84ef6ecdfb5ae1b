"""Downloads and archives: whole or not at all, checked, and taken up again where they stopped."""

import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from espnet_ctx.files import NO_ROOM, UserError

TIMEOUT = 30  # seconds without a byte
PORTION = 1 << 20  # bytes read at a time
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,  # a header says that it is encrypted, or packed in a way that there is not
)


def fetch_archive(
    url: str, contents: Sequence[str], out, instead: str, checksum: str | None = None, md5sum: str | None = None
) -> None:
    """Download an archive and unpack folders of it; what is there already stays.

    Args:
        url: of a zip or tar file.
        contents: the wanted folders in it, such as `LibriSpeech/dev-clean`.
        out: folder that they are put into, by their last names, and the archive with them.
        instead: how to give the data otherwise, for messages.
        checksum: of the archive, see `fetch`.
        md5sum: URL of a list that has the checksum, see `listed_md5`; in place of `checksum`.

    Raises:
        UserError: see `fetch`, `listed_md5` and `unpack`.
    """
    out = Path(out)
    if all((out / Path(content).name).exists() for content in contents):
        return
    archive = out / Path(url).name
    if not archive.exists():
        fetch(url, archive, instead, listed_md5(md5sum, archive.name, instead) if md5sum else checksum)
    unpack(archive, contents, out)


def fetch(url: str, path, instead: str, checksum: str | None = None) -> None:
    """Download a file; one that is there stays.

    What has arrived stands under `<path>.part` until it is whole and its checksum is right.

    Args:
        url: where it is.
        path: the file to make.
        instead: how to give the data otherwise, for messages.
        checksum: `sha256:<hex>` or `md5:<hex>`; None (default): only the length is checked, where the server tells it.

    Raises:
        UserError: the download failed or broke off (the next call goes on), or the checksum is wrong (what had arrived
            is deleted).
    """
    path = Path(path)
    if path.exists():
        return
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _transfer(url, part)
    except (OSError, HTTPException) as e:
        raise UserError(
            f"could not download {url}: {_reason(e)}. Run the same command again to go on with what has arrived, "
            f"or give a copy that you have with {instead}"
        ) from None
    if checksum and (found := _hash(part, checksum)) != checksum:
        part.unlink()
        raise UserError(
            f"{url} was damaged (its checksum is {found}, not {checksum}) and is deleted: run the same command again"
        )
    os.replace(part, path)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _transfer(url: str, part: Path) -> None:
    """Bring `part` to its full length.

    Raises:
        OSError: the server cannot be reached, refuses, or breaks off.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code != 416 or not have:
            raise
        # nothing is left to send: it is whole, or it is longer than what the server has now
        if e.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
            part.unlink()
            _transfer(url, part)
        return
    with response:
        if response.status != 206:
            have = 0  # a server that knows no ranges sends all of it
        left = response.headers.get("Content-Length")
        total = None if left is None else have + int(left)
        with open(part, "ab" if have else "wb") as f, tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=Path(url).name
        ) as bar:
            while portion := response.read(PORTION):
                f.write(portion)
                bar.update(len(portion))
        if total is not None and part.stat().st_size < total:
            raise OSError(f"it broke off after {part.stat().st_size} of {total} bytes")


def _hash(path: Path, checksum: str) -> str:
    kind = checksum.partition(":")[0]
    digest = hashlib.new(kind)
    with open(path, "rb") as f:
        while portion := f.read(PORTION):
            digest.update(portion)
    return f"{kind}:{digest.hexdigest()}"


def listed_md5(url: str, name: str, instead: str) -> str:
    """Find a file's checksum, `md5:<hex>`, in a list as `md5sum` writes it.

    Raises:
        UserError: the list cannot be had or lacks the file.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            lines = response.read().decode("utf-8").splitlines()
    except (OSError, HTTPException) as e:
        raise UserError(f"could not download {url}: {_reason(e)}. Or give a copy that you have with {instead}") from None
    sums = {file.lstrip("*"): md5 for md5, file in (line.split() for line in lines if line.strip())}
    if name not in sums:
        raise UserError(f"{url} has no {name}; it has: {' '.join(sums)}")
    return f"md5:{sums[name]}"


def unpack(archive, contents: Sequence[str], out) -> None:
    """Unpack folders of an archive into `out`, each under its last name; those that are there stay.

    They are unpacked beside and moved when all of the archive is: a folder that is there is whole.

    Args:
        archive: a zip or tar file. It is deleted when it is damaged (a zip file has checksums of its own).
        contents: folders in it, such as `LibriSpeech/dev-clean`.
        out: folder that they are moved to.

    Raises:
        UserError: the archive is damaged, or lacks a folder; or the disk is full.
    """
    archive, out = Path(archive), Path(out)
    missing = [content for content in contents if not (out / Path(content).name).exists()]
    if not missing:
        return
    beside = out / f".unpacking-{archive.name}"
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was stopped
    beside.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(beside)
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(beside, filter="data")
        for content in missing:
            if not (beside / content).is_dir():
                names = ", ".join(sorted(path.name for path in beside.iterdir()))
                raise UserError(f"{archive} has no folder {content}; it has: {names}")
        for content in missing:
            os.replace(beside / content, out / Path(content).name)
    except _DAMAGE as e:
        archive.unlink()
        reason = str(e).partition("\n")[0]
        raise UserError(f"{archive} was damaged ({reason}) and is deleted: run the same command again") from None
    except OSError as e:
        if e.errno not in NO_ROOM:
            raise
        raise UserError(f"no room to unpack {archive} ({e.strerror}): make room and run the same command again") from e
    finally:
        shutil.rmtree(beside, ignore_errors=True)

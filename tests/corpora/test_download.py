"""Downloads from a server that breaks off, lies, forgets ranges or is not there."""

import errno
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from espnet_ctx.bin import fetch_archive
from espnet_ctx.corpora.download import fetch
from espnet_ctx.files import UserError

DATA = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; `server.broken_after` bytes of a body are sent at most."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        data = self.server.files.get(self.path.strip("/"))
        if data is None:
            self.send_error(404)
            return
        begin = 0
        if self.server.knows_ranges and "Range" in self.headers:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if begin >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.wfile.write(data[begin:][: self.server.broken_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.files, made.ranges, made.broken_after, made.knows_ranges = {"data.bin": DATA}, [], None, True
        made.url = f"http://127.0.0.1:{made.server_port}"
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def get(server, path, checksum=None):
    fetch(f"{server.url}/data.bin", path, "--dir <folder>", checksum)


def test_a_file_is_downloaded_once(server, tmp_path):
    path = tmp_path / "new/data.bin"
    get(server, path, sha256(DATA))
    assert path.read_bytes() == DATA and [p.name for p in path.parent.iterdir()] == ["data.bin"]
    get(server, path, sha256(DATA))
    assert server.ranges == [None]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_truncated_download_says_so_and_goes_on(server, tmp_path, knows_ranges):
    server.knows_ranges, server.broken_after = knows_ranges, 1000
    path = tmp_path / "data.bin"
    with pytest.raises(UserError, match=r"it broke off after 1000 of 10240 bytes. Run the same command again .*--dir <folder>"):
        get(server, path, sha256(DATA))
    assert not path.exists() and (tmp_path / "data.bin.part").stat().st_size == 1000
    server.broken_after = None
    get(server, path, sha256(DATA))
    assert path.read_bytes() == DATA and server.ranges == [None, "bytes=1000-"]


def test_what_had_arrived_whole_is_not_fetched_again(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(DATA)
    get(server, tmp_path / "data.bin", sha256(DATA))
    assert (tmp_path / "data.bin").read_bytes() == DATA


def test_more_than_the_server_has_is_fetched_anew(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(DATA + b"of an older file")
    get(server, tmp_path / "data.bin", sha256(DATA))
    assert (tmp_path / "data.bin").read_bytes() == DATA


def test_a_wrong_checksum_deletes_and_the_next_run_is_right(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * 100)  # the beginning of something else
    with pytest.raises(UserError, match="was damaged .its checksum is sha256:.*, not sha256:.* is deleted: run the same"):
        get(server, tmp_path / "data.bin", sha256(DATA))
    assert not list(tmp_path.iterdir())
    get(server, tmp_path / "data.bin", sha256(DATA))
    assert (tmp_path / "data.bin").read_bytes() == DATA


@pytest.mark.parametrize("url, message", [("http://127.0.0.1:9/f", "refused"), ("{}/none", "Not Found")])
def test_no_server_and_no_file_name_the_option(server, tmp_path, url, message):
    url = url.format(server.url)
    with pytest.raises(UserError, match=f"could not download {url}: .*{message}.*give a copy that you have with --dir"):
        fetch(url, tmp_path / "f", "--dir <folder>")
    assert not (tmp_path / "f").exists()


def packed(kind):
    """An archive of `corpus/{a,b}/file`, a folder of many files."""
    buffer = io.BytesIO()
    files = {f"corpus/{part}/file{i}": f"{part}{i}".encode() * 50 for part in "ab" for i in range(5)}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def archive(server, tmp_path):
    """Run the command on an archive of the server."""

    def run(name, *contents, extra=()):
        options = ["--out", str(tmp_path / "downloads"), "--instead", "--dir <folder>", *extra]
        fetch_archive.main(["--url", f"{server.url}/{name}", "--contents", *contents, *options])
        return sorted(path.name for path in (tmp_path / "downloads").iterdir())

    server.files |= {"c.zip": packed("zip"), "c.tgz": packed("tar")}
    return run


@pytest.mark.parametrize("name", ["c.zip", "c.tgz"])
def test_folders_are_unpacked_whole(archive, server, tmp_path, name):
    assert archive(name, "corpus/a", extra=["--checksum", sha256(server.files[name])]) == ["a", name]
    assert (tmp_path / "downloads/a/file3").read_bytes() == b"a3" * 50
    del server.files[name]
    assert archive(name, "corpus/a", "corpus/b") == ["a", "b", name]  # from the archive that is there


def test_half_an_unpacked_archive_is_unpacked_anew(archive, tmp_path):
    half = tmp_path / "downloads/.unpacking-c.zip/corpus/a"
    half.mkdir(parents=True)
    (half / "file0").write_text("half")
    assert archive("c.zip", "corpus/a") == ["a", "c.zip"]
    assert (tmp_path / "downloads/a/file0").read_bytes() == b"a0" * 50


@pytest.mark.parametrize("name", ["c.zip", "c.tgz"])
@pytest.mark.parametrize("damage", ["cut", "changed", "no archive"])
def test_a_damaged_archive_is_deleted_and_the_next_run_is_right(archive, server, tmp_path, name, damage):
    whole = server.files[name]
    middle = len(whole) // 2
    changed = whole[: middle - 5] + bytes(255 - byte for byte in whole[middle - 5 : middle + 5]) + whole[middle + 5 :]
    server.files[name] = {"cut": whole[:middle], "changed": changed, "no archive": b"<html>sorry</html>"}[damage]
    with pytest.raises(UserError, match=f"{name} was damaged .* and is deleted: run the same command again"):
        archive(name, "corpus/a")
    assert not list((tmp_path / "downloads").iterdir())
    server.files[name] = whole
    assert archive(name, "corpus/a") == ["a", name]


@pytest.mark.parametrize("name, library", [("c.zip", zipfile.ZipFile), ("c.tgz", tarfile.TarFile)])
def test_a_full_disk_keeps_the_archive_and_the_next_run_unpacks_it(archive, server, tmp_path, monkeypatch, name, library):
    def full(self, folder, **options):
        (folder / "corpus/a").mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(library, "extractall", full)
        with pytest.raises(UserError, match=f"no room to unpack .*{name} .No space left on device.: make room and run the same"):
            archive(name, "corpus/a")
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [name]
    del server.files[name]
    assert archive(name, "corpus/a") == ["a", name]


def test_a_folder_that_is_not_in_the_archive(archive):
    with pytest.raises(UserError, match="c.zip has no folder corpus/c; it has: corpus"):
        archive("c.zip", "corpus/c")


def test_checksums_of_a_list(archive, server):
    server.files["md5sum.txt"] = f"{'0' * 32}  other.zip\n{hashlib.md5(packed('zip')).hexdigest()}  c.zip\n".encode()
    list_option = ["--md5sum", f"{server.url}/md5sum.txt"]
    assert archive("c.zip", "corpus/a", extra=list_option) == ["a", "c.zip"]
    with pytest.raises(UserError, match="md5sum.txt has no c.tgz; it has: other.zip c.zip"):
        archive("c.tgz", "corpus/b", extra=list_option)
    with pytest.raises(UserError, match="could not download .*/none: .*Not Found.*--dir <folder>"):
        archive("c.tgz", "corpus/b", extra=["--md5sum", f"{server.url}/none"])

from pathlib import Path

import pytest

from espnet_ctx import files
from espnet_ctx.files import UserError, read_table, run_main, whole_file, write_table


def test_a_failed_write_leaves_what_stood_there(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(OSError), whole_file(path) as f:
        f.write("half")
        raise OSError("No space left on device")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def full_disk(monkeypatch, name):
    """There is no room for the file of that name, whenever `whole_file` writes it."""
    opened = open
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")

    def on_full_disk(path, *args, **kwargs):
        Path(path).touch()
        return opened("/dev/full" if f".{name}." in str(path) else path, *args, **kwargs)

    monkeypatch.setattr(files, "open", on_full_disk, raising=False)


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_full_disk_keeps_what_stood_there(tmp_path, monkeypatch, mode):
    path = tmp_path / "f"
    path.write_text("old")
    full_disk(monkeypatch, "f")
    with pytest.raises(UserError, match=r"no room to write .*/f \(No space left on device\): what stood there is kept"):
        with whole_file(path, mode) as f:
            f.write("new" if mode == "w" else b"new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_tables_round_trip_sorted_by_bytes(tmp_path):
    write_table(tmp_path / "text", {"b": "x y", "B": "", "a-1": "1"})
    assert (tmp_path / "text").read_text() == "B\na-1 1\nb x y\n"
    assert read_table(tmp_path / "text") == {"B": "", "a-1": "1", "b": "x y"}


@pytest.mark.parametrize(
    "content, message",
    [(b"a 1\n\nb 2\n", "line 2: empty"), (b"a 1\na 2\n", "line 2: key 'a' occurs twice"), (b"\xff\xfe", "not UTF-8")],
)
def test_broken_tables_name_file_and_line(tmp_path, content, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "text")
    with pytest.raises(UserError, match="no such file: .*nowhere"):
        read_table(tmp_path / "nowhere")


def test_commands_print_user_errors_without_a_traceback(capsys):
    def main():
        raise UserError("bad --option")

    with pytest.raises(SystemExit) as e:
        run_main(main)
    assert e.value.code == 1 and "error: bad --option" in capsys.readouterr().err

"""The archive: what is written is what is read, whole or not at all."""

import json

import kaldiio
import numpy as np
import pytest

from espnet_ctx.context import generate
from espnet_ctx.context.generate import write_context_text
from espnet_ctx.context.store import ContextArchive, embed_segments, is_made, write_archive
from espnet_ctx.files import UserError, read_table
from tests.test_files import full_disk

TEXTS = {"u1": "bread", "u2": "", "u3": "sea", "sp0.9-u1": "bread"}
OPTIONS = {"pooling": "tokens"}


def embeddings():
    rng = np.random.default_rng(0)
    return [(text, rng.normal(size=(length, 4)).astype(np.float32)) for text, length in (("bread", 3), ("sea", 1))]


def write(folder, rows=None, dtype="float32"):
    write_archive(folder, TEXTS, embeddings() if rows is None else rows, 4, dtype, OPTIONS, {})


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 2e-3), ("int8", 2e-2)])
def test_round_trip(tmp_path, dtype, tolerance):
    write(tmp_path, dtype=dtype)
    archive = ContextArchive(tmp_path / "context.scp", dim=4)
    assert sorted(archive) == sorted(TEXTS)
    assert len(archive) == 4
    expected = dict(embeddings())
    for utt, text in TEXTS.items():
        assert archive[utt].dtype == np.float32
        np.testing.assert_allclose(archive[utt], expected.get(text, np.zeros((1, 4))), atol=tolerance)
    stored = kaldiio.load_scp(str(tmp_path / "context.scp"))
    # Kaldi's compressed matrices are read as single precision
    assert (stored["u1"].dtype, stored["u1"].shape) == (np.dtype("float32" if dtype == "int8" else dtype), (3, 4))
    np.testing.assert_array_equal(stored["u2"], np.zeros((1, 4)))


def test_a_full_disk_leaves_what_the_next_run_finishes(tmp_path, monkeypatch):
    write(tmp_path)
    write_context_text(tmp_path, TEXTS, OPTIONS, {})
    with monkeypatch.context() as patch:
        full_disk(patch, "context.1.ark")
        with pytest.raises(UserError, match=r"no room to write .*/context\.1\.ark"):
            write(tmp_path, [("bread", np.ones((3000, 4))), ("sea", np.ones((1, 4)))])
        full_disk(patch, "context_text")
        with pytest.raises(UserError, match="no room to write .*/context_text"):
            write_context_text(tmp_path, {"u1": "salt"}, {}, {})
    assert not is_made(tmp_path, OPTIONS) and not generate.is_made(tmp_path, {})
    assert read_table(tmp_path / "context_text") == TEXTS
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    write(tmp_path)
    write_context_text(tmp_path, TEXTS, OPTIONS, {})
    assert is_made(tmp_path, OPTIONS) and generate.is_made(tmp_path, OPTIONS)


def test_int8_takes_a_quarter_of_the_place(tmp_path):
    rows = [(text, np.random.default_rng(1).normal(size=(50, 4))) for text in ("bread", "sea")]
    for dtype in ("float32", "int8"):
        write(tmp_path / dtype, rows, dtype)
    sizes = {dtype: (tmp_path / dtype / "context.1.ark").stat().st_size for dtype in ("float32", "int8")}
    assert sizes["int8"] < 0.35 * sizes["float32"]


def test_each_segment_is_embedded_once():
    asked = []

    def encode(texts):
        asked.append(texts)
        for text in texts:
            yield text, np.full((len(text), 4), ord(text[0]), np.float32)

    made = dict(embed_segments(["a", "bb ||| a", "a ||| cc ||| bb", "d"], encode))
    assert asked == [["a", "bb", "cc", "d"]]
    assert {text: len(matrix) for text, matrix in made.items()} == {"a": 1, "bb ||| a": 3, "a ||| cc ||| bb": 5, "d": 1}
    np.testing.assert_array_equal(made["d"], np.full((1, 4), ord("d")))
    asked.clear()
    assert [text for text, _ in embed_segments(["a", "d"], encode)] == asked[0] == ["a", "d"]


def test_copies_share_their_rows(tmp_path):
    write(tmp_path)
    places = read_table(tmp_path / "context.scp")
    assert places["u1"] == places["sp0.9-u1"]
    assert len(set(places.values())) == 3


def test_is_made(tmp_path):
    assert not is_made(tmp_path, OPTIONS)
    write(tmp_path)
    assert is_made(tmp_path, OPTIONS)
    assert not is_made(tmp_path, {"pooling": "mean"})
    ark = tmp_path / "context.1.ark"
    ark.write_bytes(ark.read_bytes()[:-1])
    assert not is_made(tmp_path, OPTIONS)
    write(tmp_path)
    (tmp_path / "context_dim").unlink()
    assert not is_made(tmp_path, OPTIONS)
    write(tmp_path)
    (tmp_path / "context.json").write_text("{ half")
    assert not is_made(tmp_path, OPTIONS)


def test_interrupted_writing_leaves_no_file_and_no_mark(tmp_path):
    def dies():
        yield embeddings()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, dies())
    assert [path.name for path in tmp_path.iterdir()] == ["context.json"]
    assert not is_made(tmp_path, OPTIONS)
    write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, dies())
    assert not is_made(tmp_path, OPTIONS), "the old archive is whole, but it is being replaced"


def test_the_record_says_what_it_was_made_with(tmp_path):
    write(tmp_path)
    section = json.loads((tmp_path / "context.json").read_text())["embedding"]
    assert section["options"] == OPTIONS
    assert section["context_dim"] == 4
    assert (tmp_path / "context_dim").read_text() == "4\n"


def test_wrong_width_and_missing_archive(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match="contexts of width 4 .* the model takes 384.*context_dim=4"):
        ContextArchive(tmp_path / "context.scp", dim=384)
    with pytest.raises(UserError, match="no such file"):
        ContextArchive(tmp_path / "other" / "context.scp")

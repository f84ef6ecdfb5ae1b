"""Cells of SLUE's tables as they come: from a TSV, from pandas, from the datasets library."""

import math

import pytest

from espnet_ctx.corpora.slue import HfCopy, parse_spans, parse_speaker, parse_text
from espnet_ctx.files import UserError

SPANS = [("GPE", 9, 5), ("DATE", 0, 4)]  # in the cell's order, which is none


@pytest.mark.parametrize(
    "cell",
    [
        "[['GPE', 9, 5], ['DATE', 0, 4]]",
        [["GPE", 9, 5], ["DATE", 0, 4]],
        {"type": ["GPE", "DATE"], "start": [9, 0], "length": [5, 4]},
        [{"type": "GPE", "start": 9, "length": 5}, {"type": "DATE", "start": 0, "length": 4}],
    ],
)
def test_entities_in_every_form(cell):
    assert parse_spans(cell) == SPANS


@pytest.mark.parametrize("cell", [None, math.nan, "nan", "NaN", "None", "", "[]", [], {"type": [], "start": [], "length": []}])
def test_no_entities_in_every_form(cell):
    assert parse_spans(cell) == []


@pytest.mark.parametrize(
    "cell", ["DATE", "[['DATE', 0]]", "[['DATE', 'a', 4]]", 3, {"type": ["DATE"]}, {"type": ["DATE"], "start": [], "length": [4]}]
)
def test_what_is_no_list_of_entities(cell):
    with pytest.raises(UserError, match=r"expected entities \[\[type, first character, length\], ...\], got"):
        parse_spans(cell)


def test_texts_and_speakers_without_a_value():
    assert [parse_text(cell) for cell in (None, math.nan, "", "nan", "a")] == ["", "", "", "nan", "a"]  # nan is a word too
    assert [parse_speaker(cell) for cell in (None, math.nan, "None", "", "28116", 28116)] == [None] * 4 + ["28116"] * 2


class Broken:
    """A streamed split whose connection is lost."""

    column_names = ["id", "audio", "speaker_id"]

    def cast_column(self, *args):
        yield {"id": "a", "audio": {"bytes": b"sound", "path": None}, "speaker_id": None}
        raise ConnectionError("Server Disconnected")


def test_a_stream_that_breaks_off_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    copy = HfCopy("voxpopuli", "asapp/slue", tmp_path)
    monkeypatch.setattr(HfCopy, "_load", lambda self, datasets, split: Broken())
    rows = copy.rows("train", ("speaker_id",), ())
    assert next(rows).recording.read_bytes() == b"sound"
    message = r"could not read asapp/slue \(voxpopuli, train\): ConnectionError: Server Disconnected. Run the same .*--slue_dir"
    with pytest.raises(UserError, match=message):
        next(rows)
    with pytest.raises(UserError, match="has no column feeling; it has: id, audio, speaker_id"):
        next(copy.rows("train", ("feeling",), ()))

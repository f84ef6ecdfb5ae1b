import pytest

from espnet_ctx.bin import tag_text
from espnet_ctx.files import UserError, read_table, write_table

TEXTS = {"a": "we met anna in paris", "b": "nothing", "c": ""}
SPANS = {"a": '[["GPE", 15, 5], ["PERSON", 7, 4]]', "b": "[]", "c": "[]"}


@pytest.fixture
def tag(tmp_path):
    """`tag(tags, **spans)`: the tagged texts, with some cells of utt2ner changed (None: removed)."""

    def run(tags="raw", **spans):
        write_table(tmp_path / "text", TEXTS)
        write_table(tmp_path / "utt2ner", {utt: cell for utt, cell in {**SPANS, **spans}.items() if cell is not None})
        options = ["--data_dir", str(tmp_path), "--tags", tags, "--out", str(tmp_path / "out")]
        tag_text.main(options)
        return read_table(tmp_path / "out")

    return run


def test_entities_are_tagged_with_either_set(tag):
    assert tag("raw") == {"a": "we met } anna ] in % paris ]", "b": "nothing", "c": ""}
    assert tag("combined")["a"] == "we met $ anna ] in % paris ]"


@pytest.mark.parametrize(
    "cell, message",
    [
        ("no json", "utterance b has 'no json'; expected a list such as"),
        ('[["GPE", 1]]', "utterance b has"),
        ('[["GPE", 0, 99]]', "utterance b: the entity .* does not lie in the text's 7 characters"),
        ('[["GPE", 0, 4], ["ORG", 2, 3]]', "utterance b: the entities .* overlap"),
        ('[["CITY", 0, 4]]', "utterance b: unknown type of entity 'CITY'"),
        (None, "utt2ner lacks 1 of 3 utterances, e.g. b"),
    ],
)
def test_bad_cells_are_named_and_nothing_is_written(tag, tmp_path, cell, message):
    with pytest.raises(UserError, match=message):
        tag(b=cell)
    assert not (tmp_path / "out").exists()

import ast
import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ctx.bin import slue_to_tagged
from espnet_ctx.files import UserError
from espnet_ctx.scoring.slue_text import (
    COMBINED_TAGS,
    RAW_TAGS,
    RAW_TO_COMBINED,
    letters,
    parse_entities,
    strip_tags,
    tag_text,
)

OFFICIAL = Path(__file__).resolve().parents[3] / "shared/data/slue-official-ner-refs"


@pytest.mark.parametrize("tags", ["raw", "combined"])
def test_the_official_conversion_of_the_whole_release(tags, tmp_path):
    if not OFFICIAL.exists():
        pytest.skip("../shared/data/slue-official-ner-refs is not there")
    out = tmp_path / "tagged"
    slue_to_tagged.main(
        ["--tsv", str(OFFICIAL / "slue-voxpopuli_fine-tune.tsv"), "--tags", tags, "--out", str(out)]
    )
    lines = out.read_text().splitlines()
    official = (OFFICIAL / f"fine-tune.{tags}.wrd").read_text().splitlines()
    assert len(lines) == len(official) == 5000
    assert sum(ours != theirs for ours, theirs in zip(lines, official, strict=True)) == 0


def test_the_letters_of_the_official_release_are_in_its_dictionary():
    if not OFFICIAL.exists():
        pytest.skip("../shared/data/slue-official-ner-refs is not there")
    known = {line.split(" ")[0] for line in (OFFICIAL / "dict.raw.ltr.txt").read_text().splitlines()}
    official = (OFFICIAL / "fine-tune.raw.wrd").read_text().splitlines()
    assert {letter for line in official for letter in letters(line).split(" ")} == known


@pytest.mark.parametrize(
    "text, spans, raw, combined",
    [
        ("no entity", [], "no entity", "no entity"),
        ("", [], "", ""),
        # sorted by start, not in the order of the cell
        ("paris in may", [("DATE", 9, 3), ("GPE", 0, 5)], "% paris ] in @ may ]", "% paris ] in & may ]"),
        # types without a combined tag are dropped, and their words stay
        ("ask the louvre now", [("FAC", 4, 10)], "ask $ the louvre ] now", "ask the louvre now"),
        # neighbours
        ("mr two", [("PERSON", 0, 2), ("CARDINAL", 3, 3)], "} mr ] ! two ]", "$ mr ] ^ two ]"),
        # punctuation, in and outside entities; a hyphen and a colon stay
        ("so, now; e.u.-law: no!", [("LAW", 9, 8)], "so now & eu-law ] : no", "so now ! eu-law ] : no"),
        # apostrophes: split before the last piece, but for 's alone; one at the end goes; a lone one goes
        ("report's it 's members' ' o'neil's", [], "report 's it 's members o neil 's", None),
        ("the eu's law", [("ORG", 4, 4)], "the ` eu 's ] law", "the # eu 's ] law"),
        # an entity that is only punctuation has no words
        ("well ... yes", [("DATE", 5, 3)], "well yes", "well yes"),
    ],
)
def test_rules_of_the_conversion(text, spans, raw, combined):
    assert tag_text(text, spans, "raw") == raw
    if combined is not None:
        assert tag_text(text, spans, "combined") == combined


def test_letters_end_in_a_bar():
    assert letters("a % uk ]") == "a | % | u k | ] |"
    assert letters("") == "|"


def test_tags_are_stripped():
    assert strip_tags("in % the uk ] today ]", "raw") == "in the uk today"
    assert strip_tags("a ~ b ]", "combined") == "a ~ b"  # no tag of this set


@pytest.mark.parametrize(
    "spans, message",
    [
        ([("DATE", 0, 4), ("ORG", 3, 2)], r"\['DATE', 0, 4\] and \['ORG', 3, 2\] overlap"),
        ([("ORG", 2, 2), ("DATE", 0, 9)], "overlap"),
        ([("DATE", 5, 6)], r"\['DATE', 5, 6\] does not lie in the text's 10 characters"),
        ([("DATE", -1, 3)], "does not lie"),
        ([("DATE", 3, 0)], "does not lie"),
        ([("PLACE", 0, 4)], "unknown type of entity 'PLACE': it must be one of CARDINAL, DATE"),
    ],
)
def test_bad_spans_are_errors(spans, message):
    for tags in ("raw", "combined"):
        with pytest.raises(UserError, match=message):
            tag_text("ten  chars", spans, tags)


def test_unknown_tags_are_an_error():
    with pytest.raises(UserError, match="unknown set of tags 'all': it must be one of raw, combined"):
        tag_text("a", [], "all")


@pytest.mark.parametrize(
    "tagged, entities",
    [
        ("we met in % paris ] @ today ]", [("GPE", "paris"), ("DATE", "today")]),
        ("% new york ]", [("GPE", "new york")]),
        ("% paris @ today ]", [("DATE", "today")]),  # the first is still open when the second begins
        ("% paris % rome ]", [("GPE", "rome")]),
        ("% paris today", []),  # open at the end
        ("% ] paris ]", []),  # no words; then a stray ]
        ("] paris ] @ now ] ]", [("DATE", "now")]),
        ("%paris ] @now", []),  # not a word of its own
        ("  % a   b ]  ", [("GPE", "a  b")]),  # three spaces become two: one empty word between them
        ("% a  b ]", [("GPE", "a b")]),
        ("% a ] % a ]", [("GPE", "a"), ("GPE", "a")]),
        ("", []),
    ],
)
def test_rules_of_reading(tagged, entities):
    assert parse_entities(tagged, "raw") == entities


def test_the_same_characters_mean_other_tags_in_the_combined_set():
    assert parse_entities("! a ] ~ b ] & c ]", "combined") == [("LAW", "a"), ("WHEN", "c")]
    assert parse_entities("! a ] ~ b ] & c ]", "raw") == [("CARDINAL", "a"), ("ORDINAL", "b"), ("LAW", "c")]


def test_tag_sets_hang_together():
    assert len(set(RAW_TAGS.values())) == 18 and len(set(COMBINED_TAGS.values())) == 7
    assert set(RAW_TO_COMBINED.values()) == set(COMBINED_TAGS)
    assert set(RAW_TAGS) - set(RAW_TO_COMBINED) == {"FAC", "EVENT", "WORK_OF_ART", "PRODUCT", "LANGUAGE"}


@st.composite
def texts_with_spans(draw):
    """Words, some of them entities, with the spans in any order."""
    text, spans = "", []
    phrases = st.lists(st.text("ab'.", min_size=1, max_size=4), min_size=1, max_size=3)
    for words, kind in draw(st.lists(st.tuples(phrases, st.sampled_from([None, *RAW_TAGS])))):
        phrase = " ".join(words)
        start = len(text) + bool(text)
        text = f"{text} {phrase}" if text else phrase
        if kind:
            spans.append((kind, start, len(phrase)))
    return text, draw(st.permutations(spans))


@settings(max_examples=150, deadline=None)
@given(texts_with_spans())
def test_what_is_tagged_is_read_back(case):
    text, spans = case
    tagged = tag_text(text, spans, "raw")
    words_of = {span: tag_text(text[span[1] : span[1] + span[2]], [], "raw") for span in spans}
    expected = [(span[0], words_of[span]) for span in sorted(spans, key=lambda s: s[1]) if words_of[span]]
    read = [(tag, phrase) for tag, phrase in parse_entities(tagged, "raw")]
    # empty pieces of apostrophes are words, which reading may join
    assert [(tag, phrase.split()) for tag, phrase in read] == [(tag, phrase.split()) for tag, phrase in expected]
    dropped = [(kind, phrase) for kind, phrase in expected if kind in RAW_TO_COMBINED]
    combined = parse_entities(tag_text(text, spans, "combined"), "combined")
    assert [tag for tag, _ in combined] == [RAW_TO_COMBINED[kind] for kind, _ in dropped]


HEADER = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\traw_ner\tnormalized_ner"


def write_tsv(path, *rows):
    lines = [f"id{i}\tx\t{text}\tNone\tdev\tNone\t{cell}" for i, (text, cell) in enumerate(rows)]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return str(path)


def test_rows_without_entities_keep_their_line(tmp_path):
    rows = [("one", "None"), ("two", "[]"), ("three", "nan"), ("four", ""), ("", "None"), ("five", "[['DATE', 0, 4]]")]
    out = tmp_path / "out"
    slue_to_tagged.main(
        ["--tsv", write_tsv(tmp_path / "f.tsv", *rows), "--tags", "combined", "--letters", "--out", str(out)]
    )
    assert out.read_text().split("\n") == [
        "o n e |",
        "t w o |",
        "t h r e e |",
        "f o u r |",
        "|",
        "& | f i v e | ] |",
        "",
    ]


@pytest.mark.parametrize(
    "cell, message",
    [
        ("[['DATE', 0, 40]]", "f.tsv, line 3: the entity .* does not lie"),
        ("[['DATE', 0, 2], ['GPE', 1, 2]]", "f.tsv, line 3: the entities .* overlap"),
        ("[['DATE', 0]]", "f.tsv, line 3: expected entities"),
        ("DATE", "f.tsv, line 3: expected entities"),
        ("__import__('os')", "f.tsv, line 3: expected entities"),
    ],
)
def test_malformed_cells_name_their_line_and_leave_nothing(tmp_path, cell, message):
    tsv = write_tsv(tmp_path / "f.tsv", ("one", "None"), ("two", cell))
    with pytest.raises(UserError, match=message):
        slue_to_tagged.main(["--tsv", tsv, "--tags", "raw", "--out", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


def test_a_blind_test_and_a_missing_file_are_errors(tmp_path):
    (tmp_path / "blind.tsv").write_text("id\tnormalized_text\na\tb\n")
    with pytest.raises(UserError, match="blind.tsv has no column normalized_ner"):
        slue_to_tagged.main(["--tsv", str(tmp_path / "blind.tsv"), "--tags", "raw", "--out", str(tmp_path / "o")])
    with pytest.raises(UserError, match="no such file"):
        slue_to_tagged.main(["--tsv", str(tmp_path / "none"), "--tags", "raw", "--out", str(tmp_path / "o")])


def test_the_release_has_the_traps_that_are_tested_here():
    if not OFFICIAL.exists():
        pytest.skip("../shared/data/slue-official-ner-refs is not there")
    with open(OFFICIAL / "slue-voxpopuli_fine-tune.tsv", newline="") as f:
        cells = [row["normalized_ner"] for row in csv.DictReader(f, delimiter="\t")]
    spans = [ast.literal_eval(cell) for cell in cells if cell != "None"]
    starts = [[start for _, start, _ in cell] for cell in spans if cell]
    assert len(starts) == 2905 and sum(s != sorted(s) for s in starts) == 1527

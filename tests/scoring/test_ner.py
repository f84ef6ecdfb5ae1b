import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ctx.bin import score_ner as command
from espnet_ctx.files import UserError
from espnet_ctx.scoring import ner
from espnet_ctx.scoring.ner import edit_distance, score_ner, word_error_rate
from espnet_ctx.scoring.slue_text import COMBINED_TAGS, RAW_TAGS


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(ner, "bootstrap_interval", lambda counts, metric: (0.0, 0.0))


def micro(refs, hyps, tags="raw", tag_set="combined", criterion="standard"):
    row = score_ner(refs, hyps, tags)[tag_set][criterion]["overall_micro"]
    return row["precision"], row["recall"], row["fscore"]


def test_hand_worked_case():
    # combined: reference PLACE paris, WHEN today, PERSON x; hypothesis PLACE paris, PLACE today
    refs, hyps = ["% paris ] @ today ]", "} x ] [ car ]"], ["* paris ] % today ]", "x [ car ]"]
    scores = score_ner(refs, hyps, "raw")
    assert micro(refs, hyps) == (1 / 2, 1 / 3, pytest.approx(0.4))
    assert micro(refs, hyps, criterion="label") == (1 / 2, 1 / 3, pytest.approx(0.4))
    place = scores["combined"]["standard"]["PLACE"]
    assert place == {"precision": 0.5, "recall": 1.0, "fscore": pytest.approx(2 / 3)}
    assert set(scores["combined"]["standard"]) == {"PLACE", "WHEN", "PERSON", "overall_micro", "overall_macro"}
    assert scores["combined"]["standard"]["overall_macro"]["fscore"] == pytest.approx(2 / 9)
    # raw: GPE paris is not LOC paris, and the product counts
    assert micro(refs, hyps, tag_set="raw") == (1 / 3, 1 / 4, pytest.approx(2 / 7))
    assert micro(refs, hyps, tag_set="raw", criterion="label") == (2 / 3, 2 / 4, pytest.approx(4 / 7))


@pytest.mark.parametrize(
    "ref, hyp, standard, label",
    [
        ("% a ] % a ]", "% a ]", (1, 1 / 2), (1, 1 / 2)),  # twice in the reference: to be found twice
        ("% a ]", "% a ] % a ]", (1 / 2, 1), (1 / 2, 1)),
        ("% a ] % b ]", "% b ] % a ]", (1, 1), (1, 1)),  # no order
        ("% a b ]", "% a ]", (0, 0), (1, 1)),  # the phrase is wrong, the tag right
        ("% a ]", "@ a ]", (0, 0), (0, 0)),
        ("% a ]", "% A ]", (0, 0), (1, 1)),  # exact
        ("a", "a", (0, 0), (0, 0)),  # 0 / 0 is 0
        ("a", "% a ]", (0, 0), (0, 0)),
        ("$ a ] # b ]", "? c ]", (0, 0), (0, 0)),  # what has no combined tag does not count
    ],
)
def test_rules_of_counting(ref, hyp, standard, label):
    for criterion, (precision, recall) in (("standard", standard), ("label", label)):
        assert micro([ref], [hyp], criterion=criterion)[:2] == (precision, recall)


def test_utterances_do_not_lend_each_other_entities():
    assert micro(["% a ]", ""], ["", "% a ]"]) == (0, 0, 0)


def test_combined_tags_are_scored_combined_only():
    scores = score_ner(["! law ] ^ two ]"], ["! law ]"], "combined")
    assert "raw" not in scores
    assert scores["combined"]["standard"]["LAW"]["fscore"] == 1
    assert scores["combined"]["standard"]["overall_macro"]["fscore"] == 0.5


def test_no_entity_at_all_scores_zero():
    scores = score_ner(["a b"], ["a"], "raw")
    for criterion in ("standard", "label"):
        summary = scores["combined"][criterion]
        assert set(summary) == {"overall_micro", "overall_macro"}
        assert all(value == 0 for row in summary.values() for value in row.values())


def test_word_error_rate_is_without_tags():
    assert word_error_rate(["in % paris ] now"], ["in paris ] @ now ]"], "raw") == 0
    assert word_error_rate(["a % b ] c d"], ["a x y d"], "raw") == 50
    assert word_error_rate([""], ["a"], "raw") == 0


@pytest.mark.parametrize("ref, hyp, errors", [("kitten", "sitting", 3), ("", "ab", 2), ("ab", "", 2), ("abc", "abc", 0)])
def test_edit_distance(ref, hyp, errors):
    assert edit_distance(ref, hyp) == edit_distance(hyp, ref) == errors


# An independent scorer, written for plainness: read character by character what the toolkit's description says, count by
# crossing off lists.
DROPPED = {"FAC", "EVENT", "WORK_OF_ART", "PRODUCT", "LANGUAGE"}
GROUPS = {
    "WHEN": ["DATE", "TIME"],
    "QUANT": ["CARDINAL", "ORDINAL", "QUANTITY", "MONEY", "PERCENT"],
    "PLACE": ["GPE", "LOC"],
}


def plain_entities(line, tags, tag_set):
    names = {mark: tag for tag, mark in (RAW_TAGS if tags == "raw" else COMBINED_TAGS).items()}
    result, entity = [], None
    for word in line.strip().replace("  ", " ").split(" "):
        if word in names:
            entity = [names[word]]
        elif word == "]":
            if entity is not None and len(entity) > 1:
                result.append((entity[0], " ".join(entity[1:])))
            entity = None
        elif entity is not None:
            entity.append(word)
    if tags == "raw" and tag_set == "combined":
        group_of = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
        result = [(group_of.get(tag, tag), phrase) for tag, phrase in result if tag not in DROPPED]
    return result


def plain_scores(refs, hyps, tags, tag_set, criterion):
    tallies = {}  # tag -> [right, in reference, in hypothesis]
    for ref, hyp in zip(refs, hyps, strict=True):
        gold, found = plain_entities(ref, tags, tag_set), plain_entities(hyp, tags, tag_set)
        if criterion == "label":
            gold, found = [(tag, "phrase") for tag, _ in gold], [(tag, "phrase") for tag, _ in found]
        for tag, _ in gold:
            tallies.setdefault(tag, [0, 0, 0])[1] += 1
        for tag, _ in found:
            tallies.setdefault(tag, [0, 0, 0])[2] += 1
        left = list(gold)
        for entity in found:
            if entity in left:
                left.remove(entity)
                tallies[entity[0]][0] += 1

    def rates(right, gold, found):
        precision = right / found if found else 0.0
        recall = right / gold if gold else 0.0
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return {"precision": precision, "recall": recall, "fscore": f}

    result = {tag: rates(*tally) for tag, tally in tallies.items()}
    values = list(result.values())
    means = {key: sum(v[key] for v in values) / len(values) if values else 0.0 for key in ("precision", "recall", "fscore")}
    result["overall_micro"] = rates(*(sum(tally[i] for tally in tallies.values()) for i in range(3)))
    result["overall_macro"] = means
    return result


# few words, so that phrases are often equal; many marks, so that broken tagging is common
WORDS = st.sampled_from(["a", "b", "'s", "", "]", "]", "]", *RAW_TAGS.values()])
LINES = st.lists(WORDS, max_size=12).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(LINES, LINES), min_size=1, max_size=4), st.sampled_from(["raw", "combined"]))
def test_any_text_scores_as_the_plain_reference(pairs, tags):
    refs, hyps = zip(*pairs, strict=True)
    scores = score_ner(refs, hyps, tags)
    assert ("raw" in scores) == (tags == "raw")
    for tag_set in scores.keys() & {"raw", "combined"}:
        for criterion in ("standard", "label"):
            expected = plain_scores(refs, hyps, tags, tag_set, criterion)
            assert scores[tag_set][criterion].keys() == expected.keys()
            for name, row in expected.items():
                for key, value in row.items():
                    assert math.isclose(scores[tag_set][criterion][name][key], value, abs_tol=1e-12)


def test_the_command_writes_and_prints(tmp_path, capsys):
    (tmp_path / "ref").write_text("in % paris ]\nno\n")
    (tmp_path / "hyp").write_text("in % paris ]\n@ no ]\n")
    files = ["--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), "--json", str(tmp_path / "f.json")]
    command.main([*files, "--tags", "raw"])
    assert capsys.readouterr().out == "|2|66.7|66.7|50.0|0.0|\n"
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["utterances"] == 2
    assert written["combined"]["standard"]["overall_micro"]["fscore"] == pytest.approx(2 / 3)
    assert written["raw"]["label"]["GPE"] == {"precision": 1, "recall": 1, "fscore": 1}


def test_empty_lines_are_utterances_wherever_they_stand(tmp_path, capsys):
    (tmp_path / "ref").write_text("\n% a  b ]\n\n@ now ]\n\n")
    (tmp_path / "hyp").write_text("\n  % a b ] \n}  x ]\n\n\n")
    files = ["--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), "--json", str(tmp_path / "f.json")]
    command.main([*files, "--tags", "raw"])
    assert capsys.readouterr().out == "|5|50.0|50.0|33.3|66.7|\n"
    (tmp_path / "hyp").write_text("\n% a b ]\n} x ]\n\n")  # whichever is missing: what follows would pair wrongly
    with pytest.raises(UserError, match="ref has 5 lines and .*hyp has 4: they must pair row by row"):
        command.main([*files, "--tags", "raw"])


def test_kaldi_texts_are_paired_by_utterance(tmp_path, capsys):
    (tmp_path / "ref").write_text("u1 % paris ]\nu2 @ now ]\nu3\n")
    (tmp_path / "hyp").write_text("u3\nu2 @ now ]\nu1 % paris ]\n")
    files = ["--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), "--json", str(tmp_path / "f.json")]
    command.main([*files, "--tags", "raw", "--kaldi"])
    assert capsys.readouterr().out == "|3|100.0|100.0|100.0|0.0|\n"
    (tmp_path / "hyp").write_text("u3\nu2 a\nu4 b\n")
    with pytest.raises(UserError, match="do not hold the same utterances .'u1' is in one only"):
        command.main([*files, "--tags", "raw", "--kaldi"])


def test_what_does_not_pair_is_an_error(tmp_path):
    (tmp_path / "ref").write_text("a\nb\n")
    (tmp_path / "hyp").write_text("a\n")
    options = ["--tags", "raw", "--json", str(tmp_path / "f.json")]
    with pytest.raises(UserError, match="ref has 2 lines and .*hyp has 1"):
        command.main(["--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), *options])
    with pytest.raises(UserError, match="no such file: .*none"):
        command.main(["--ref", str(tmp_path / "none"), "--hyp", str(tmp_path / "hyp"), *options])
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="empty is empty: there is nothing to score"):
        command.main(["--ref", str(tmp_path / "empty"), "--hyp", str(tmp_path / "empty"), *options])
    assert not (tmp_path / "f.json").exists()

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ctx.bin import score_sentiment as command
from espnet_ctx.files import UserError
from espnet_ctx.scoring import sentiment
from espnet_ctx.scoring.sentiment import LABELS, confusions, is_scored, macro, score_sentiment


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(sentiment, "bootstrap_interval", lambda counts, metric: (0.0, 0.0))


def test_hand_worked_case():
    # Negative: found 1 of 2, nothing else called so; Neutral: 1 of 1, 2 called so; Positive: in neither
    scores = score_sentiment(np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert scores["per_class"]["Negative"] == {
        "precision": 100,
        "recall": 50,
        "f1": pytest.approx(200 / 3),
        "utterances": 2,
    }
    assert scores["per_class"].keys() == {"Negative", "Neutral"}
    assert scores["macro"] == {"precision": 75, "recall": 75, "f1": pytest.approx(200 / 3)}
    assert scores["weighted"]["recall"] == pytest.approx(200 / 3)


def test_a_class_only_in_the_hypothesis_counts():
    assert score_sentiment(np.array([1, 1]), np.array([1, 2]))["macro"]["recall"] == 25


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_any_labels_score_as_scikit_learn_scores_them(pairs):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    refs, hyps = map(np.array, zip(*pairs, strict=True))
    scores = score_sentiment(refs, hyps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are not predicted: 0, as SLUE takes it
        for average in ("macro", "weighted"):
            expected = metrics.precision_recall_fscore_support(refs, hyps, average=average)[:3]
            assert [scores[average][m] for m in sentiment.MEASURES] == pytest.approx([100 * e for e in expected])
        labels = sorted({*refs.tolist(), *hyps.tolist()})
        of_classes = metrics.f1_score(refs, hyps, average=None)
    assert [scores["per_class"][LABELS[i]]["f1"] for i in labels] == pytest.approx(100 * of_classes)


def test_many_sets_at_once():
    counts = confusions(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1]))
    sets = np.stack([counts[:2].sum(axis=0), counts[2:].sum(axis=0), counts.sum(axis=0)])
    one_by_one = np.stack([macro(totals) for totals in sets], axis=1)
    assert np.array_equal(macro(sets), one_by_one)


def test_labels_slue_does_not_score():
    assert [is_scored(label) for label in ("Negative", "<mixed>", "Disagreement", "")] == [True, False, False, False]


def run(tmp_path, ref, hyp):
    (tmp_path / "ref").write_text(ref)
    (tmp_path / "hyp").write_text(hyp)
    command.main(
        ["--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), "--json", str(tmp_path / "f.json")]
    )
    return json.loads((tmp_path / "f.json").read_text())


def test_the_command_pairs_rows_or_utterances(tmp_path, capsys):
    rows = run(tmp_path, "Positive\nNeutral\nNegative\n", "Positive\nNeutral\nNeutral\n")
    assert capsys.readouterr().out == "|3|55.6|66.7|50.0|\n"
    assert rows == run(tmp_path, "2\n1\n0\n", "2\n1\n1\n")
    assert rows == run(tmp_path, "a Positive\nb Neutral\nc Negative\n", "c 1\nb 1\na 2\n")


def test_mixed_and_disagreement_are_left_out_not_mapped(tmp_path, capsys):
    scores = run(tmp_path, "Positive\n<mixed>\nDisagreement\n", "Positive\nNegative\nNeutral\n")
    assert scores["utterances"] == 1 and scores["macro"]["f1"] == 100
    assert "2 of 3 utterances have no class" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ref, hyp, message",
    [
        ("Positive\n", "positive\n", "unknown label 'positive'; it must be one of Negative, Neutral, Positive"),
        ("\n\n", "0\n1\n", "ref has no label"),
        ("0\n1\n", "0\n", "has 2 lines and"),
        ("a 0\nb 1\n", "a 0\nc 1\n", "'b' is in one only"),
    ],
)
def test_bad_labels_are_errors(tmp_path, ref, hyp, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, ref, hyp)

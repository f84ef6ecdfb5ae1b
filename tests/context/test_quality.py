"""What the report measures."""

import math

import numpy as np
import pytest

from espnet_ctx.context.quality import rare_word_recall, says_own_text, similarity_auc, word_counts


def test_auc_of_perfect_random_and_opposite_contexts():
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(400, 16))
    assert similarity_auc(3 * texts, texts) == 1.0
    assert similarity_auc(-texts, texts) == 0.0
    assert abs(similarity_auc(rng.normal(size=(400, 16)), texts) - 0.5) < 0.03
    noisy = similarity_auc(texts + 4 * rng.normal(size=(400, 16)), texts)
    assert 0.6 < noisy < 0.95


def test_auc_of_ties_and_of_too_few():
    same = np.ones((10, 3))
    assert similarity_auc(same, same) == 0.5
    assert math.isnan(similarity_auc(np.zeros((1, 3)), np.zeros((1, 3))))


def test_rare_word_recall():
    texts = {"a": "The quay and the sail", "b": "the flour", "c": "the the"}
    counts = word_counts([*texts.values(), "and and the"])
    assert counts["the"] == 6
    contexts = {"a": "Quay at night", "b": "bread", "c": ""}
    assert rare_word_recall(contexts, texts, counts, rare=2) == (pytest.approx(1 / 3), 3)
    recall, number = rare_word_recall(contexts, texts, counts, rare=0)
    assert math.isnan(recall)
    assert number == 0


@pytest.mark.parametrize(
    ("context", "previous", "own"),
    [
        ("now One two three four five six", [], True),
        ("a ||| one two three four five", [], True),
        ("one two three four", [], False),
        ("zone two three four five", [], False),
        ("one two three four five", ["One two three four five"], False),
    ],
)
def test_says_own_text(context, previous, own):
    assert says_own_text(context, "one two three four five", previous) == own
    assert not says_own_text(context, "one two", previous)

"""Several texts for one utterance."""

import numpy as np
import pytest

from espnet_ctx.context.segments import concatenate, join_segments, split_segments


@pytest.mark.parametrize("texts", [["a b", "c"], ["a"], []])
def test_round_trip(texts):
    assert split_segments(join_segments(texts)) == texts


def test_no_segment_passes_for_two_and_empty_ones_vanish():
    assert split_segments(join_segments(["a ||| b", "", " ", "c|||d"])) == ["a b", "c d"]


def test_segments_can_be_told_apart():
    rows = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    both = concatenate([rows, rows, rows])
    assert both.shape == (6, 8)
    assert both.dtype == np.float32
    marks = (both - np.tile(rows, (3, 1)))[::2]
    scale = np.linalg.norm(rows, axis=1).mean() / 2
    np.testing.assert_allclose(np.linalg.norm(marks, axis=1), scale, rtol=1e-5)
    np.testing.assert_allclose(both[0] - rows[0], both[1] - rows[1], atol=1e-6)
    assert np.linalg.norm(marks[0] - marks[1]) > 0.1 * scale
    assert np.linalg.norm(marks[0] - marks[2]) > np.linalg.norm(marks[0] - marks[1])

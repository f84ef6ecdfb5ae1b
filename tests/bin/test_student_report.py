import numpy as np
import pytest

from espnet_ctx.bin.student_report import figures
from espnet_ctx.files import UserError


def test_figures_by_hand():
    train = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0]), "c": np.array([0.0, 3.0])}
    train_labels = {"a": "sea", "b": "bread", "c": "bread"}
    teacher = {"x": np.array([2.0, 0.0]), "y": np.array([0.0, 1.0])}
    student = {"x": np.array([0.0, 5.0]), "y": np.array([0.0, 1.0]), "no context": np.array([1.0, 0.0])}
    result = figures(student, teacher, train, {"x": "sea", "y": "bread"}, train_labels)
    assert result["utterances"] == 2 and result["student_cosine"] == pytest.approx(0.5)
    # the mean training embedding is (1, 4) / 3
    assert result["mean_embedding_cosine"] == pytest.approx((1 + 4) / 2 / 17**0.5)
    assert result["student_topic_accuracy"] == result["mean_embedding_topic_accuracy"] == 0.5
    assert result["teacher_topic_accuracy"] == 1.0
    with pytest.raises(UserError, match="no utterance has a context"):
        figures(student, {}, train, {}, train_labels)

import random

import pytest

from espnet_ctx.files import UserError
from espnet_ctx.scoring.significance import format_p, mapsswe


def corrupt(texts, rate, seed):
    draw = random.Random(seed)
    return [" ".join("wrong" if draw.random() < rate else word for word in text.split()) for text in texts]


@pytest.fixture
def texts():
    draw = random.Random(1)
    return [" ".join(f"word{draw.randrange(50)}" for _ in range(12)) for _ in range(150)]


def test_fewer_errors_are_better_and_the_test_is_symmetric(scored, texts):
    base = scored("base", texts, corrupt(texts, 0.25, 2)) / "score_wer"
    system = scored("system", texts, corrupt(texts, 0.12, 3)) / "score_wer"
    forth, back = mapsswe(base, system), mapsswe(system, base)
    assert forth.better == "system" and back.better == "base"
    assert forth.p < 0.001
    assert forth.p == back.p and forth.z == -back.z > 3
    assert forth.base_wer == pytest.approx(25, abs=3) and forth.system_wer == pytest.approx(12, abs=3)
    assert (forth.base_wer, forth.system_wer) == (back.system_wer, back.base_wer)


def test_equal_systems_are_the_same(scored, texts):
    folder = scored("base", texts, corrupt(texts, 0.2, 2)) / "score_wer"
    same = mapsswe(folder, folder)
    assert (same.z, same.p, same.better) == (0.0, 1.0, "same")


def test_chance_is_not_taken_for_a_difference(scored, texts):
    test = mapsswe(
        scored("a", texts, corrupt(texts, 0.2, 4)) / "score_wer",
        scored("b", texts, corrupt(texts, 0.2, 5)) / "score_wer",
    )
    assert test.better == "same" and test.p > 0.05


def test_statistic_of_a_hand_worked_case(scored):
    # Segments are where either system errs. The base has 2 and 1 errors where the system has none:
    # differences 2 and 1, mean 1.5, standard deviation 1 / sqrt(2), z = 1.5 / (1 / sqrt(2) / sqrt(2)) = 3,
    # p = 0.0027.
    refs = ["a b c d", "e f g h", "i j k l"]
    test = mapsswe(
        scored("base", refs, ["a b", "e f x h", "i j k l"]) / "score_wer",
        scored("system", refs, refs) / "score_wer",
    )
    assert test.segments == 2
    assert test.z == pytest.approx(3.0, abs=1e-3)
    assert test.p == pytest.approx(0.0027, abs=1e-5)
    assert test.better == "system"
    assert test.base_wer == 25.0 and test.system_wer == 0.0


def test_other_references_are_an_error(scored):
    with pytest.raises(UserError, match="different references"):
        mapsswe(scored("a", ["x y"], ["x"]) / "score_wer", scored("b", ["x z"], ["x"]) / "score_wer")


def test_missing_score_names_the_stage(scored, tmp_path):
    with pytest.raises(UserError, match="stage 12"):
        mapsswe(tmp_path / "none", scored("b", ["x z"], ["x"]) / "score_wer")


@pytest.mark.parametrize("p, printed", [(0.0004, "<0.001"), (0.0123, "0.012"), (0.5, "0.5")])
def test_format_p(p, printed):
    assert format_p(p) == printed

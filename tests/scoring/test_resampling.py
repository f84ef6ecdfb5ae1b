import itertools
import json

import numpy as np
import pytest

from espnet_ctx.bin import compare_slu
from espnet_ctx.files import UserError
from espnet_ctx.scoring import resampling
from espnet_ctx.scoring.ner import micro_f
from espnet_ctx.scoring.resampling import bootstrap_interval, compare, permutation_test


def mean(totals):
    """A mean over 100 utterances."""
    return totals[:, 0] / 100


def test_the_interval_of_a_mean_is_the_normal_one():
    counts = np.array([[1]] * 40 + [[0]] * 60)
    low, high = bootstrap_interval(counts, mean)
    spread = 1.96 * (0.4 * 0.6 / 100) ** 0.5
    assert low == pytest.approx(0.4 - spread, abs=0.02) and high == pytest.approx(0.4 + spread, abs=0.02)
    assert (low, high) == bootstrap_interval(counts, mean)  # seeded


def test_portions_do_not_change_the_permutations(monkeypatch):
    rng = np.random.default_rng(0)
    base, system = rng.integers(0, 2, (50, 1)), rng.integers(0, 2, (50, 1))
    whole = permutation_test(base, system, mean)
    monkeypatch.setattr(resampling, "CELLS", 50 * 64)
    assert permutation_test(base, system, mean) == pytest.approx(whole, abs=0.02)


def test_p_is_that_of_all_permutations():
    # six utterances: every one of the 2 ** 6 ways to swap, counted
    base = np.array([[[1, 2, 1]], [[0, 1, 1]], [[1, 1, 2]], [[0, 2, 1]], [[1, 1, 1]], [[0, 1, 2]]])
    system = np.array([[[2, 2, 2]], [[1, 1, 1]], [[1, 1, 1]], [[1, 2, 1]], [[1, 1, 1]], [[1, 1, 1]]])
    observed = abs(micro_f(system.sum(axis=0)) - micro_f(base.sum(axis=0)))
    as_large = 0
    for swaps in itertools.product([False, True], repeat=6):
        picks = [(s, b) if swap else (b, s) for b, s, swap in zip(base, system, swaps, strict=True)]
        one, other = (sum(pick[i] for pick in picks) for i in (0, 1))
        as_large += abs(micro_f(other) - micro_f(one)) >= observed - 1e-9
    assert permutation_test(base, system, micro_f) == pytest.approx(as_large / 64, abs=0.01)


def test_equal_systems_have_p_one_and_better_ones_a_small_one():
    base = np.array([[[0, 1, 1]]] * 30)
    system = np.array([[[1, 1, 1]]] * 30)
    assert permutation_test(base, base, micro_f) == 1
    test = compare(base, system, micro_f)
    assert test.p == 1 / 10_001
    assert (test.base, test.system, test.difference_interval) == (0, 100, (100, 100))


def test_chance_is_seldom_taken_for_a_difference():
    rng = np.random.default_rng(3)
    pairs = [rng.integers(0, 2, (2, 40, 1)) for _ in range(100)]
    small = sum(permutation_test(base, system, mean) < 0.05 for base, system in pairs)
    assert small <= 11  # 5 are expected; more than 11 has a probability below 0.01


@pytest.fixture
def files(tmp_path):
    for name, lines in {
        "ref": ["% a ]", "@ b ]", "no"] * 10,
        "base1": ["% a ]", "b", "no"] * 10,
        "base2": ["a", "@ b ]", "no"] * 10,
        "system1": ["% a ]", "@ b ]", "no"] * 10,
        "system2": ["% a ]", "@ b ]", "@ no ]"] * 10,
        "labels": ["0", "1", "2"] * 10,
        "guess": ["1", "1", "2"] * 10,
    }.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return lambda *names: [str(tmp_path / name) for name in names]


def test_the_command_compares_entities_over_seeds(files, tmp_path, capsys):
    compare_slu.main(
        ["--metric", "ner", "--ref", *files("ref"), "--base", *files("base1", "base2"), "--system", *files("system1", "system2")]
        + ["--json", *files("f.json")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|measure|base (95% interval)|system|difference|p|"
    written = json.loads((tmp_path / "f.json").read_text())["micro F1"]
    # base: 20 of 40 found, none wrong; system: 40 of 40 found, 10 wrong
    assert written["base"] == pytest.approx(200 / 3) and written["system"] == pytest.approx(800 / 9)
    assert written["p"] < 0.01 and lines[2].endswith(f"|{written['p']:.2g}|")
    assert "|+22.2 (" in lines[2]


def test_the_command_compares_sentiment(files, tmp_path, capsys):
    compare_slu.main(
        ["--metric", "sentiment", "--ref", *files("labels"), "--base", *files("guess"), "--system", *files("labels")]
    )
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0].startswith("|macro F1|55.6 (") and "|100.0 (100.0 to 100.0)|" in rows[0]
    assert rows[1].startswith("|macro recall|66.7 (")


def test_unequal_numbers_of_seeds_are_an_error(files):
    with pytest.raises(UserError, match="as many files as --base .2. are needed with --system, got 1"):
        compare_slu.main(
            ["--metric", "ner", "--ref", *files("ref"), "--base", *files("base1", "base2"), "--system", *files("system1")]
        )

"""Confidence intervals and significance of measures that are no means over utterances, such as F1.

Bootstrap: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentiles). Paired
permutation test: E. Noreen, "Computer-Intensive Methods for Testing Hypotheses", 1989, chapter 2, as it is used for F1 in
A. Yeh, "More accurate tests for the statistical significance of result differences", COLING 2000.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

Metric = Callable[[np.ndarray], np.ndarray]  # totals (R, ...) of R resampled sets -> their values (R,)

DRAWS = 1000  # of a bootstrap
SWAPS = 10_000  # of a permutation test, whose p is at least 1 / (SWAPS + 1)
CONFIDENCE = 0.95
CELLS = 4_000_000  # drawn at a time, to bound the memory


class Comparison(NamedTuple):
    """A system against a base, values in the metric's unit.

    Attributes:
        base: value of the base.
        system: value of the system.
        base_interval: its 95% bootstrap interval.
        system_interval: likewise.
        difference_interval: of system - base, over the same utterances.
        p: two-sided probability of so large a difference if, utterance by utterance, chance had told base from system.
    """

    base: float
    system: float
    base_interval: tuple[float, float]
    system_interval: tuple[float, float]
    difference_interval: tuple[float, float]
    p: float


def bootstrap_interval(counts: np.ndarray, metric: Metric, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of a metric under drawing the utterances anew, with replacement.

    Args:
        counts: (utterances, ...) what the metric is made of, such that a set's value follows from the sum.
        metric: the values (R,) of the sums (R, ...) of R sets.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    number = len(counts)
    chances = np.full(number, 1 / number)
    drawn = [metric(_totals(rng.multinomial(number, chances, size), counts)) for size in _portions(DRAWS, number)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def permutation_test(base: np.ndarray, system: np.ndarray, metric: Metric, seed: int = 0) -> float:
    """Two-sided p of the difference of two systems under swapping their outputs at random, utterance by utterance.

    Args:
        base: (utterances, ...) as for `bootstrap_interval`.
        system: the other system's, of the same utterances.
        metric: likewise.
        seed: of the swaps.
    """
    rng = np.random.default_rng(seed)
    gain = system - base
    base_total, system_total = base.sum(axis=0), system.sum(axis=0)
    observed = abs(metric(system_total[None]) - metric(base_total[None]))[0]
    as_large = 0
    for size in _portions(SWAPS, len(base)):
        moved = _totals(rng.integers(0, 2, (size, len(base)), dtype=np.uint8), gain)
        differences = metric(system_total - moved) - metric(base_total + moved)
        as_large += int((abs(differences) >= observed - 1e-9).sum())  # equal values may differ in the last bits
    return (as_large + 1) / (SWAPS + 1)


def compare(base: np.ndarray, system: np.ndarray, metric: Metric) -> Comparison:
    """Compare two systems; see `permutation_test` for the arguments."""
    return Comparison(
        float(metric(base.sum(axis=0)[None])[0]),
        float(metric(system.sum(axis=0)[None])[0]),
        bootstrap_interval(base, metric),
        bootstrap_interval(system, metric),
        bootstrap_interval(np.stack([base, system], axis=1), lambda both: metric(both[:, 1]) - metric(both[:, 0])),
        permutation_test(base, system, metric),
    )


def _totals(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums (R, ...) of counts (N, ...) with weights (R, N); in float64, whose products are quick and here exact."""
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (weights.astype(np.float64) @ flat).reshape(len(weights), *counts.shape[1:])


def _portions(repetitions: int, number: int) -> Iterator[int]:
    size = max(1, CELLS // number)
    for begin in range(0, repetitions, size):
        yield min(size, repetitions - begin)

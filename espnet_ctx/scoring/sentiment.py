"""Precision, recall and F1 of sentiment classes, as SLUE scores them (with scikit-learn).

S. Shon et al., "SLUE", ICASSP 2022 (arXiv 2111.10367), section 3.3: macro averages over the classes.
"""

import sys
from collections.abc import Sequence

import numpy as np

from espnet_ctx.files import UserError
from espnet_ctx.scoring.pairs import read_lines, read_pairs
from espnet_ctx.scoring.resampling import bootstrap_interval

LABELS = ("Negative", "Neutral", "Positive")  # their order is that of the classes 0, 1 and 2
_CLASSES = {**{label: i for i, label in enumerate(LABELS)}, **{str(i): i for i in range(len(LABELS))}}
MEASURES = ("precision", "recall", "f1")


def is_scored(label: str) -> bool:
    """Tell whether SLUE has a class for a label; rows with others (`<mixed>`, `Disagreement`) are left out."""
    return label in LABELS


def read_classes(ref, hyp) -> tuple[np.ndarray, np.ndarray]:
    """Read two files of labels, one a line or `<utterance> <label>`; a label may be the number of its class.

    References without a class (`<mixed>`, `Disagreement`) are left out with their hypotheses, with a note on stderr.

    Returns:
        classes of the references and of the hypotheses, (N,) integers each.

    Raises:
        UserError: see `read_pairs`; an unknown label in the hypotheses; no reference with a class.
    """
    kaldi = [len(line.split()) for line in read_lines(ref)[:1]] == [2]
    refs, hyps = read_pairs(ref, hyp, kaldi)
    pairs = [(r, h) for r, h in zip(refs, hyps, strict=True) if r in _CLASSES]
    if not pairs:
        raise UserError(f"{ref} has no label; a label is one of {', '.join(LABELS)}, or its number")
    if unknown := [h for _, h in pairs if h not in _CLASSES]:
        raise UserError(f"{hyp}: unknown label '{unknown[0]}'; it must be one of {', '.join(LABELS)}, or its number")
    if left_out := len(refs) - len(pairs):
        print(f"{ref}: {left_out} of {len(refs)} utterances have no class and are not scored", file=sys.stderr)
    classes = np.array([(_CLASSES[r], _CLASSES[h]) for r, h in pairs])
    return classes[:, 0], classes[:, 1]


def confusions(refs: np.ndarray, hyps: np.ndarray) -> np.ndarray:
    """One confusion matrix per utterance, (N, class of the reference, class of the hypothesis), with a single 1."""
    counts = np.zeros((len(refs), len(LABELS), len(LABELS)), dtype=np.int64)
    counts[np.arange(len(refs)), refs, hyps] = 1
    return counts


def class_scores(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score each class of confusion matrices (..., C, C).

    Returns:
        precision, recall and F1 in percent (3, ..., C), 0 / 0 being 0; and which classes were seen (..., C).
    """
    totals = np.asarray(totals, dtype=np.float64)
    right = np.diagonal(totals, axis1=-2, axis2=-1)
    in_ref, in_hyp = totals.sum(axis=-1), totals.sum(axis=-2)
    wholes = np.stack([in_hyp, in_ref, (in_ref + in_hyp) / 2])
    return 100 * right / np.where(wholes == 0, 1, wholes), in_ref + in_hyp > 0


def macro(totals: np.ndarray) -> np.ndarray:
    """Macro precision, recall and F1 in percent (3, ...): means over the classes in reference or hypothesis."""
    scores, seen = class_scores(totals)
    return scores.sum(axis=-1) / seen.sum(axis=-1)  # what was not seen scores 0


def macro_f(totals: np.ndarray) -> np.ndarray:
    """Macro F1 in percent (...), from confusion matrices (..., C, C)."""
    return macro(totals)[2]


def macro_recall(totals: np.ndarray) -> np.ndarray:
    """Macro recall in percent (...), from confusion matrices (..., C, C)."""
    return macro(totals)[1]


def score_sentiment(refs: np.ndarray, hyps: np.ndarray) -> dict:
    """Score a set.

    Args:
        refs: classes of the references, (N,).
        hyps: classes of the hypotheses, (N,).

    Returns:
        - utterances: their number.
        - macro: precision, recall and f1 in percent; SLUE's headlines are f1 and recall.
        - weighted: likewise, classes weighted by their number in the reference (the toolkit calls it "micro").
        - per_class: `{label: {precision, recall, f1, utterances}}` of the classes in reference or hypothesis.
        - interval: 95% bootstrap intervals over the utterances, percent, of the macro f1 and recall.
    """
    counts = confusions(refs, hyps)
    totals = counts.sum(axis=0)
    scores, seen = class_scores(totals)
    weights = totals.sum(axis=1) / len(refs)
    per_class = {
        label: {**_named(scores[:, i]), "utterances": int(totals[i].sum())} for i, label in enumerate(LABELS) if seen[i]
    }
    return {
        "utterances": len(refs),
        "macro": _named(macro(totals)),
        "weighted": _named(scores @ weights),
        "per_class": per_class,
        "interval": {"f1": bootstrap_interval(counts, macro_f), "recall": bootstrap_interval(counts, macro_recall)},
    }


def _named(scores: Sequence[float]) -> dict[str, float]:
    return dict(zip(MEASURES, map(float, scores), strict=True))

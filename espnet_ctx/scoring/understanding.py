"""What stage 12 left of a decoded set's named entities or sentiment: figures for the tables, and tests between systems.

A decoded set holds `text` and `score_{ner,sentiment}/{ref,result.json}`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from espnet_ctx.files import UserError, read_table
from espnet_ctx.scoring.ner import count_entities, micro_f, read_entities
from espnet_ctx.scoring.pairs import read_pairs
from espnet_ctx.scoring.resampling import Metric, permutation_test
from espnet_ctx.scoring.sentiment import MEASURES, confusions, macro_f, read_classes
from espnet_ctx.scoring.slue_text import TAGS

LEVEL = 0.05  # of significance


class Verdict(NamedTuple):
    """A system against a base: two-sided p of the paired permutation test, and which is "better" ("same": p >= 0.05)."""

    p: float
    better: str


def _ner_rates(scores: dict) -> dict[str, float]:
    standard, label = scores["combined"]["standard"], scores["combined"]["label"]
    return {
        "micro F1": 100 * standard["overall_micro"]["fscore"],
        "label F1": 100 * label["overall_micro"]["fscore"],
        "macro F1": 100 * standard["overall_macro"]["fscore"],
        "WER": scores["wer"],
    }


def _ner_classes(scores: dict, tag_set: str, criterion: str) -> dict[str, list[float]]:
    if tag_set not in scores:
        raise UserError(f"the texts have {' and '.join(TAGS.keys() & scores.keys())} tags, and no {tag_set} ones (--tag_set)")
    summary = scores[tag_set][criterion]
    names = sorted(summary, key=lambda name: (name.startswith("overall_"), name))
    return {name.removeprefix("overall_"): [100 * rate for rate in summary[name].values()] for name in names}


def _ner_counts(folder: Path, scores: dict):
    tags = "raw" if "raw" in scores else "combined"
    refs, hyps = (
        read_entities(texts, tags)["combined"] for texts in read_pairs(folder / "score_ner/ref", folder / "text", kaldi=True)
    )
    return count_entities(refs, hyps, "standard").counts.sum(axis=1, keepdims=True)


def _sentiment_rates(scores: dict) -> dict[str, float]:
    return {f"macro {name}": scores["macro"][name.lower()] for name in ("F1", "recall", "precision")}


def _sentiment_classes(scores: dict, tag_set: str, criterion: str) -> dict[str, list[float]]:
    return {name: [rates[m] for m in MEASURES] for name, rates in {**scores["per_class"], "macro": scores["macro"]}.items()}


def _sentiment_counts(folder: Path, scores: dict):
    return confusions(*read_classes(folder / "score_sentiment/ref", folder / "text"))


class Kind(NamedTuple):
    """One kind of understanding: its columns and its classes in percent, and what its first column follows from."""

    rates: Callable[[dict], dict[str, float]]
    classes: Callable[[dict, str, str], dict[str, list[float]]]
    counts: Callable
    metric: Metric


KINDS = {
    "ner": Kind(_ner_rates, _ner_classes, _ner_counts, micro_f),
    "sentiment": Kind(_sentiment_rates, _sentiment_classes, _sentiment_counts, macro_f),
}


def read_scores(folder) -> tuple[Kind, dict] | None:
    """Read the kind and the scores of a decoded set; None: it has neither `score_ner` nor `score_sentiment`."""
    for name, kind in KINDS.items():
        result = Path(folder) / f"score_{name}" / "result.json"
        if result.exists():
            return kind, json.loads(result.read_text(encoding="utf-8"))
    return None


def read_rates(folder) -> dict[str, float]:
    """The figures of a decoded set in percent, the headline first; empty if it is not scored in this way."""
    found = read_scores(folder)
    return found[0].rates(found[1]) if found else {}


def compare_folders(base, system) -> Verdict:
    """Test the headline figure of a decoded set against a base's.

    Raises:
        UserError: the two were scored against different references, or one is not scored.
    """
    counts = []
    for folder in map(Path, (base, system)):
        found = read_scores(folder)
        if found is None:
            raise UserError(f"{folder} is not scored: run stage 12")
        counts.append(found[0].counts(folder, found[1]))
    references = [{p: read_table(p) for p in Path(folder).glob("score_*/ref")} for folder in (base, system)]
    if list(references[0].values()) != list(references[1].values()):
        raise UserError(f"{base} and {system} were scored against different references: score both anew")
    metric = found[0].metric
    p = permutation_test(*counts, metric)
    first, second = (metric(c.sum(axis=0)[None])[0] for c in counts)
    return Verdict(p, "same" if p >= LEVEL else "system" if second > first else "base")

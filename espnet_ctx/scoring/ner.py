"""F1 and label-F1 of named entities, exactly as the SLUE toolkit scores them.

S. Shon et al., "SLUE", ICASSP 2022 (arXiv 2111.10367), section 3.2: the entities of an utterance are an unordered list of
(tag, phrase); F1 wants both right, label-F1 the tag alone.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from espnet_ctx.scoring.resampling import bootstrap_interval
from espnet_ctx.scoring.slue_text import Entity, combine, parse_entities, strip_tags

CRITERIA = ("standard", "label")  # F1 and label-F1, by the toolkit's names


class EntityCounts(NamedTuple):
    """Entities of every utterance and tag.

    Attributes:
        tags: those seen in reference or hypothesis, in the order of their first utterance.
        counts: (utterances, tags, 3) integers: found rightly, in the reference, in the hypothesis.
    """

    tags: list[str]
    counts: np.ndarray


def count_entities(refs: Sequence[Sequence[Entity]], hyps: Sequence[Sequence[Entity]], criterion: str) -> EntityCounts:
    """Count what reference and hypothesis have in common.

    An entity that occurs twice must be found twice.

    Args:
        refs: entities of each utterance.
        hyps: likewise, of as many utterances.
        criterion: "standard" (tag and phrase must be right) or "label" (the tag must).
    """
    tags: dict[str, int] = {}
    cells = []
    for i, (ref, hyp) in enumerate(zip(refs, hyps, strict=True)):
        if criterion == "label":
            ref, hyp = ([(tag, "") for tag, _ in entities] for entities in (ref, hyp))
        found = _per_tag(Counter(ref) & Counter(hyp))
        in_ref, in_hyp = _per_tag(Counter(ref)), _per_tag(Counter(hyp))
        for tag in sorted(in_ref.keys() | in_hyp.keys()):
            cells.append((i, tags.setdefault(tag, len(tags)), found[tag], in_ref[tag], in_hyp[tag]))
    counts = np.zeros((len(refs), len(tags), 3), dtype=np.int64)
    for i, tag, *numbers in cells:
        counts[i, tag] = numbers
    return EntityCounts(list(tags), counts)


def _per_tag(entities: Counter) -> Counter:
    tags: Counter = Counter()
    for (tag, _), number in entities.items():
        tags[tag] += number
    return tags


def precision_recall_f(totals: np.ndarray) -> np.ndarray:
    """Turn counts (..., 3) into precision, recall and F (..., 3), fractions; 0 / 0 is 0."""
    totals = np.asarray(totals, dtype=np.float64)
    found, in_ref, in_hyp = totals[..., 0], totals[..., 1], totals[..., 2]
    precision, recall = _ratio(found, in_hyp), _ratio(found, in_ref)
    return np.stack([precision, recall, _ratio(2 * precision * recall, precision + recall)], axis=-1)


def micro_f(totals: np.ndarray) -> np.ndarray:
    """F in percent (...) over all tags, from the counts (..., tags, 3) of a set or of many resampled ones."""
    return 100 * precision_recall_f(totals.sum(axis=-2))[..., 2]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole == 0, 1, whole)


def summarize(entities: EntityCounts) -> dict[str, dict[str, float]]:
    """Score a set: `{overall_micro, overall_macro or tag: {precision, recall, fscore}}`, fractions.

    Micro is over all entities, macro the mean over the tags that were seen (0 if none was).
    """
    totals = entities.counts.sum(axis=0)
    of_tags = precision_recall_f(totals)
    rows = dict(zip(entities.tags, of_tags, strict=True))
    rows["overall_micro"] = precision_recall_f(totals.sum(axis=0))
    # tag order and np.mean, as the toolkit has them: the last bit depends on them
    rows["overall_macro"] = np.array([np.mean(of_tags[:, i].tolist()) if entities.tags else 0.0 for i in range(3)])
    return {name: dict(zip(("precision", "recall", "fscore"), row.tolist(), strict=True)) for name, row in rows.items()}


def read_entities(texts: Sequence[str], tags: str) -> dict[str, list[list[Entity]]]:
    """Read the entities of tagged texts, by the set of tags that they are scored with.

    Returns:
        `{"combined": entities of each text}`, and "raw" too where the texts have raw tags.
    """
    entities = [parse_entities(text, tags) for text in texts]
    return {"combined": entities} if tags == "combined" else {"combined": [combine(e) for e in entities], "raw": entities}


def score_ner(refs: Sequence[str], hyps: Sequence[str], tags: str) -> dict:
    """Score tagged texts.

    Args:
        refs: reference of each utterance, tagged.
        hyps: what was recognised, tagged.
        tags: set of tags that both are written with, "raw" or "combined".

    Returns:
        - utterances: their number.
        - wer: word error rate without the tags, percent, by the smallest number of edits.
        - interval: 95% bootstrap intervals over the utterances, percent, of the combined tags' micro F1 ("standard") and
          label-F1 ("label").
        - combined, and raw where the texts have raw tags: `{"standard": summary, "label": summary}`, see `summarize`.
    """
    ref_entities, hyp_entities = read_entities(refs, tags), read_entities(hyps, tags)
    result: dict = {"utterances": len(refs), "wer": word_error_rate(refs, hyps, tags), "interval": {}}
    for tag_set in ref_entities:
        counted = {c: count_entities(ref_entities[tag_set], hyp_entities[tag_set], c) for c in CRITERIA}
        result[tag_set] = {criterion: summarize(entities) for criterion, entities in counted.items()}
        if tag_set == "combined":
            result["interval"] = {c: bootstrap_interval(counted[c].counts, micro_f) for c in CRITERIA}
    return result


def word_error_rate(refs: Sequence[str], hyps: Sequence[str], tags: str) -> float:
    """Word error rate of tagged texts without their tags, percent; 0 where the references have no words."""
    errors = words = 0
    for ref, hyp in zip(refs, hyps, strict=True):
        ref_words, hyp_words = (strip_tags(text, tags).split() for text in (ref, hyp))
        errors += edit_distance(ref_words, hyp_words)
        words += len(ref_words)
    return 100 * errors / words if words else 0.0


def edit_distance(ref: Sequence[str], hyp: Sequence[str]) -> int:
    """The smallest number of words to substitute, delete and insert that makes one of the other."""
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hyp, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]

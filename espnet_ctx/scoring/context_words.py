"""What a context does to its own words and to the others, and whether it is copied into what is recognised."""

from typing import Mapping, NamedTuple, Sequence

from espnet_ctx.files import UserError
from espnet_ctx.scoring.sclite import Step


class ContextCounts(NamedTuple):
    """Counts over a set; the errors of both kinds of words and the insertions are what sclite counts.

    Attributes:
        inside: words of the reference that stand in the context of their utterance.
        inside_errors: those substituted or deleted.
        outside: the other words of the reference.
        outside_errors: those substituted or deleted.
        insertions: recognised words that stand for none of the reference.
        copied: recognised words, inserted or in place of another, that nobody said in the utterance but that stand in
            its context.
    """

    inside: int
    inside_errors: int
    outside: int
    outside_errors: int
    insertions: int
    copied: int

    @property
    def inside_wer(self) -> float:
        """Errors per word inside the context, percent; insertions belong to neither kind."""
        return _percent(self.inside_errors, self.inside)

    @property
    def outside_wer(self) -> float:
        """Errors per word outside the context, percent."""
        return _percent(self.outside_errors, self.outside)

    @property
    def false_insertion_rate(self) -> float:
        """Copied words per word of the reference, percent."""
        return _percent(self.copied, self.inside + self.outside)


def count_context_words(alignments: Mapping[str, Sequence[Step]], contexts: Mapping[str, str]) -> ContextCounts:
    """Count over a set.

    Args:
        alignments: of each utterance, as `espnet_ctx.scoring.sclite.align` gives them.
        contexts: text that each utterance was recognised with, empty where it had none.

    Raises:
        UserError: an utterance without a line in `contexts`.
    """
    missing = sorted(alignments.keys() - contexts.keys())
    if missing:
        raise UserError(f"the context texts lack {len(missing)} of {len(alignments)} utterances, e.g. {missing[0]}")
    inside = inside_errors = outside = outside_errors = insertions = copied = 0
    for utt, steps in alignments.items():
        context = set(contexts[utt].lower().split())
        said = {step.ref for step in steps if step.ref is not None}
        for step in steps:
            wrong = step.op != "C"
            if step.ref is None:
                insertions += 1
            elif step.ref in context:
                inside += 1
                inside_errors += wrong
            else:
                outside += 1
                outside_errors += wrong
            copied += wrong and step.hyp is not None and step.hyp in context and step.hyp not in said
    return ContextCounts(inside, inside_errors, outside, outside_errors, insertions, copied)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0

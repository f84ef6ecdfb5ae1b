"""Errors on homophones, which only the context tells apart, and on the other words."""

from pathlib import Path
from typing import Iterable, Mapping, NamedTuple, Sequence

from espnet_ctx.files import UserError
from espnet_ctx.scoring.sclite import Step


class HomophoneCounts(NamedTuple):
    """Counts over a set; `homophone_errors + other_errors` is what sclite counts.

    Attributes:
        homophones: homophones in the reference.
        homophone_errors: those substituted or deleted.
        wrong_twins: those recognised as a word that sounds the same (flour as flower).
        others: the other words in the reference.
        other_errors: those substituted or deleted, and all inserted words.
    """

    homophones: int
    homophone_errors: int
    wrong_twins: int
    others: int
    other_errors: int

    @property
    def wer(self) -> float:
        """Word error rate, percent."""
        return _percent(self.homophone_errors + self.other_errors, self.homophones + self.others)

    @property
    def homophone_wer(self) -> float:
        """Errors per homophone, percent."""
        return _percent(self.homophone_errors, self.homophones)

    @property
    def wrong_twin_rate(self) -> float:
        """Wrong twins per homophone, percent."""
        return _percent(self.wrong_twins, self.homophones)

    @property
    def other_wer(self) -> float:
        """Errors per other word, percent."""
        return _percent(self.other_errors, self.others)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def read_homophones(path) -> dict[str, frozenset[str]]:
    """Read a list of homophones, two or more words of one sound a line, into `{word: its twins}`.

    Raises:
        UserError: missing file, a line with one word, or a word that occurs twice.
    """
    twins: dict[str, frozenset[str]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (--pairs)") from None
    for number, line in enumerate(lines, 1):
        words = line.lower().split()
        if len(words) < 2:
            raise UserError(f"{path}, line {number}: expected two or more words of one sound, got '{line}'")
        for word in words:
            if word in twins or words.count(word) > 1:
                raise UserError(f"{path}, line {number}: '{word}' occurs twice")
        twins.update({word: frozenset(words) - {word} for word in words})
    return twins


def count_homophones(
    alignments: Iterable[Sequence[Step]], twins: Mapping[str, frozenset[str]]
) -> HomophoneCounts:
    """Count over the alignments of a set, as `espnet_ctx.scoring.sclite.align` gives them."""
    homophones = homophone_errors = wrong_twins = others = other_errors = 0
    for steps in alignments:
        for step in steps:
            wrong = step.op != "C"
            if step.ref in twins:
                homophones += 1
                homophone_errors += wrong
                wrong_twins += step.hyp in twins[step.ref]
            else:
                others += step.op != "I"
                other_errors += wrong
    return HomophoneCounts(homophones, homophone_errors, wrong_twins, others, other_errors)

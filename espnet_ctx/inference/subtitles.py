"""Recognised words as subtitles (SRT, WebVTT) and as NIST's CTM."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from espnet_ctx.inference.ctc import Timed

LINE = 42  # characters that viewers read at a glance
LINES = 2
GAP = 1.0  # seconds of silence that end a subtitle
LINGER = 0.5  # seconds that a subtitle stays after its last word, while none follows


class Cue(NamedTuple):
    """A subtitle; seconds."""

    start: float
    end: float
    text: str


def cues(utterances: Iterable[Sequence[Timed]]) -> list[Cue]:
    """Subtitles of at most two lines of one utterance, that begin with their first word and do not overlap.

    Args:
        utterances: the words of each, in order, with their times in the recording.
    """
    groups: list[list[Timed]] = []
    for words in utterances:
        begun = len(groups)
        for word in words:
            if len(groups) > begun and word.start - groups[-1][-1].end < GAP and len(_wrap([*groups[-1], word])) <= LINES:
                groups[-1].append(word)
            else:
                groups.append([word])
    result = []
    for group, following in zip(groups, [*groups[1:], None]):
        end = group[-1].end + LINGER
        result.append(Cue(group[0].start, end if following is None else min(end, following[0].start), "\n".join(_wrap(group))))
    return result


def srt(subtitles: Iterable[Cue]) -> str:
    """SubRip."""
    rows = (f"{n}\n{clock(c.start, ',')} --> {clock(c.end, ',')}\n{c.text}\n" for n, c in enumerate(subtitles, 1))
    return "\n".join(rows)


def vtt(subtitles: Iterable[Cue]) -> str:
    """WebVTT."""
    escape = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
    rows = (f"{clock(c.start, '.')} --> {clock(c.end, '.')}\n{c.text.translate(escape)}\n" for c in subtitles)
    return "\n".join(["WEBVTT\n", *rows])


def ctm(recording: str, words: Iterable[Timed]) -> str:
    """`<recording> 1 <start> <duration> <word> <confidence>`, a word a line, as sclite reads it."""
    rows = (f"{recording} 1 {w.start:.3f} {w.end - w.start:.3f} {w.text} {w.confidence:.4f}\n" for w in words)
    return "".join(rows)


def _wrap(words: Iterable[Timed]) -> list[str]:
    return textwrap.wrap(" ".join(word.text for word in words), LINE, break_long_words=False, break_on_hyphens=False)


def clock(seconds: float, point: str) -> str:
    """`hours:minutes:seconds`, three digits after the decimal point."""
    milliseconds = round(seconds * 1000)
    hours, milliseconds = divmod(milliseconds, 3_600_000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"

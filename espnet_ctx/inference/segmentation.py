"""Cuts a stream of sound into utterances, while it comes: where nobody speaks, or in pieces of a fixed length."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from espnet_ctx.files import UserError
from espnet_ctx.inference.speech import RATE

WINDOW = 512  # samples that the voice activity detector looks at
PAD = 0.1  # seconds kept before and after speech
FRAME = RATE // 50  # samples among which the quietest place is looked for


class Segment(NamedTuple):
    """A piece of a recording."""

    start: float  # seconds
    samples: np.ndarray  # (N,) float32 at 16 kHz


def fixed(blocks: Iterable[np.ndarray], longest: float) -> Iterator[Segment]:
    """Pieces of about equal length, each cut at the quietest place of its last quarter.

    Args:
        blocks: (N,) samples at 16 kHz, one after the other.
        longest: seconds of a piece.
    """
    limit = _limit(longest)
    kept, start = np.zeros(0, np.float32), 0
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= limit:
            cut = _quietest(kept[:limit])
            yield Segment(start / RATE, kept[:cut])
            kept, start = kept[cut:], start + cut
    if len(kept):
        yield Segment(start / RATE, kept)


def voice_activity(blocks: Iterable[np.ndarray], longest: float, pause: float = 0.4, threshold: float = 0.5) -> Iterator[Segment]:
    """Where somebody speaks, by Silero VAD; longer speech is cut at the quietest place of its last quarter.

    Args:
        blocks: (N,) samples at 16 kHz, one after the other.
        longest: seconds of a piece.
        pause: seconds without speech that end an utterance.
        threshold: probability above which a window of 32 ms is speech.

    Raises:
        UserError: the package silero-vad is missing.
    """
    detector = _detector(pause, threshold)
    limit = _limit(longest)
    kept, start = np.zeros(0, np.float32), 0  # samples that may still be needed, and the number of the first one
    heard = 0  # samples that the detector has seen
    begun: int | None = None  # first sample of the speech that goes on
    for block in blocks:
        kept = np.concatenate([kept, block])
        while start + len(kept) - heard >= WINDOW:
            event = detector(kept[heard - start : heard - start + WINDOW]) or {}
            heard += WINDOW
            if "start" in event:
                begun = max(event["start"], start)
            if "end" in event and begun is not None:
                yield Segment(begun / RATE, kept[begun - start : event["end"] - start])
                kept, start = kept[event["end"] - start :], event["end"]
                begun = None
            if begun is not None and heard - begun >= limit:
                cut = begun + _quietest(kept[begun - start : begun - start + limit])
                yield Segment(begun / RATE, kept[begun - start : cut - start])
                kept, start = kept[cut - start :], cut
                begun = cut
            if begun is None:  # all but the pad of speech that may begin now
                old = max(0, heard - RATE - start)
                kept, start = kept[old:], start + old
    if begun is not None:
        yield Segment(begun / RATE, kept[begun - start :])


SEGMENTATIONS = {"vad": voice_activity, "fixed": fixed}


def _limit(longest: float) -> int:
    if longest < 1:
        raise UserError(f"--max_segment is {longest} s: must be at least 1")
    return round(longest * RATE)


def _quietest(samples: np.ndarray) -> int:
    """Where to cut: the middle of the quietest 20 ms of the last quarter."""
    begin = len(samples) * 3 // 4
    frames = samples[begin : begin + (len(samples) - begin) // FRAME * FRAME].reshape(-1, FRAME)
    return begin + int(np.square(frames).sum(1).argmin()) * FRAME + FRAME // 2


def _detector(pause: float, threshold: float):
    try:
        from silero_vad import VADIterator, load_silero_vad
    except ImportError as e:
        raise UserError("--segmentation vad needs the package silero-vad: pip install 'espnet_ctx[vad]', or use fixed") from e
    iterator = VADIterator(
        load_silero_vad(), threshold, RATE, min_silence_duration_ms=round(1000 * pause), speech_pad_ms=round(1000 * PAD)
    )
    return lambda window: iterator(torch.from_numpy(window))

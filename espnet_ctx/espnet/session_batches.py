"""Training batches in the order of speech, many sessions side by side."""

import random
from typing import Mapping

from espnet2.samplers.abs_sampler import AbsSampler

from espnet_ctx.inference.ctc import length_batches

LANES = 32  # with fewer, batches hold utterances of less like length and more padding


class SessionBatches(AbsSampler):
    """Batches of which each utterance's predecessor is in an earlier one of the same epoch.

    The sessions, in an order that changes with the epoch, are dealt to lanes: a session that has ended makes room for
    the next one. A turn takes an utterance of each lane and is cut into batches of like length.

    Args:
        places: utterance -> (row, first row of its session, row after the last), as stage 7 writes them.
        num_samples: utterance -> length.
        batch_bins: padded samples of a batch at most.
        lanes: sessions side by side.
    """

    def __init__(
        self, places: Mapping[str, tuple[int, int, int]], num_samples: Mapping[str, int], batch_bins: int, lanes: int = LANES
    ):
        sessions: dict[int, list[str]] = {}
        for utt in sorted(places, key=lambda utt: places[utt][0]):
            sessions.setdefault(places[utt][1], []).append(utt)
        self.sessions = list(sessions.values())
        self.num_samples, self.batch_bins, self.lanes = num_samples, batch_bins, lanes
        self.number = len(self.generate(0))

    def __len__(self) -> int:
        return self.number

    def __iter__(self):
        return iter(self.generate(0))

    def generate(self, seed: int) -> list[list[str]]:
        """The batches of an epoch; ESPnet gives a seed that changes with it."""
        waiting = [list(reversed(session)) for session in self.sessions]
        random.Random(seed).shuffle(waiting)
        lanes: list[list[str]] = []
        batches = []
        while lanes or waiting:
            while waiting and len(lanes) < self.lanes:
                lanes.append(waiting.pop())
            turn = [lane.pop() for lane in lanes]
            lanes = [lane for lane in lanes if lane]
            lengths = [self.num_samples[utt] for utt in turn]
            batches += [[turn[i] for i in batch] for batch in length_batches(lengths, self.batch_bins)]
        return batches

"""Greedy CTC decoding of padded batches."""

from typing import Iterator, NamedTuple, Sequence

import torch


class Hypothesis(NamedTuple):
    """What was recognised in one utterance."""

    token_ids: list[int]
    score: float  # log-probability of the best path, summed over frames


def greedy(log_probs: torch.Tensor, lengths: torch.Tensor, blank: int = 0) -> list[Hypothesis]:
    """Best path: the likeliest token of each frame, repetitions merged, blanks removed.

    Args:
        log_probs: (B, T, V).
        lengths: (B,) valid frames.
        blank: id of the blank.

    Returns:
        One hypothesis an utterance.
    """
    scores, ids = log_probs.max(-1)
    inside = torch.arange(ids.size(1), device=ids.device) < lengths.unsqueeze(1)
    new = torch.ones_like(inside)
    new[:, 1:] = ids[:, 1:] != ids[:, :-1]
    kept = inside & new & (ids != blank)
    totals = scores.masked_fill(~inside, 0.0).sum(1).tolist()
    flat, counts = ids[kept].tolist(), kept.sum(1).tolist()
    hypotheses, start = [], 0
    for count, total in zip(counts, totals):
        hypotheses.append(Hypothesis(flat[start : start + count], total))
        start += count
    return hypotheses


def length_batches(num_samples: Sequence[int], batch_samples: int) -> Iterator[list[int]]:
    """Batches of utterances of like length, longest first, each of at most so many padded samples.

    Args:
        num_samples: length of each utterance.
        batch_samples: bound on (longest utterance) x (utterances); a longer utterance is a batch of its own.

    Yields:
        Indices into `num_samples`.
    """
    batch: list[int] = []
    for index in sorted(range(len(num_samples)), key=lambda i: -num_samples[i]):
        if batch and num_samples[batch[0]] * (len(batch) + 1) > batch_samples:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

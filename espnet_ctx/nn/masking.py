"""Masks over time, computed on the device and for a whole batch at once."""

from typing import TypeVar

import torch

Lengths = TypeVar("Lengths", torch.Tensor, int)  # (B,), or one


def length_mask(lengths: torch.Tensor, max_length: int) -> torch.Tensor:
    """True where a position is inside its sequence.

    Args:
        lengths: (B,) number of valid positions.
        max_length: T, the padded length.

    Returns:
        (B, T) bool.
    """
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(1)


def span_mask(lengths: torch.Tensor, max_length: int, prob: float, span: int) -> torch.Tensor:
    """Random spans to mask in fine-tuning (wav2vec 2.0, arXiv 2006.11477, section 3.1).

    Each sequence of n frames gets about `prob * n / span` spans (rounded up or down at random, at
    least one) whose starts are drawn without overlap being forbidden, so the masked share is a little
    below `prob`. No span reaches into the padding; a sequence shorter than `span` is left unmasked.

    Args:
        lengths: (B,) valid frames.
        max_length: T.
        prob: share of frames that spans would cover if they never overlapped.
        span: frames in one span.

    Returns:
        (B, T) bool, True where a frame is to be masked.
    """
    batch, device = lengths.size(0), lengths.device
    wanted = prob * lengths / span + torch.rand(batch, device=device)
    counts = wanted.long().clamp(min=1).masked_fill(lengths < span, 0)
    most = int(prob * max_length / span + 1)
    starts = (torch.rand(batch, most, device=device) * (lengths - span + 1).clamp(min=1).unsqueeze(1)).long()
    used = length_mask(counts, most)
    # +1 at each start, -1 behind each end: positive running sums are inside some span
    edges = torch.zeros(batch, max_length + span + 1, dtype=torch.int32, device=device)
    edges.scatter_add_(1, starts, used.int())
    edges.scatter_add_(1, starts + span, -used.int())
    return edges.cumsum(1)[:, :max_length] > 0

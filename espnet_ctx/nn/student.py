"""The student that stands in for LLM and text encoder: a pooling over frames and a fully connected layer."""

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional as F


class Pooling(nn.Module, ABC):
    """Frames of unequal numbers to K tokens.

    Args:
        dim: D, width of the frames.
        num_tokens: K.
    """

    many = False  # can give more than one token
    step = 1  # looks at every so many frames
    output_size: int  # width of a token

    def __init__(self, dim: int, num_tokens: int):
        super().__init__()
        self.output_size = dim

    @abstractmethod
    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, T, D) every `step`-th frame, (B, T) which are there (None: all) -> (B, K, output_size)."""


class MeanPooling(Pooling):
    """Mean over the valid frames (arXiv 2312.09895, section 2.2.2)."""

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """See `Pooling`."""
        if mask is None:
            return frames.mean(1, keepdim=True)
        weights = mask.to(frames.dtype)
        return torch.einsum("btd,bt->bd", frames, weights / weights.sum(1, keepdim=True)).unsqueeze(1)


class AttentivePooling(Pooling):
    """Weighted mean with learnt weights, one set for each of 4 slices of the channels."""

    heads = 4

    def __init__(self, dim: int, num_tokens: int):
        super().__init__(dim, num_tokens)
        self.score = nn.Linear(dim, self.heads)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """See `Pooling`."""
        weights = _shares(self.score(frames), mask)  # (B, T, H)
        slices = frames.unflatten(-1, (self.heads, -1))
        return torch.einsum("bthd,bth->bhd", slices, weights.to(frames.dtype)).flatten(1).unsqueeze(1)


class ConvMaxPooling(Pooling):
    """A convolution that can spot words, then the maximum over time.

    It looks at every second frame, at 11 of these around every fourth frame, and at few channels: a small part of the
    upstream's time.
    """

    step, bottleneck, kernel, stride = 2, 32, 11, 2

    def __init__(self, dim: int, num_tokens: int, channels: int = 256):
        super().__init__(dim, num_tokens)
        self.reduce = nn.Linear(dim, self.bottleneck)
        self.conv = nn.Conv1d(self.bottleneck, channels, self.kernel, self.stride, padding=self.kernel // 2)
        self.output_size = channels

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """See `Pooling`."""
        reduced = self.reduce(frames)
        if mask is None:
            return self.conv(reduced.transpose(1, 2)).amax(-1).relu().unsqueeze(1)
        spotted = self.conv(reduced.masked_fill(~mask.unsqueeze(-1), 0.0).transpose(1, 2))
        # a position counts when the frame at its centre is valid; before the relu 0 is as good as nothing
        return spotted.masked_fill(~mask[:, None, :: self.stride], 0.0).amax(-1).relu().unsqueeze(1)


class MultiQueryPooling(Pooling):
    """K learnt queries, each of which gives a weighted mean of the frames."""

    many = True

    def __init__(self, dim: int, num_tokens: int):
        super().__init__(dim, num_tokens)
        self.queries = nn.Parameter(torch.randn(num_tokens, dim) * dim**-0.5)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """See `Pooling`."""
        weights = _shares(F.linear(frames, self.queries), mask)  # (B, T, K)
        return weights.to(frames.dtype).transpose(1, 2) @ frames


POOLINGS = {"mean": MeanPooling, "attentive": AttentivePooling, "conv_max": ConvMaxPooling, "multi_query": MultiQueryPooling}


class Student(nn.Module):
    """Ê = FC(pool(Z)): predicts the teacher's context embedding from the frames of one utterance.

    Args:
        dim: D, width of the frames.
        context_dim: C, width of the teacher's embeddings.
        pooling: one of `POOLINGS` ("attentive" by default).
        num_tokens: K, context tokens; more than one only with "multi_query".
        stop_gradient: no gradient from the student into the frames (default: False, as in the paper).

    Raises:
        ValueError: unknown pooling, or K that the pooling cannot give.
    """

    def __init__(self, dim: int, context_dim: int, pooling: str = "attentive", num_tokens: int = 1, stop_gradient: bool = False):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"student pooling must be one of {', '.join(POOLINGS)}; got '{pooling}' (student_conf.pooling)")
        if num_tokens != 1 and not POOLINGS[pooling].many:
            raise ValueError(f"pooling '{pooling}' gives one token, got num_tokens {num_tokens}; use pooling 'multi_query'")
        self.stop_gradient, self.num_tokens = stop_gradient, num_tokens
        self.norm = nn.LayerNorm(dim)
        self.pooling = POOLINGS[pooling](dim, num_tokens)
        self.fc = nn.Linear(self.pooling.output_size, context_dim)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, T, D) frames, (B, T) which are there (None: all) -> (B, K, C)."""
        if self.stop_gradient:
            frames = frames.detach()
        step = self.pooling.step
        return self.fc(self.pooling(self.norm(frames[:, ::step]), None if mask is None else mask[:, ::step]))


def _shares(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the valid frames: (B, T, H), (B, T) -> (B, T, H)."""
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(-1), float("-inf"))
    return scores.softmax(1)

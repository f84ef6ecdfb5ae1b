"""The student that stands in for LLM and text encoder: a pooling over frames and a fully connected layer."""

import torch
from torch import nn


class MeanPooling(nn.Module):
    """Mean over the valid frames (arXiv 2312.09895, section 2.2.2)."""

    def __init__(self, dim: int, num_tokens: int):
        super().__init__()
        _one_token("mean", num_tokens)
        self.output_size = dim

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (B, T) -> (B, 1, D)."""
        weights = mask.to(frames.dtype)
        return torch.einsum("btd,bt->bd", frames, weights / weights.sum(1, keepdim=True)).unsqueeze(1)


class AttentivePooling(nn.Module):
    """Weighted mean with learnt weights, one set for each of 4 slices of the channels."""

    heads = 4

    def __init__(self, dim: int, num_tokens: int):
        super().__init__()
        _one_token("attentive", num_tokens)
        self.score = nn.Linear(dim, self.heads)
        self.output_size = dim

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (B, T) -> (B, 1, D)."""
        weights = self.score(frames).masked_fill(~mask.unsqueeze(-1), float("-inf")).softmax(1)
        slices = frames.unflatten(-1, (self.heads, -1))
        return torch.einsum("bthd,bth->bhd", slices, weights.to(frames.dtype)).flatten(1).unsqueeze(1)


class ConvMaxPooling(nn.Module):
    """A convolution that can spot words, then the maximum over time.

    It looks at every second frame, at 11 of these around every fourth frame, and at few channels: a small part of the
    upstream's time.
    """

    step, bottleneck, kernel, stride = 2, 32, 11, 2

    def __init__(self, dim: int, num_tokens: int, channels: int = 256):
        super().__init__()
        _one_token("conv_max", num_tokens)
        self.reduce = nn.Linear(dim, self.bottleneck)
        self.conv = nn.Conv1d(self.bottleneck, channels, self.kernel, self.stride, padding=self.kernel // 2)
        self.output_size = channels

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (B, T) -> (B, 1, channels)."""
        mask = mask[:, :: self.step]
        reduced = self.reduce(frames[:, :: self.step]).masked_fill(~mask.unsqueeze(-1), 0.0)
        spotted = self.conv(reduced.transpose(1, 2)).relu()
        # a position counts when the frame at its centre is valid; relu makes 0 the neutral element
        return spotted.masked_fill(~mask[:, None, :: self.stride], 0.0).amax(-1).unsqueeze(1)


class MultiQueryPooling(nn.Module):
    """K learnt queries attend over the frames and give K tokens."""

    def __init__(self, dim: int, num_tokens: int):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_tokens, dim) * dim**-0.5)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output_size = dim

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (B, T) -> (B, K, D)."""
        scores = self.queries @ self.key(frames).transpose(1, 2)  # (B, K, T)
        weights = scores.masked_fill(~mask.unsqueeze(1), float("-inf")).softmax(-1)
        return weights @ self.value(frames)


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
        self.stop_gradient, self.num_tokens = stop_gradient, num_tokens
        self.norm = nn.LayerNorm(dim)
        self.pooling = POOLINGS[pooling](dim, num_tokens)
        self.fc = nn.Linear(self.pooling.output_size, context_dim)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) frames, (B, T) frame mask -> (B, K, C)."""
        if self.stop_gradient:
            frames = frames.detach()
        return self.fc(self.pooling(self.norm(frames), mask))


def _one_token(pooling: str, num_tokens: int) -> None:
    if num_tokens != 1:
        raise ValueError(f"pooling '{pooling}' gives one token, got num_tokens {num_tokens}; use pooling 'multi_query'")

"""Cross-attention from speech frames to context embeddings (arXiv 2312.09895, section 2.1)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear


class Context(NamedTuple):
    """Context embeddings and their mask, always together."""

    embeddings: torch.Tensor  # (B, L, C)
    mask: torch.Tensor | None = None  # (B, L) bool, which of them are there; None: all

    def present(self) -> torch.Tensor:
        """Which utterances have any row, (B,) bool."""
        return self.embeddings.new_ones(len(self.embeddings), dtype=torch.bool) if self.mask is None else self.mask.any(1)

    def only(self, use: torch.Tensor) -> "Context":
        """Absent where `use`, (B,) bool, is not."""
        use = use.unsqueeze(1)
        return Context(self.embeddings, use.expand(self.embeddings.shape[:2]) if self.mask is None else self.mask & use)


def choose(first: Context, second: Context, use_first: torch.Tensor) -> Context:
    """Each utterance gets the first context or the second; `use_first` is (B,) bool."""
    first, second = first.only(use_first), second.only(~use_first)
    both = torch.cat([first.embeddings, second.embeddings.to(first.embeddings.dtype)], 1)
    return Context(both, torch.cat([first.mask, second.mask], 1))


def context_mask(context: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Which rows of a padded context are there: inside the length and not all zeros (= absent).

    Args:
        context: (B, L, C).
        lengths: (B,) rows.

    Returns:
        (B, L) bool.
    """
    inside = torch.arange(context.size(1), device=context.device) < lengths.unsqueeze(1)
    return inside & (context != 0).any(-1)


class Folded(NamedTuple):
    """What follows from the weights of a `CrossAttention` alone."""

    absent: torch.Tensor  # (D,) what a frame gets when there is no context
    projections: torch.Tensor  # (2H, E, D + 1): of keys, to what frames are multiplied with and a bias; of values, to frames


class CrossAttention(nn.Module):
    """Z' = Z + gate * CA(Q = norm(Z), K = V = P E), with a learnt null key and value among the keys.

    The null key makes the attention defined when there is no context and lets frames ignore the
    context they get. An absent context gives bit for bit what no context gives.

    Args:
        dim: D, width of the frames.
        context_dim: C, width of the context embeddings.
        num_heads: attention heads; divides `dim`.
        dropout: on the attention weights.
        gate_init: initial value of the learnt gate on the residual.

    Raises:
        ValueError: `dim` not divisible by `num_heads`.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int = 4, dropout: float = 0.0, gate_init: float = 0.1):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide the upstream's width {dim}, got {num_heads} (cross_attention_conf)")
        self.num_heads = num_heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(context_dim)
        # of a kind that dynamic quantisation leaves alone: their weights go into the keys and values
        self.query = NonDynamicallyQuantizableLinear(dim, dim)
        self.key_value = nn.Linear(context_dim, 2 * dim)
        self.null_key_value = nn.Parameter(torch.randn(1, 1, 2 * dim) * dim**-0.5)
        self.out = NonDynamicallyQuantizableLinear(dim, dim)
        self.gate = nn.Parameter(torch.tensor(float(gate_init)))
        self._folded: Folded | None = None

    def forward(
        self, frames: torch.Tensor, context: torch.Tensor | None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend.

        Args:
            frames: Z (B, T, D).
            context: E (B, L, C), or None for no context at all.
            mask: (B, L) bool, which context rows are there (None: all).

        Returns:
            Z' (B, T, D).
        """
        absent = frames + self.folded().absent
        if context is None:
            return absent
        batch, length, _ = context.shape
        dim = frames.size(-1)
        if mask is not None:
            context = torch.where(mask.unsqueeze(-1), context, 0.0)  # padding may hold anything
        heads = self.rows(self.context_norm(context.to(frames.dtype)).flatten(0, 1))
        rows = heads.view(2 * self.num_heads, batch, length, -1).transpose(0, 1).flatten(1, 2)  # (B, 2H * L, D + 1)
        key, value = rows[..., :dim].chunk(2, 1)
        bias = rows[:, : key.size(1), dim:]
        if mask is not None:
            bias = torch.where(mask.unsqueeze(1), bias.view(batch, -1, length), float("-inf")).view_as(bias)
        scores = torch.baddbmm(bias, key, self.norm(frames).transpose(1, 2))  # (B, H * L, T)
        weights = self._weights(scores.to(absent.dtype), length)
        if self.training:
            weights = F.dropout(weights, self.dropout)
        return absent.baddbmm_(weights.transpose(1, 2), value.to(absent.dtype))

    def rows(self, context: torch.Tensor) -> torch.Tensor:
        """What frames attend to and what they get for it: keys of the normalised frames and values for the residual.

        Args:
            context: (N, C) normalised context rows.

        Returns:
            (2H, N, D + 1): of each head the key and the bias of its scores, then of each head the value and nothing.
        """
        # a softmax does not change when all scores do, and its weights sum to 1: keys and values count by what makes
        # them differ from the null key and the null value, which then adds nothing
        key_value = self.key_value(context) - self.null_key_value.flatten(0, 1)
        heads = key_value.view(len(context), 2 * self.num_heads, -1).transpose(0, 1)  # (2H, N, E)
        # there are fewer keys than frames: the keys, not the frames, go through the projections of queries and outputs
        return heads @ self.folded().projections

    def fold(self) -> None:
        """Work out what follows from the weights alone and keep it, for inference: the weights change no more."""
        self._folded = Folded(*(tensor.detach() for tensor in self.folded()))

    def folded(self) -> Folded:
        """What `fold` kept, or what the weights are now."""
        if self._folded is not None:
            return self._folded
        dim, width = self.query.in_features, self.query.in_features // self.num_heads
        _, null_value = self.null_key_value.view(2, dim)
        query = torch.cat([self.query.weight, self.query.bias.unsqueeze(1)], 1).view(self.num_heads, width, dim + 1)
        out = (self.gate * self.out.weight).view(dim, self.num_heads, width).permute(1, 2, 0)
        return Folded(self.gate * self.out(null_value), torch.cat([query * width**-0.5, F.pad(out, (0, 1))]))

    @staticmethod
    def _weights(scores: torch.Tensor, length: int) -> torch.Tensor:
        """Of L context rows beside the null key, whose score is 0: (B, H * L, T) -> (B, H * L, T)."""
        if length == 1:
            return scores.sigmoid()
        return F.pad(scores.unflatten(1, (-1, length)), (0, 0, 1, 0)).softmax(2)[:, :, 1:].flatten(1, 2)

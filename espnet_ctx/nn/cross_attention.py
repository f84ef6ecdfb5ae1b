"""Cross-attention from speech frames to context embeddings (arXiv 2312.09895, section 2.1)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class Context(NamedTuple):
    """Context embeddings and their mask, always together."""

    embeddings: torch.Tensor  # (B, L, C)
    mask: torch.Tensor  # (B, L) bool


def choose(first: Context, second: Context, use_first: torch.Tensor) -> Context:
    """Each utterance gets the first context or the second; `use_first` is (B,) bool."""
    use = use_first.unsqueeze(1)
    both = torch.cat([first.embeddings, second.embeddings.to(first.embeddings.dtype)], 1)
    return Context(both, torch.cat([first.mask & use, second.mask & ~use], 1))


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
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(context_dim, 2 * dim)
        self.null_key_value = nn.Parameter(torch.randn(1, 1, 2 * dim) * dim**-0.5)
        self.out = nn.Linear(dim, dim)
        self.gate = nn.Parameter(torch.tensor(float(gate_init)))

    def forward(
        self, frames: torch.Tensor, context: torch.Tensor | None, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            frames: Z (B, T, D).
            context: E (B, L, C), or None for no context at all.
            mask: (B, L) bool, True where a context row is there; None together with `context`.

        Returns:
            Z' (B, T, D), and what was added to Z (B, T, D).
        """
        batch, _, dim = frames.shape
        keys_values = self.null_key_value.expand(batch, 1, 2 * dim)
        if context is not None:
            context = context.masked_fill(~mask.unsqueeze(-1), 0.0)  # padding may hold anything
            projected = self.key_value(self.context_norm(context.to(frames.dtype)))
            keys_values = torch.cat([keys_values.to(projected.dtype), projected], 1)
            mask = F.pad(mask, (1, 0), value=True)
        heads = (batch, -1, self.num_heads, dim // self.num_heads)
        key, value = (x.reshape(heads).transpose(1, 2) for x in keys_values.chunk(2, -1))
        query = self.query(self.norm(frames)).view(heads).transpose(1, 2)
        scores = query @ key.transpose(-1, -2).to(query.dtype) * (dim // self.num_heads) ** -0.5
        if context is not None:
            scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        attended = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(batch, -1, dim)
        added = self.gate * self.out(attended)
        return frames + added, added

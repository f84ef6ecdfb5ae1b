"""Cross-attention from speech frames to context embeddings (arXiv 2312.09895, section 2.1)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear


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
        # of a kind that dynamic quantisation leaves alone: their weights go into the keys and values
        self.query = NonDynamicallyQuantizableLinear(dim, dim)
        self.key_value = nn.Linear(context_dim, 2 * dim)
        self.null_key_value = nn.Parameter(torch.randn(1, 1, 2 * dim) * dim**-0.5)
        self.out = NonDynamicallyQuantizableLinear(dim, dim)
        self.gate = nn.Parameter(torch.tensor(float(gate_init)))

    def forward(self, frames: torch.Tensor, context: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend.

        Args:
            frames: Z (B, T, D).
            context: E (B, L, C), or None for no context at all.
            mask: (B, L) bool, True where a context row is there; None together with `context`.

        Returns:
            Z' (B, T, D).
        """
        batch, _, dim = frames.shape
        null_key, null_value = self.null_key_value.chunk(2, -1)
        absent = frames + self.gate * self.out(null_value)
        if context is None:
            return absent
        context = context.masked_fill(~mask.unsqueeze(-1), 0.0)  # padding may hold anything
        key, value = self.key_value(self.context_norm(context.to(frames.dtype))).chunk(2, -1)
        # the weights sum to 1: a context row adds what makes its value differ from the null value
        value = self._by_head(value - null_value)  # (H, B * L, E)
        key = self._by_head(torch.cat([null_key.expand(batch, 1, dim).to(key.dtype), key], 1))  # (H, B * (1 + L), E)
        key = key * key.size(-1) ** -0.5
        # there are fewer keys than frames: the keys, not the frames, go through the projections of queries and outputs
        heads = (self.num_heads, batch, -1)
        bias = (key @ self.query.bias.view(self.num_heads, -1, 1)).view(heads).transpose(0, 1)  # (B, H, 1 + L)
        bias = bias.masked_fill(~F.pad(mask, (1, 0), value=True).unsqueeze(1), float("-inf"))
        key = (key @ self.query.weight.view(self.num_heads, -1, dim)).view(*heads, dim).transpose(0, 1)  # (B, H, 1 + L, D)
        value = (value @ self.out.weight.view(dim, self.num_heads, -1).permute(1, 2, 0)).view(*heads, dim).transpose(0, 1)
        scores = torch.baddbmm(bias.flatten(1).unsqueeze(-1), key.flatten(1, 2), self.norm(frames).transpose(1, 2))
        weights = scores.unflatten(1, bias.shape[1:]).softmax(2)[:, :, 1:].flatten(1, 2)  # (B, H * L, T)
        weights = F.dropout(weights, self.dropout, self.training).transpose(1, 2)
        return absent + weights @ (self.gate * value).flatten(1, 2).to(weights.dtype)

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (H, B * L, E)."""
        return x.reshape(-1, self.num_heads, x.size(-1) // self.num_heads).transpose(0, 1)

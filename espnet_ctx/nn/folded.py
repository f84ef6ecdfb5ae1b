"""Student, memory and cross-attention of an utterance in one piece, for inference."""

import torch
from torch.nn import functional as F

from espnet_ctx.nn.cross_attention import CrossAttention
from espnet_ctx.nn.memory import CodebookMemory, State
from espnet_ctx.nn.student import Student


class FoldedInjection:
    """What the three do to an utterance of each session, with all that follows from their weights multiplied out.

    Beside a small upstream each operation of a context counts, and each weight that is read. Between the norm of the
    frames and the residual all is linear but two softmaxes and two norms, and what is read of a codebook is a mixture
    of its entries, whose keys and values are known beforehand.

    Args:
        student: with `MultiQueryPooling`.
        memory: takes in an utterance before it is read for it.
        attention: the only one.
    """

    @torch.no_grad()
    def __init__(self, student: Student, memory: CodebookMemory, attention: CrossAttention):
        self.decay, self.norm = memory.decay, (attention.norm.normalized_shape, *_plain(attention.norm), attention.norm.eps)
        # the norms of student and attention are the same but for what they scale and shift by; a softmax over time
        # does not see the shift of its scores
        self.queries = student.pooling.queries * student.norm.weight  # (K, D)
        said = torch.cat([student.fc.weight * student.norm.weight, student.fc(student.norm.bias).unsqueeze(1)], 1)
        said = torch.cat([memory.directions() @ said / student.num_tokens, _same_norm(said)])  # of pooled frames and 1
        self.said_weight, self.said_bias = said[:, :-1].contiguous(), said[:, -1].contiguous()
        self.size = len(memory.codebook)  # M
        self.one = torch.ones_like(said[0, :1])

        norm = attention.context_norm
        entries = memory.codebook - memory.codebook.mean(1, keepdim=True)
        # the deviation of a mixture is a norm; its shares sum to 1
        deviation = F.pad(_same_norm(entries.t() * entries.size(1) ** -0.5), (0, 0, 0, 1), value=norm.eps**0.5)
        constant = attention.rows(norm.bias.unsqueeze(0))
        of_entries = attention.rows(entries * norm.weight + norm.bias) - constant
        self.mixed = torch.cat([deviation.t(), _keys_and_values(of_entries, attention).flatten(1)], 1)
        self.num_deviations = len(deviation)
        constant = _keys_and_values(constant, attention)
        # one head more, with all its weight on what frames get without a context
        constant[:, 0, -1, -1], constant[:, 1, -1, :-1] = float("inf"), attention.folded().absent
        self.constant = constant.flatten(1)

    def __call__(self, frames: torch.Tensor, mask: torch.Tensor | None, state: State) -> tuple[torch.Tensor, State]:
        """Z (S, T, D), (S, T) which are there (None: all), the memory before -> Z', the memory after the utterances."""
        sessions, _, dim = frames.shape
        normed = F.layer_norm(frames, *self.norm)
        across = normed.transpose(1, 2)
        scores = torch.bmm(self.queries.expand(sessions, -1, -1), across)  # (S, K, T)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(1), float("-inf"))
        pooled = torch.bmm(scores.softmax(-1), normed)
        said = F.linear(pooled, self.said_weight, self.said_bias)
        shares = torch.linalg.vector_norm(said[..., self.size :], dim=-1).reciprocal().unsqueeze(1)  # (S, 1, K)
        values = torch.baddbmm(state.values.unsqueeze(1), shares, said[..., : self.size], beta=self.decay).squeeze(1)
        mixed = values.softmax(-1) @ self.mixed
        deviation = torch.linalg.vector_norm(mixed[:, : self.num_deviations], dim=-1, keepdim=True)
        rows = torch.addcdiv(self.constant, mixed[:, self.num_deviations :], deviation).view(sessions, 2, -1, dim + 1)
        keys, added = rows.unbind(1)  # (S, H + 1, D + 1)
        weights = torch.baddbmm(keys[..., dim:], keys[..., :dim], across).sigmoid()
        out = torch.baddbmm(frames, weights.transpose(1, 2), added[..., :dim])
        return out, State(values, torch.add(self.one, state.weight, alpha=self.decay))


def _plain(norm: torch.nn.LayerNorm) -> tuple[torch.Tensor, torch.Tensor]:
    # that scales and shifts by nothing: PyTorch's kernel takes twice as long without
    return torch.ones_like(norm.weight), torch.zeros_like(norm.bias)


def _same_norm(matrix: torch.Tensor) -> torch.Tensor:
    """Of no more rows than columns: |R v| = |M v| for all v."""
    return torch.linalg.qr(matrix, mode="r").R


def _keys_and_values(rows: torch.Tensor, attention: CrossAttention) -> torch.Tensor:
    """(2H, N, D + 1), see `CrossAttention.rows`, -> (N, 2, H + 1, D + 1): keys before the norm's scale, the last head empty."""
    keys, values = rows.transpose(0, 1).chunk(2, 1)
    scale, shift = attention.norm.weight, attention.norm.bias.unsqueeze(1)
    keys = torch.cat([keys[..., :-1] * scale, keys[..., -1:] + keys[..., :-1] @ shift], -1)
    return F.pad(torch.stack([keys, values], 1), (0, 0, 0, 1))

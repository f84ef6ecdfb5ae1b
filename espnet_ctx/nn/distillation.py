"""The loss that pulls the student's context embeddings to the teacher's (arXiv 2312.09895, section 2.2.2)."""

import torch
from torch import nn
from torch.nn import functional as F


def segment_means(context: torch.Tensor, mask: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """A teacher's token sequence brought to K tokens: means over K equal, contiguous segments of its n rows.

    Where n < K, rows are repeated. Utterances without a single row give zeros.

    Args:
        context: (B, L, C).
        mask: (B, L) bool; valid rows need not be contiguous.
        num_tokens: K.

    Returns:
        (B, K, C).
    """
    count = mask.sum(1).view(-1, 1, 1)
    rank = (mask.cumsum(1) - 1).unsqueeze(1)  # (B, 1, L): place of a row among the valid ones
    segment = torch.arange(num_tokens, device=context.device).view(1, -1, 1)
    start = segment * count // num_tokens
    end = torch.maximum((segment + 1) * count // num_tokens, start + 1)
    member = ((rank >= start) & (rank < end) & mask.unsqueeze(1)).to(context.dtype)
    return member @ context.masked_fill(~mask.unsqueeze(-1), 0.0) / member.sum(-1, keepdim=True).clamp(min=1)


def cosine_loss(student: torch.Tensor, teacher: torch.Tensor, **_) -> torch.Tensor:
    """1 - cosine. (P, C), (P, C) -> scalar."""
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


def mse_loss(student: torch.Tensor, teacher: torch.Tensor, **_) -> torch.Tensor:
    """Squared Euclidean distance. (P, C), (P, C) -> scalar."""
    return (student - teacher).square().sum(-1).mean()


def infonce_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float, **_) -> torch.Tensor:
    """Each student against all teachers of the batch; equal teachers are no negatives. (P, C), (P, C) -> scalar."""
    teacher = F.normalize(teacher, dim=-1)
    logits = F.normalize(student, dim=-1) @ teacher.T / temperature
    same = teacher @ teacher.T > 1 - 1e-4
    same.fill_diagonal_(False)
    return F.cross_entropy(logits.masked_fill(same, float("-inf")), torch.arange(len(logits), device=logits.device))


def codebook_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float, codebook: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to the codebook entry nearest to the teacher, by cosine. (P, C), (P, C) -> scalar."""
    codebook = F.normalize(codebook, dim=-1)
    nearest = (F.normalize(teacher, dim=-1) @ codebook.T).argmax(-1)
    return F.cross_entropy(F.normalize(student, dim=-1) @ codebook.T / temperature, nearest)


LOSSES = {"cosine": cosine_loss, "mse": mse_loss, "infonce": infonce_loss, "codebook": codebook_loss}


class ContextDistillation(nn.Module):
    """L_ctx(Ê, stopgrad(E)) over the utterances of a batch that have a teacher.

    Args:
        loss: one of `LOSSES` ("cosine" by default).
        temperature: of "infonce" and "codebook".
        codebook: (M, C) cluster centres of teacher embeddings for "codebook", or their number M when a
            state dict will bring them.
        context_dim: C; needed only with M.

    Raises:
        ValueError: unknown loss, or "codebook" without a codebook.
    """

    def __init__(
        self,
        loss: str = "cosine",
        temperature: float = 0.1,
        codebook: torch.Tensor | int | None = None,
        context_dim: int | None = None,
    ):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"context loss must be one of {', '.join(LOSSES)}; got '{loss}' (distillation_conf.loss)")
        if (loss == "codebook") != (codebook is not None):
            raise ValueError("distillation_conf.codebook goes with loss 'codebook' and with no other")
        self.loss = LOSSES[loss]
        self.temperature = temperature
        if isinstance(codebook, int):
            codebook = torch.zeros(codebook, context_dim)
        self.register_buffer("codebook", codebook)

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compare.

        Args:
            student: Ê (B, K, C).
            teacher: E (B, L, C), brought to K tokens by `segment_means`; no gradient goes into it.
            mask: (B, L) bool, True where a teacher row is there.

        Returns:
            The loss, and the mean cosine between student and teacher (no gradient). Without a single
            teacher in the batch: a loss of zero that still touches the student, and None.
        """
        present = mask.any(1)
        student = student.float()
        if not present.any():
            return student.sum() * 0.0, None
        target = segment_means(teacher.detach().float(), mask, student.size(1))[present].flatten(0, 1)
        student = student[present].flatten(0, 1)
        loss = self.loss(student, target, temperature=self.temperature, codebook=self.codebook)
        return loss, F.cosine_similarity(student.detach(), target, dim=-1).mean()

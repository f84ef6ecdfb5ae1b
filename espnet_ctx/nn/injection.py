"""Which context a speech model gets, and where it enters."""

from typing import Mapping, NamedTuple, Sequence

import torch
from torch import nn

from espnet_ctx.nn.cross_attention import CrossAttention
from espnet_ctx.nn.student import Student


class Context(NamedTuple):
    """Context embeddings and their mask, always together."""

    embeddings: torch.Tensor  # (B, L, C)
    mask: torch.Tensor  # (B, L) bool


class ContextInjection(nn.Module):
    """Cross-attentions after chosen layers, fed by a given context or by a student.

    Without a student the given context is fed. With one, the student reads the frames that the first
    cross-attention gets and its output is fed; in training the teacher's context can be fed in its place.

    Args:
        dim: D, width of the frames.
        context_dim: C.
        after_layers: upstream layers, from 1, after each of which a cross-attention of its own stands;
            empty (default): after the upstream's output, as in the paper.
        student: keyword arguments of `Student`; None: no student.
        teacher_feeding: probability that, in training, an utterance is fed its teacher's context and not
            its student's; or (first, last, updates): a line from first to last over so many updates.
        **cross_attention: keyword arguments of `CrossAttention`.

    Raises:
        ValueError: a probability outside [0, 1].
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        after_layers: Sequence[int] = (),
        student: Mapping | None = None,
        teacher_feeding: float | Sequence[float] = 0.0,
        **cross_attention,
    ):
        super().__init__()
        first, last, self.feeding_updates = (
            teacher_feeding if isinstance(teacher_feeding, Sequence) else (teacher_feeding, teacher_feeding, 1)
        )
        if not (0 <= first <= 1 and 0 <= last <= 1):
            raise ValueError(f"teacher_feeding is a probability, got {teacher_feeding} (encoder_conf.teacher_feeding)")
        self.feeding = (first, last)
        self.after_layers = tuple(after_layers)
        self.attentions = nn.ModuleList(CrossAttention(dim, context_dim, **cross_attention) for _ in self.after_layers or (None,))
        self.student = Student(dim, context_dim, **student) if student is not None else None

    def fed(
        self, frames: torch.Tensor, frame_mask: torch.Tensor, given: Context | None, updates: int
    ) -> tuple[Context | None, torch.Tensor | None]:
        """The context to feed for a batch, and the student's output.

        Args:
            frames: (B, T, D) what the first cross-attention gets.
            frame_mask: (B, T) bool.
            given: the given or the teacher's context.
            updates: optimiser updates so far.

        Returns:
            The context for the cross-attentions, and Ê (B, K, C) or None without a student.
        """
        if self.student is None:
            return given, None
        predicted = self.student(frames, frame_mask)
        own = Context(predicted, frame_mask.new_ones(predicted.shape[:2]))
        first, last = self.feeding
        probability = first + (last - first) * min(updates / self.feeding_updates, 1.0)
        if not self.training or given is None or probability == 0:
            return own, predicted
        use = torch.rand(len(frames), 1, device=frames.device) < probability
        both = torch.cat([predicted, given.embeddings.to(predicted.dtype)], 1)
        return Context(both, torch.cat([own.mask & ~use, given.mask & use], 1)), predicted

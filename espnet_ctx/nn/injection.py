"""Which context a speech model gets, and where it enters."""

from typing import Mapping, NamedTuple, Sequence

import torch
from torch import nn

from espnet_ctx.nn.cross_attention import Context, CrossAttention, choose
from espnet_ctx.nn.folded import FoldedInjection
from espnet_ctx.nn.memory import CodebookMemory, SessionMemory, State, build_memory
from espnet_ctx.nn.student import MultiQueryPooling, Student


class Fed(NamedTuple):
    """What a batch of utterances is fed, and what comes of it."""

    context: Context | None  # for the cross-attentions
    predicted: torch.Tensor | None  # Ê (B, K, C); None without a student
    state: State | None  # of the memory after the utterances; None without one


class ContextInjection(nn.Module):
    """Cross-attentions after chosen layers, fed by a given context or by a student.

    Without a student the given context is fed. With one, the student reads the frames that the first
    cross-attention gets and its output is fed; in training the teacher's context can be fed in its place.
    With a student and a memory, what the memory holds of the session is fed to utterances that are given nothing.

    Args:
        dim: D, width of the frames.
        context_dim: C.
        after_layers: upstream layers, from 1, after each of which a cross-attention of its own stands;
            empty (default): after the upstream's output, as in the paper.
        student: keyword arguments of `Student`; None: no student.
        memory: keyword arguments of `build_memory`; None: no memory.
        current: the memory takes in the utterance itself before it is read for it; a session's first utterance
            gets what the student hears in it.
        teacher_feeding: probability that, in training, an utterance is fed its teacher's context and
            not its student's or the memory's; or (first, last, updates): a line from first to last
            over so many updates.
        context_dropout: probability that, in training, an utterance loses the context it was given.
        **cross_attention: keyword arguments of `CrossAttention`.

    Raises:
        ValueError: a probability outside [0, 1], or a memory without a student.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        after_layers: Sequence[int] = (),
        student: Mapping | None = None,
        memory: Mapping | None = None,
        current: bool = True,
        teacher_feeding: float | Sequence[float] = 0.0,
        context_dropout: float = 0.0,
        **cross_attention,
    ):
        super().__init__()
        first, last, self.feeding_updates = (
            teacher_feeding if isinstance(teacher_feeding, Sequence) else (teacher_feeding, teacher_feeding, 1)
        )
        for name, value in (("teacher_feeding", first), ("teacher_feeding", last), ("context_dropout", context_dropout)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability, got {value} (encoder_conf.injection_conf.{name})")
        if student is None and memory is not None:
            raise ValueError("a memory holds what a student says: set encoder_conf.injection_conf.student")
        self.feeding = (first, last)
        self.context_dropout = context_dropout
        self.after_layers = tuple(after_layers)
        self.attentions = nn.ModuleList(CrossAttention(dim, context_dim, **cross_attention) for _ in self.after_layers or (None,))
        self.student = Student(dim, context_dim, **student) if student is not None else None
        self.memory: SessionMemory | None = None
        if memory is not None:
            self.memory = build_memory(context_dim, self.student.num_tokens, **memory)
        self.current = current
        self.folded: FoldedInjection | None = None  # of the settings that it is for, after `fold`

    def teacher_probability(self, updates: int) -> float:
        """That an utterance is fed its teacher's context after so many updates."""
        first, last = self.feeding
        return first + (last - first) * min(updates / self.feeding_updates, 1.0)

    def fold(self, single_precision: bool = True) -> None:
        """Work out what follows from the weights alone and keep it, for inference: the weights change no more.

        Args:
            single_precision: there is no autocast, which a `FoldedInjection` would not bear.
        """
        for module in (*self.attentions, self.memory):
            if module is not None:
                module.fold()
        if single_precision and self.current and isinstance(self.memory, CodebookMemory) and len(self.attentions) == 1:
            if isinstance(self.student.pooling, MultiQueryPooling):
                self.folded = FoldedInjection(self.student, self.memory, self.attentions[0])

    def fed(
        self,
        frames: torch.Tensor,
        frame_mask: torch.Tensor | None,
        given: Context | None,
        updates: int,
        state: State | None = None,
    ) -> Fed:
        """The context to feed for a batch, the student's output, and the memory after it.

        Args:
            frames: (B, T, D) what the first cross-attention gets.
            frame_mask: (B, T) which of them are there (None: all).
            given: the given or the teacher's context.
            updates: optimiser updates so far.
            state: of the memory before the utterances; None: all begin a session.
        """
        if self.training and given is not None and self.context_dropout > 0:
            kept = torch.rand(len(frames), device=frames.device) >= self.context_dropout
            given = given.only(kept)
        if self.student is None:
            return Fed(given, None, None)
        predicted = self.student(frames, frame_mask)
        if self.memory is not None:
            if state is None:
                state = self.memory.initial(len(frames), frames.device)
            after = self.memory.update(state, predicted)
            # after an utterance a memory is not empty
            recalled = Context(self.memory.read(after).embeddings) if self.current else self.memory.read(state)
            return Fed(recalled if given is None else choose(given, recalled, given.present()), predicted, after)
        own = Context(predicted)
        probability = self.teacher_probability(updates)
        if not self.training or given is None or probability == 0:
            return Fed(own, predicted, None)
        use_own = torch.rand(len(frames), device=frames.device) >= probability
        return Fed(choose(own, given, use_own), predicted, None)

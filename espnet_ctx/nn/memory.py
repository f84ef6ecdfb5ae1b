"""The memory of a session: what the student has made of the utterances so far, as context for the next."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from espnet_ctx.nn.cross_attention import Context


class State(NamedTuple):
    """What is kept of each session. Sessions are the first axis: stack, index and save the tensors as any others."""

    values: torch.Tensor  # (S, ...) float
    weight: torch.Tensor  # (S,) float: how many utterances `values` holds, the older ones decayed


class SessionMemory(nn.Module, ABC):
    """From the students' outputs of a session's utterances to the context of the next one.

    `state = update(state, predicted)` after each utterance; `read(state)` before the next. A new session has no
    context: the mask of what is read is all False.

    Args:
        context_dim: C.
        num_tokens: K, tokens that the student gives for an utterance.
    """

    def __init__(self, context_dim: int, num_tokens: int):
        super().__init__()
        self.context_dim, self.num_tokens = context_dim, num_tokens

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one session's values."""

    def initial(self, batch: int, device: torch.device | str = "cpu") -> State:
        """The state of new sessions."""
        return State(torch.zeros(batch, *self.shape, device=device), torch.zeros(batch, device=device))

    @abstractmethod
    def read(self, state: State) -> Context:
        """The context of the next utterance of each session, (S, L, C) and (S, L)."""

    @abstractmethod
    def update(self, state: State, predicted: torch.Tensor) -> State:
        """Take in the student's output of one utterance of each session, Ê (S, K, C)."""

    def fold(self) -> None:  # noqa: B027  most have nothing to keep
        """Work out what follows from the weights alone and keep it, for inference."""


class MeanMemory(SessionMemory):
    """Mean of the outputs, each at length 1: K tokens.

    Args:
        context_dim: C.
        num_tokens: K.
        decay: an utterance counts `decay` times what the one after it counts (1.0: all the same).

    Raises:
        ValueError: a decay outside (0, 1].
    """

    def __init__(self, context_dim: int, num_tokens: int, decay: float = 1.0):
        super().__init__(context_dim, num_tokens)
        self.decay = _checked_decay(decay)

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, C)."""
        return self.num_tokens, self.context_dim

    def read(self, state: State) -> Context:
        """See `SessionMemory`."""
        mean = state.values / state.weight.clamp(min=1e-6).view(-1, 1, 1)
        return Context(mean, (state.weight > 0).unsqueeze(1).expand(-1, self.num_tokens))

    def update(self, state: State, predicted: torch.Tensor) -> State:
        """See `SessionMemory`."""
        values = F.normalize(predicted.float(), dim=-1)
        return State(torch.add(values, state.values, alpha=self.decay), self.decay * state.weight + 1)


class LastMemory(SessionMemory):
    """The outputs of the last utterances, side by side for the cross-attention: N * K tokens, the newest first.

    Args:
        context_dim: C.
        num_tokens: K.
        last: N, utterances.

    Raises:
        ValueError: N below 1.
    """

    def __init__(self, context_dim: int, num_tokens: int, last: int = 4):
        super().__init__(context_dim, num_tokens)
        if last < 1:
            raise ValueError(f"a memory holds at least one utterance, got last {last} (injection_conf.memory.last)")
        self.last = last

    @property
    def shape(self) -> tuple[int, ...]:
        """(N * K, C)."""
        return self.last * self.num_tokens, self.context_dim

    def read(self, state: State) -> Context:
        """See `SessionMemory`."""
        place = torch.arange(self.shape[0], device=state.weight.device) // self.num_tokens
        return Context(state.values, place < state.weight.unsqueeze(1))

    def update(self, state: State, predicted: torch.Tensor) -> State:
        """See `SessionMemory`."""
        values = torch.cat([predicted.float(), state.values], 1)[:, : self.shape[0]]
        return State(values, (state.weight + 1).clamp(max=self.last))


class CodebookMemory(SessionMemory):
    """Which entry of a codebook of teacher embeddings the session's utterances speak for: one token.

    The log-posteriors of the entries, from the cosines to the student's output, are summed over the utterances, but for
    a constant that is the same for all entries; the posterior mean of the entries is read.

    Args:
        context_dim: C.
        num_tokens: K; their log-posteriors are averaged.
        size: M, entries; the task fills them from the training set's teacher embeddings.
        temperature: of the cosines.
        decay: as in `MeanMemory`.
        trust: factor of the log-posteriors; below 1 for utterances that say the same twice.

    Raises:
        ValueError: a decay outside (0, 1], or less than one entry.
    """

    SIZE = 64

    def __init__(
        self,
        context_dim: int,
        num_tokens: int,
        size: int = SIZE,
        temperature: float = 0.1,
        decay: float = 1.0,
        trust: float = 1.0,
    ):
        super().__init__(context_dim, num_tokens)
        if size < 1:
            raise ValueError(f"a codebook has at least one entry, got size {size} (injection_conf.memory.size)")
        self.temperature, self.decay, self.trust = temperature, _checked_decay(decay), trust
        self.register_buffer("codebook", torch.zeros(size, context_dim))
        self._directions: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(M,)."""
        return (len(self.codebook),)

    def fold(self) -> None:
        """See `SessionMemory`."""
        self._directions = self.directions()

    def directions(self) -> torch.Tensor:
        """(M, C): an output of length 1 times these are the scores of the entries."""
        if self._directions is not None:
            return self._directions
        return F.normalize(self.codebook, dim=-1) * (self.trust / self.temperature)

    def scores(self, predicted: torch.Tensor) -> torch.Tensor:
        """What an output says for each entry, a trusted log-posterior but for a constant: (..., C) -> (..., M)."""
        return F.linear(F.normalize(predicted.float(), dim=-1), self.directions())

    def read(self, state: State) -> Context:
        """See `SessionMemory`."""
        return Context((state.values.softmax(-1) @ self.codebook).unsqueeze(1), (state.weight > 0).unsqueeze(1))

    def update(self, state: State, predicted: torch.Tensor) -> State:
        """See `SessionMemory`."""
        values = self.scores(predicted).mean(1)
        return State(torch.add(values, state.values, alpha=self.decay), self.decay * state.weight + 1)


MEMORIES = {"mean": MeanMemory, "last": LastMemory, "codebook": CodebookMemory}


def build_memory(context_dim: int, num_tokens: int, kind: str = "mean", **settings) -> SessionMemory:
    """The memory of a kind of `MEMORIES`, with the settings of its class.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in MEMORIES:
        raise ValueError(f"a memory is one of {', '.join(MEMORIES)}; got '{kind}' (injection_conf.memory.kind)")
    return MEMORIES[kind](context_dim, num_tokens, **settings)


def _checked_decay(decay: float) -> float:
    if not 0 < decay <= 1:
        raise ValueError(f"decay is a factor in (0, 1], got {decay} (injection_conf.memory.decay)")
    return decay


class Bank:
    """The latest output of the student for each utterance of a training set.

    Rows follow the order of speech, a session after the other: the utterances before row r of a session that begins
    at row f are f ... r - 1. It lives beside the model, not in it: a training that is resumed fills it anew, and
    processes that train together have one each.
    """

    HISTORY = 32  # utterances that are looked back on

    def __init__(self):
        self.values: torch.Tensor | None = None  # (rows, K, C)
        self.filled: torch.Tensor | None = None  # (rows,) bool

    def put(self, rows: torch.Tensor, predicted: torch.Tensor) -> None:
        """Keep the outputs Ê (B, K, C) of the utterances in rows (B,)."""
        predicted = predicted.detach().float()
        missing = int(rows.max()) + 1 - (0 if self.filled is None else len(self.filled))
        if missing > 0:
            new = predicted.new_zeros(missing, *predicted.shape[1:])
            self.values = new if self.values is None else torch.cat([self.values, new])
            unfilled = torch.zeros(missing, dtype=torch.bool, device=rows.device)
            self.filled = unfilled if self.filled is None else torch.cat([self.filled, unfilled])
        self.values[rows] = predicted
        self.filled[rows] = True

    def at(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What rows of any shape hold, (..., K, C), and whether it is there, (...) bool; row -1 never is."""
        there = (rows >= 0) & (rows < len(self.filled))
        safe = rows.where(there, torch.zeros_like(rows))
        return self.values[safe], there & self.filled[safe]

    def state(self, memory: SessionMemory, places: torch.Tensor) -> tuple[State, torch.Tensor]:
        """The memory before utterances, as the outputs of the bank make it.

        Args:
            memory: what takes the outputs in.
            places: (B, 3) row of the utterance, first row of its session, row after its last.

        Returns:
            The state (B, ...), and whether all outputs that it needs were there, (B,) bool.
        """
        row, first, _ = places.unbind(1)
        state = memory.initial(len(places), places.device)
        whole = torch.ones_like(row, dtype=torch.bool)
        if self.filled is None:
            return state, row == first
        for back in range(int((row - first).clamp(max=self.HISTORY).max()), 0, -1):
            inside = row - back >= first
            predicted, there = self.at((row - back).where(inside, torch.full_like(row, -1)))
            whole &= there | ~inside
            new = memory.update(state, predicted)
            state = State(*(torch.where(there.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in zip(new, state)))
        return state, whole

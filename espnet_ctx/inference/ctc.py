"""CTC hypotheses: greedy decoding of padded batches, forced alignment, when each token and word was said."""

from typing import Iterator, NamedTuple, Sequence

import torch

from espnet_ctx.files import UserError


class Hypothesis(NamedTuple):
    """What was recognised in one utterance.

    Attributes:
        token_ids: the tokens.
        score: log-probability, of a path or of what a search adds up.
        spans: (first frame, frame after the last) of each token. CTC is brief: a token takes a frame or two of the
            sound that it stands for.
        confidences: of each token, its largest probability within its span.
    """

    token_ids: list[int]
    score: float
    spans: list[tuple[int, int]]
    confidences: list[float]

    @property
    def confidence(self) -> float:
        """Mean confidence of the tokens; 0 when nothing was recognised."""
        return sum(self.confidences) / len(self.confidences) if self.confidences else 0.0


class Timed(NamedTuple):
    """A token or a word, when it was said (seconds) and how sure that is (of a word, its least sure token)."""

    text: str
    start: float
    end: float
    confidence: float


def greedy(log_probs: torch.Tensor, lengths: torch.Tensor, blank: int = 0) -> list[Hypothesis]:
    """Best path: the likeliest token of each frame, repetitions merged, blanks removed.

    Args:
        log_probs: (B, T, V).
        lengths: (B,) valid frames.
        blank: id of the blank.

    Returns:
        One hypothesis an utterance; its score is summed over the frames.
    """
    return read_paths(*log_probs.max(-1), lengths, blank)


def align(log_probs: torch.Tensor, length: int, token_ids: Sequence[int], blank: int = 0) -> Hypothesis:
    """The likeliest path of one utterance that says just these tokens.

    Args:
        log_probs: (T, V).
        length: valid frames.
        token_ids: what was said.
        blank: id of the blank.

    Raises:
        UserError: more tokens than the frames can hold.
    """
    from torchaudio.functional import forced_align

    ids = list(token_ids)
    needed = len(ids) + sum(a == b for a, b in zip(ids, ids[1:]))
    if needed > length:
        raise UserError(f"{len(ids)} tokens need at least {needed} frames and the speech has {length}: is this its text?")
    if not ids:
        return Hypothesis([], float(log_probs[:length, blank].sum()), [], [])
    frames = log_probs[:length].float().cpu().unsqueeze(0)
    path, scores = forced_align(frames, torch.tensor([ids], dtype=torch.int32), blank=blank)
    return read_paths(scores, path, torch.tensor([length]), blank)[0]


def read_paths(scores: torch.Tensor, paths: torch.Tensor, lengths: torch.Tensor, blank: int) -> list[Hypothesis]:
    """The hypotheses that paths spell.

    Args:
        scores: (B, T) log-probability of each frame's token.
        paths: (B, T) token of each frame, blanks included.
        lengths: (B,) valid frames.
        blank: id of the blank.
    """
    scores, paths, lengths = scores.float().cpu(), paths.cpu(), lengths.cpu()
    batch, frames = paths.shape
    inside = torch.arange(frames) < lengths.unsqueeze(1)
    new = torch.ones_like(inside)
    new[:, 1:] = (paths[:, 1:] != paths[:, :-1]) | ~inside[:, 1:]
    run = new.flatten().cumsum(0) - 1  # of each frame
    runs = int(run[-1]) + 1 if batch * frames else 0
    sizes = torch.zeros(runs, dtype=torch.long).index_add_(0, run, torch.ones_like(run))
    best = torch.full((runs,), float("-inf")).scatter_reduce(0, run, scores.flatten(), "amax")
    kept = inside & new & (paths != blank)
    kept_runs = run.view(batch, frames)[kept]
    rows, starts = kept.nonzero(as_tuple=True)
    table = zip(rows.tolist(), paths[kept].tolist(), starts.tolist(), sizes[kept_runs].tolist(), best[kept_runs].exp().tolist())
    totals = scores.masked_fill(~inside, 0.0).sum(1).tolist()
    hypotheses = [Hypothesis([], total, [], []) for total in totals]
    for row, token, start, size, probability in table:
        hypotheses[row].token_ids.append(token)
        hypotheses[row].spans.append((start, start + size))
        hypotheses[row].confidences.append(probability)
    return hypotheses


def length_batches(num_samples: Sequence[int], batch_samples: int) -> Iterator[list[int]]:
    """Batches of utterances of like length, longest first, each of at most so many padded samples.

    Args:
        num_samples: length of each utterance.
        batch_samples: bound on (longest utterance) x (utterances); a longer utterance is a batch of its own.

    Yields:
        Indices into `num_samples`.
    """
    batch: list[int] = []
    for index in sorted(range(len(num_samples)), key=lambda i: -num_samples[i]):
        if batch and num_samples[batch[0]] * (len(batch) + 1) > batch_samples:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

"""Segments: several texts as the context of one utterance, on one line of context_text and in one matrix."""

from collections.abc import Iterable

import numpy as np

SEPARATOR = " ||| "


def split_segments(text: str) -> list[str]:
    """The segments of a line, the empty ones left out."""
    return [segment for segment in text.split(SEPARATOR) if segment.strip()]


def join_segments(segments: Iterable[str]) -> str:
    """Segments as one line; empty ones are left out, and none can pass for two."""
    return SEPARATOR.join(segment for segment in (" ".join(s.replace("|||", " ").split()) for s in segments) if segment)


def concatenate(matrices: Iterable[np.ndarray]) -> np.ndarray:
    """Put the embeddings of segments together and mark which is which.

    To the rows of segment k a fixed vector is added, the sinusoidal code of the number k (Vaswani et al.,
    "Attention is all you need", section 3.5) at half the mean length of the segment's rows: the cross-attention
    can tell segments apart by it, and nothing has to be learnt.

    Args:
        matrices: (L_k, d) each.

    Returns:
        (sum of L_k, d) float32.
    """
    marked = []
    for number, matrix in enumerate(matrices):
        scale = np.linalg.norm(matrix, axis=1).mean() / 2
        marked.append(matrix + scale * _code(number, matrix.shape[1]))
    return np.concatenate(marked).astype(np.float32)


def _code(number: int, dim: int) -> np.ndarray:
    """Sinusoidal code of a number, (dim,), of length 1."""
    index = np.arange(dim)
    angle = number / 10000 ** (2 * (index // 2) / dim)
    code = np.where(index % 2, np.cos(angle), np.sin(angle))
    return code / np.linalg.norm(code)

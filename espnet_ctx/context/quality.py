"""How good a context is before anything is trained with it: does it say what is said next?"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from espnet_ctx.context.segments import split_segments

OTHERS = 20  # shuffled texts that each context is compared with


def similarity_auc(contexts: np.ndarray, texts: np.ndarray, seed: int = 0) -> float:
    """How often a context is nearer to the text that it is for than to another utterance's text, by cosine.

    0.5 is chance: the context says nothing of its own utterance.

    Args:
        contexts: embeddings (N, d) of the contexts.
        texts: embeddings (N, d) of the utterances' own texts.
        seed: of the choice of `OTHERS` other utterances for each.

    Returns:
        Share in 0..1; ties count half; NaN for fewer than two utterances.
    """
    number = len(contexts)
    if number < 2:
        return float("nan")
    contexts, texts = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (contexts, texts))
    own = (contexts * texts).sum(1)
    rng = np.random.default_rng(seed)
    wins = 0.0
    for _ in range(OTHERS):
        other = (np.arange(number) + rng.integers(1, number, number)) % number  # never itself
        shuffled = (contexts * texts[other]).sum(1)
        wins += np.mean((own > shuffled) + 0.5 * (own == shuffled))
    return wins / OTHERS


def rare_word_recall(
    contexts: Mapping[str, str], texts: Mapping[str, str], counts: Mapping[str, int], rare: int
) -> tuple[float, int]:
    """Share of the rare words of the utterances that their contexts hold.

    Args:
        contexts: utterance -> context.
        texts: utterance -> its own text.
        counts: how often each word is said in the training texts.
        rare: words said at most so often are rare.

    Returns:
        Recall in 0..1 (NaN without rare words), and the number of rare words.
    """
    found = total = 0
    for utt, text in texts.items():
        words = [word for word in text.lower().split() if counts.get(word, 0) <= rare]
        said = set(contexts.get(utt, "").lower().split())
        total += len(words)
        found += sum(word in said for word in words)
    return (found / total if total else float("nan")), total


def word_counts(texts: Iterable[str]) -> Counter[str]:
    """How often each word is said, case ignored."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.lower().split())
    return counts


def says_own_text(context: str, text: str, previous: Iterable[str], words: int = 5) -> bool:
    """Whether a context repeats its own utterance, of at least `words` words, that was not said before.

    By chance a good context may do so now and then; a leak would do so most of the time.
    """
    own = text.lower().split()
    if len(own) < words or any(own == said.lower().split() for said in previous):
        return False
    padded = f" {' '.join(own)} "
    return any(padded in f" {' '.join(segment.lower().split())} " for segment in split_segments(context))

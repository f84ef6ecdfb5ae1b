"""CTC beam search with an n-gram of the tokens and with words to listen for, by flashlight-text and its KenLM."""

from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import torch

from espnet_ctx.files import UserError
from espnet_ctx.inference.ctc import Hypothesis, read_paths

try:
    from flashlight.lib.text.decoder import (
        LM,
        CriterionType,
        LexiconFreeDecoder,
        LexiconFreeDecoderOptions,
        LMState,
        ZeroLM,
    )
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary
except ImportError as e:
    raise UserError("a beam search needs the package ufal.flashlight-text: pip install 'espnet_ctx[beam]'") from e

TOKENS = 15  # likeliest tokens of a frame that the search looks at
THRESHOLD = 12.0  # hypotheses that are worse than the best by more are dropped
SPACE = "<space>"
WORD_BEGIN = "\N{LOWER ONE EIGHTH BLOCK}"  # sentencepiece's mark


class BeamSearch:
    """Tokens are searched without a lexicon, so that any word can be said.

    Args:
        token_list: the model's.
        blank: id of the blank.
        token_ids: tokens of a text.
        beam_size: hypotheses that are kept at each frame.
        ngram_file: n-gram whose words are the tokens, ARPA or KenLM's binary (None: none).
        ngram_weight: factor of its log10 probabilities, as in ESPnet.
        hotwords: words and phrases to listen for; the search is slower with them.
        hotword_weight: added to the score for each token of a hotword that was said to its end.

    Raises:
        UserError: a beam below 2, or no such n-gram.
    """

    def __init__(
        self,
        token_list: Sequence[str],
        blank: int,
        token_ids: Callable[[str], list[int]],
        beam_size: int = 20,
        ngram_file: Path | None = None,
        ngram_weight: float = 0.9,
        hotwords: Sequence[str] = (),
        hotword_weight: float = 2.0,
    ):
        if beam_size < 2:
            raise UserError(f"--beam_size is {beam_size}: a beam search needs at least 2")
        lm, weight = ZeroLM(), 0.0
        if ngram_file is not None:
            lm, weight = _load_ngram(Path(ngram_file), token_list), ngram_weight
        if hotwords:
            begins = {i for i, token in enumerate(token_list) if token == SPACE or token.startswith(WORD_BEGIN)}
            space = token_list.index(SPACE) if SPACE in token_list else None
            spelled = [([] if space is None else [space]) + token_ids(word) for word in hotwords]
            lm, weight = HotwordLM(lm, weight, spelled, hotword_weight, begins, space), 1.0
        options = LexiconFreeDecoderOptions(
            beam_size=beam_size,
            beam_size_token=min(TOKENS, len(token_list)),
            beam_threshold=THRESHOLD,
            lm_weight=weight,
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        self._blank = blank
        self._lm = lm  # the decoder does not keep it alive
        self._decoder = LexiconFreeDecoder(options, lm, -1, blank, [])

    def __call__(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[Hypothesis]:
        """Search.

        Args:
            log_probs: (B, T, V).
            lengths: (B,) valid frames.

        Returns:
            One hypothesis an utterance; its score is that of the search.
        """
        log_probs = log_probs.float().cpu().contiguous()
        paths = torch.full(log_probs.shape[:2], self._blank)
        totals = []
        for row, path, length in zip(log_probs, paths, lengths.tolist()):
            if length == 0:
                totals.append(0.0)
                continue
            best = self._decoder.decode(row.data_ptr(), length, row.size(1))[0]
            path[:length] = torch.tensor(best.tokens[1:-1])  # between the start and the end of the search
            totals.append(best.score)
        scores = log_probs.gather(2, paths.unsqueeze(2)).squeeze(2)
        return [h._replace(score=total) for h, total in zip(read_paths(scores, paths, lengths, self._blank), totals)]


class _Heard(NamedTuple):
    """How far a hypothesis is within the hotwords."""

    inner: LMState  # of the n-gram
    node: int  # where in the tree of hotwords
    gained: float  # bonus that is taken back when no hotword comes of it


class HotwordLM(LM):
    """A language model with a bonus for hotwords.

    A hotword counts when its tokens are followed by the beginning of a word, or by the end: "cat" is not heard in
    "category". The hotwords are a tree with failure links (Aho and Corasick, "Efficient string matching", 1975), so that
    one that begins within another is found.

    Args:
        inner: the language model without hotwords.
        weight: factor of its scores.
        hotwords: token ids of each, with `space` before the first one when there is such a token.
        bonus: for each token, `space` apart.
        begins: ids of the tokens that begin a word.
        space: id of the token between words, which the start of an utterance stands for; None: there is none.
    """

    def __init__(
        self,
        inner: LM,
        weight: float,
        hotwords: Sequence[Sequence[int]],
        bonus: float,
        begins: set[int],
        space: int | None,
    ):
        LM.__init__(self)
        self._inner, self._weight, self._bonus, self._begins = inner, weight, bonus, begins
        self._children: list[dict[int, int]] = [{}]  # of each node; 0 is the root
        self._depth, self._ended, self._fail = [0], [0], [0]  # tokens that count; of the longest hotword that ends here
        for hotword in hotwords:
            node = 0
            for token in hotword:
                if token not in self._children[node]:
                    self._children[node][token] = len(self._children)
                    self._children.append({})
                    self._depth.append(self._depth[node] + (token != space))
                    self._ended.append(0)
                    self._fail.append(0)
                node = self._children[node][token]
            self._ended[node] = self._depth[node]
        waiting = list(self._children[0].values())
        for node in waiting:  # a level after the other; it grows meanwhile
            self._ended[node] = self._ended[node] or self._ended[self._fail[node]]
            for token, child in self._children[node].items():
                self._fail[child] = self._next(self._fail[node], token)
                waiting.append(child)
        self._first = self._next(0, space)
        self._heard: dict[LMState, _Heard] = {}

    def start(self, start_with_nothing: bool) -> LMState:
        """The state before an utterance."""
        self._heard.clear()
        state = LMState()
        self._heard[state] = _Heard(self._inner.start(start_with_nothing), self._first, 0.0)
        return state

    def score(self, state: LMState, token: int) -> tuple[LMState, float]:
        """The state after a token, and its score."""
        before = self._heard[state]
        inner, score = self._inner.score(before.inner, token)
        open_bonus = self._open(before) if token in self._begins else before.gained
        node = self._next(before.node, token)
        gained = self._bonus * self._depth[node]
        if self._children[before.node].get(token) == node:
            gained = open_bonus + self._bonus * (self._depth[node] - self._depth[before.node])
        after = state.child(token)
        self._heard[after] = _Heard(inner, node, gained)
        return after, self._weight * score + gained - open_bonus

    def finish(self, state: LMState) -> tuple[LMState, float]:
        """The state after an utterance, and the score of its end."""
        before = self._heard[state]
        inner, score = self._inner.finish(before.inner)
        after = state.child(len(self._children))
        self._heard[after] = _Heard(inner, 0, 0.0)
        return after, self._weight * score - self._open(before)

    def _open(self, heard: _Heard) -> float:
        """What is still to be taken back when a word ends here."""
        return max(0.0, heard.gained - self._bonus * self._ended[heard.node])

    def _next(self, node: int, token: int | None) -> int:
        while node and token not in self._children[node]:
            node = self._fail[node]
        return self._children[node].get(token, 0)


def _load_ngram(path: Path, token_list: Sequence[str]) -> LM:
    if not path.is_file():
        raise UserError(f"no such n-gram: {path} (--ngram_file; ctx.sh --use_ngram true makes one in stage 5)")
    try:
        return KenLM(str(path), Dictionary(list(token_list)))
    except RuntimeError as e:
        raise UserError(f"{path} is no n-gram that KenLM can read (ARPA or KenLM's binary): {e}") from e

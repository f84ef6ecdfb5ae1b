"""An ESPnet model as a batched CTC recogniser."""

from typing import Callable, Mapping, Sequence

import numpy as np
import torch
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.token_id_converter import TokenIDConverter

from espnet_ctx.files import UserError
from espnet_ctx.inference.ctc import Hypothesis, Timed, align, greedy
from espnet_ctx.inference.model import TrainedModel
from espnet_ctx.inference.speech import is_silent
from espnet_ctx.nn.memory import State

WORD_BEGIN = "\N{LOWER ONE EIGHTH BLOCK}"  # sentencepiece's mark
SPACE = "<space>"

Search = Callable[[torch.Tensor, torch.Tensor], list[Hypothesis]]


class CTCRecognizer(TrainedModel):
    """Decodes batches of utterances by CTC, greedily or by a beam search; ASR and SLU models.

    Args:
        config: the training's config.yaml.
        model: the weights (.pth).
        device: "cpu" or "cuda".
        search: options of `espnet_ctx.inference.beam.BeamSearch` (None: greedy).
        **precision: `dtype` and `quantize`, see `TrainedModel`.

    Raises:
        UserError: a missing file, a model without CTC, or what the search refuses.
    """

    def __init__(self, config: str, model: str, device: str = "cpu", search: Mapping | None = None, **precision):
        super().__init__(config, model, device, **precision)
        if getattr(self.model, "ctc", None) is None:
            raise UserError(f"{config}: the model was trained without CTC (model_conf.ctc_weight 0); use --decoder espnet")
        self.converter = TokenIDConverter(token_list=self.args.token_list)
        self.tokenizer = build_tokenizer(self.args.token_type, self.args.bpemodel)
        self.blank: int = self.model.blank_id
        self._seconds_per_frame = 0.0
        self.search: Search = lambda log_probs, lengths: greedy(log_probs, lengths, self.blank)
        if search is not None:
            from espnet_ctx.inference.beam import BeamSearch  # its libraries are optional

            self.search = BeamSearch(self.args.token_list, self.blank, self.token_ids, **search)

    @torch.inference_mode()
    def __call__(
        self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None, states: State | None = None
    ) -> list[Hypothesis]:
        """Decode; see `encode` for the arguments.

        Returns:
            One hypothesis an utterance, in order; an empty one where there is too little speech for a sound.
        """
        return self.search(*self.log_probs(speech, context, states))

    @torch.inference_mode()
    def log_probs(
        self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None, states: State | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of the tokens (B, T, V) and frames (B,), none of an utterance too short for a sound."""
        frames, lengths = self.encode(speech, context, states)
        silent = torch.tensor([is_silent(samples) for samples in speech], device=lengths.device)
        return self.model.ctc.log_softmax(frames.float()), lengths.masked_fill(silent, 0)

    def align(self, log_probs: torch.Tensor, length: int, text: str) -> Hypothesis:
        """The likeliest path of one utterance that says a text.

        Args:
            log_probs: (T, V).
            length: valid frames.
            text: what was said.

        Raises:
            UserError: a text with more tokens than the speech can hold.
        """
        return align(log_probs, length, self.token_ids(text), self.blank)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text."""
        return self.converter.tokens2ids(self.tokenizer.text2tokens(text))

    def text(self, hypothesis: Hypothesis) -> tuple[list[str], str]:
        """Tokens and text of a hypothesis."""
        tokens = self.converter.ids2tokens(hypothesis.token_ids)
        return tokens, self.tokenizer.tokens2text(tokens)

    def timed_tokens(self, hypothesis: Hypothesis, offset: float = 0.0) -> list[Timed]:
        """The tokens of a hypothesis whose utterance begins at `offset` (seconds)."""
        tokens = self.converter.ids2tokens(hypothesis.token_ids)
        seconds = self.seconds_per_frame
        rows = zip(tokens, hypothesis.spans, hypothesis.confidences)
        return [Timed(token, offset + start * seconds, offset + end * seconds, sure) for token, (start, end), sure in rows]

    def timed_words(self, hypothesis: Hypothesis, offset: float = 0.0) -> list[Timed]:
        """The words of a hypothesis whose utterance begins at `offset` (seconds)."""
        groups: list[list[Timed]] = []
        begins = True
        for token in self.timed_tokens(hypothesis, offset):
            if token.text == SPACE:
                begins = True
                continue
            if begins or token.text.startswith(WORD_BEGIN) or self.args.token_type == "word":
                groups.append([])
            groups[-1].append(token)
            begins = False
        texts = [self.tokenizer.tokens2text([token.text for token in group]).strip() for group in groups]
        return [
            Timed(text, group[0].start, group[-1].end, min(token.confidence for token in group))
            for text, group in zip(texts, groups)
            if text
        ]

    @property
    def seconds_per_frame(self) -> float:
        """How far apart the encoder's frames are."""
        if not self._seconds_per_frame:
            _, (short, long) = self.encode([np.zeros(16000, np.float32), np.zeros(48000, np.float32)])
            self._seconds_per_frame = 2 / int(long - short)
        return self._seconds_per_frame

"""An ESPnet model as a batched CTC recogniser."""

from typing import Sequence

import numpy as np
import torch
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.token_id_converter import TokenIDConverter

from espnet_ctx.files import UserError
from espnet_ctx.inference.ctc import Hypothesis, greedy
from espnet_ctx.inference.model import TrainedModel


class CTCRecognizer(TrainedModel):
    """Decodes batches of utterances greedily by CTC; ASR and SLU models.

    Args:
        config: the training's config.yaml.
        model: the weights (.pth).
        device: "cpu" or "cuda".

    Raises:
        UserError: a missing file, or a model without CTC.
    """

    def __init__(self, config: str, model: str, device: str = "cpu"):
        super().__init__(config, model, device)
        if getattr(self.model, "ctc", None) is None:
            raise UserError(f"{config}: the model was trained without CTC (model_conf.ctc_weight 0); use --decoder espnet")
        self.converter = TokenIDConverter(token_list=self.args.token_list)
        self.tokenizer = build_tokenizer(self.args.token_type, self.args.bpemodel)

    @torch.inference_mode()
    def __call__(self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None) -> list[Hypothesis]:
        """Decode; see `encode` for the arguments.

        Returns:
            One hypothesis an utterance, in order.
        """
        frames, lengths = self.encode(speech, context)
        return greedy(self.model.ctc.log_softmax(frames), lengths, self.model.blank_id)

    def text(self, hypothesis: Hypothesis) -> tuple[list[str], str]:
        """Tokens and text of a hypothesis."""
        tokens = self.converter.ids2tokens(hypothesis.token_ids)
        return tokens, self.tokenizer.tokens2text(tokens)

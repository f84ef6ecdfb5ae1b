"""An ESPnet model as a batched classifier."""

from typing import Sequence

import numpy as np
import torch

from espnet_ctx.files import UserError
from espnet_ctx.inference.model import TrainedModel
from espnet_ctx.nn.memory import State


class Classifier(TrainedModel):
    """Gives each utterance of a batch one class.

    Args:
        config: the training's config.yaml.
        model: the weights (.pth).
        device: "cpu" or "cuda".

    Raises:
        UserError: a missing file, or a model that gives an utterance no or several classes.
    """

    def __init__(self, config: str, model: str, device: str = "cpu"):
        super().__init__(config, model, device)
        if getattr(self.model, "classification_type", None) != "multi-class":
            raise UserError(f"{config}: not a model of one class an utterance (classification_type multi-class)")
        self.classes: list[str] = self.model.token_list[: self.model.vocab_size]

    @torch.inference_mode()
    def __call__(
        self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None, states: State | None = None
    ) -> np.ndarray:
        """Classify; see `encode` for the arguments.

        Returns:
            (B, classes) probabilities.
        """
        logits = self.model.decoder(*self.encode(speech, context, states))
        return self.model.classification_function(logits).float().cpu().numpy()

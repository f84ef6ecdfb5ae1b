"""An ESPnet model as a batched CTC recogniser."""

from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from espnet2.tasks.asr import ASRTask
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.token_id_converter import TokenIDConverter

from espnet_ctx.files import UserError
from espnet_ctx.inference.ctc import Hypothesis, greedy


class CTCRecognizer:
    """Decodes batches of utterances greedily by CTC.

    Args:
        config: the training's config.yaml.
        model: the weights (.pth).
        device: "cpu" or "cuda".

    Raises:
        UserError: a missing file, or a model without CTC.
    """

    def __init__(self, config: str, model: str, device: str = "cpu"):
        for path in (config, model):
            if not Path(path).is_file():
                raise UserError(f"no such file: {path} (--config, --model; has training, stage 10, finished?)")
        self.device = device
        self.model, self.args = ASRTask.build_model_from_file(config, model, device)
        self.model.eval()
        if self.model.ctc is None:
            raise UserError(f"{config}: the model was trained without CTC (model_conf.ctc_weight 0); use --decoder espnet")
        self.converter = TokenIDConverter(token_list=self.args.token_list)
        self.tokenizer = build_tokenizer(self.args.token_type, self.args.bpemodel)

    @property
    def needs_context(self) -> bool:
        """Whether the model is fed a given context at inference (systems prev_text and generated)."""
        injection = getattr(self.model.encoder, "injection", None)
        return injection is not None and injection.student is None

    @torch.inference_mode()
    def __call__(self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None) -> list[Hypothesis]:
        """Decode.

        Args:
            speech: one (N,) float waveform at 16 kHz an utterance.
            context: one (L, C) matrix an utterance; a row of zeros is absent.

        Returns:
            One hypothesis an utterance, in order.
        """
        inputs = dict(zip(("speech", "speech_lengths"), self._pad(speech)))
        if context is not None:
            inputs.update(zip(("context", "context_lengths"), self._pad(context)))
        frames, lengths = self.model.encode(**inputs)
        return greedy(self.model.ctc.log_softmax(frames), lengths, self.model.blank_id)

    @torch.inference_mode()
    def predicted_context(self, speech: Sequence[np.ndarray]) -> np.ndarray:
        """What the student makes of each utterance: Ê (B, K, C).

        Args:
            speech: one (N,) float waveform at 16 kHz an utterance.

        Raises:
            UserError: a model without a student.
        """
        injection = getattr(self.model.encoder, "injection", None)
        if injection is None or injection.student is None:
            raise UserError("the model has no student (encoder_conf.injection_conf.student)")
        self.model.encode(*self._pad(speech))
        return self.model.encoder.predicted.float().cpu().numpy()

    def text(self, hypothesis: Hypothesis) -> tuple[list[str], str]:
        """Tokens and text of a hypothesis."""
        tokens = self.converter.ids2tokens(hypothesis.token_ids)
        return tokens, self.tokenizer.tokens2text(tokens)

    def _pad(self, arrays: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = [torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in arrays]
        lengths = torch.tensor([len(t) for t in tensors])
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(self.device), lengths.to(self.device)

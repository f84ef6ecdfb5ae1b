"""A trained ESPnet model that takes batches of speech and context."""

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch
import yaml
from espnet2.tasks.asr import ASRTask
from espnet2.tasks.cls import CLSTask
from espnet2.tasks.slu import SLUTask

from espnet_ctx.files import UserError
from espnet_ctx.nn.memory import SessionMemory, State

TASKS = {"context_slu": SLUTask, "context_cls": CLSTask}  # by the configuration's `model`; ASRTask for all others


class TrainedModel:
    """Encodes batches of utterances.

    Args:
        config: the training's config.yaml.
        model: the weights (.pth).
        device: "cpu" or "cuda".

    Raises:
        UserError: a missing file.
    """

    def __init__(self, config: str, model: str, device: str = "cpu"):
        for path in (config, model):
            if not Path(path).is_file():
                raise UserError(f"no such file: {path} (--config, --model; has training, stage 10, finished?)")
        self.config, self.device = config, device
        name = yaml.safe_load(Path(config).read_text(encoding="utf-8")).get("model")
        self.model, self.args = TASKS.get(name, ASRTask).build_model_from_file(config, model, device)
        self.model.eval()

    @property
    def needs_context(self) -> bool:
        """Whether the model is fed a given context at inference (systems prev_text and generated)."""
        injection = getattr(self.model.encoder, "injection", None)
        return injection is not None and injection.student is None

    @property
    def memory(self) -> SessionMemory | None:
        """What carries context from utterance to utterance of a session (system carry), or None."""
        return getattr(self.model.encoder, "memory", None)

    @contextmanager
    def recalling(self, states: State) -> Iterator[list[State]]:
        """What is encoded inside the block gets the context of its sessions' states.

        Args:
            states: of the sessions of one batch of utterances, in its order.

        Yields:
            A list that holds the states after the utterances when the block has ended.
        """
        after: list[State] = []
        with torch.inference_mode(), self.model.encoder.given(None, states):
            yield after
            after.append(self.memory.update(states, self.model.encoder.predicted))

    @torch.inference_mode()
    def encode(
        self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode.

        Args:
            speech: one (N,) float waveform at 16 kHz an utterance.
            context: one (L, C) matrix an utterance; a row of zeros is absent.

        Returns:
            (B, T, D) and (B,).
        """
        inputs = dict(zip(("speech", "speech_lengths"), self._pad(speech)))
        if context is not None:
            inputs.update(zip(("context", "context_lengths"), self._pad(context)))
        return self.model.encode(**inputs)

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
        self.encode(speech)
        return self.model.encoder.predicted.float().cpu().numpy()

    def _pad(self, arrays: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = [torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in arrays]
        lengths = torch.tensor([len(t) for t in tensors])
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(self.device), lengths.to(self.device)

"""A trained ESPnet model that takes batches of speech and context."""

import warnings
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
import yaml
from espnet2.tasks.asr import ASRTask
from espnet2.tasks.cls import CLSTask
from espnet2.tasks.slu import SLUTask

from espnet_ctx.espnet.encoder import ContextSSLEncoder
from espnet_ctx.files import UserError
from espnet_ctx.inference.speech import DTYPES, SHORTEST, check_speech
from espnet_ctx.nn.memory import SessionMemory, State

TASKS = {"context_slu": SLUTask, "context_cls": CLSTask}  # by the configuration's `model`; ASRTask for all others


class TrainedModel:
    """Encodes batches of utterances.

    Args:
        config: the training's config.yaml.
        model: the weights (.pth).
        device: "cpu" or "cuda".
        dtype: one of `DTYPES`, of the arithmetic in the encoder; the weights stay as they are.
        quantize: linear layers in 8-bit integers, the activations quantised as they come; CPU and float32 only.

    Raises:
        UserError: a missing file, or a precision that the device does not have.
    """

    def __init__(self, config: str, model: str, device: str = "cpu", dtype: str = "float32", quantize: bool = False):
        if dtype not in DTYPES:
            raise UserError(f"--dtype is '{dtype}': must be one of {', '.join(DTYPES)}")
        if dtype == "float16" and device == "cpu":
            raise UserError("--dtype float16 is for GPUs (--ngpu 1): use bfloat16 or float32 on the CPU")
        if quantize and (device != "cpu" or dtype != "float32"):
            raise UserError(f"--quantize_asr_model is for the CPU and --dtype float32; got {device} and {dtype}")
        for path in (config, model):
            if not Path(path).is_file():
                raise UserError(f"no such file: {path} (--config, --model; has training, stage 10, finished?)")
        self.config, self.device, self.dtype = config, device, getattr(torch, dtype)
        name = yaml.safe_load(Path(config).read_text(encoding="utf-8")).get("model")
        self.model, self.args = TASKS.get(name, ASRTask).build_model_from_file(config, model, device)
        self.model.eval()
        if isinstance(self.model.encoder, ContextSSLEncoder):
            self.model.encoder.fold(single_precision=self.dtype == torch.float32)
        if quantize:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch moves it to another package one day
                self.model = torch.ao.quantization.quantize_dynamic(self.model, {torch.nn.Linear}, torch.qint8)

    @property
    def needs_context(self) -> bool:
        """Whether the model is fed a given context at inference (systems prev_text and generated)."""
        injection = getattr(self.model.encoder, "injection", None)
        return injection is not None and injection.student is None

    @property
    def memory(self) -> SessionMemory | None:
        """What carries context from utterance to utterance of a session (system carry), or None."""
        return getattr(self.model.encoder, "memory", None)

    @property
    def states(self) -> State | None:
        """Of the memory after the utterances of the last call; None without one."""
        return self.model.encoder.state

    @property
    def context_dim(self) -> int | None:
        """C, width of the context embeddings; None without a context."""
        injection = getattr(self.model.encoder, "injection", None)
        return None if injection is None else injection.attentions[0].context_norm.normalized_shape[0]

    @torch.inference_mode()
    def encode(
        self, speech: Sequence[np.ndarray], context: Sequence[np.ndarray] | None = None, states: State | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode.

        Args:
            speech: one (N,) float waveform at 16 kHz an utterance; one too short for a sound is padded.
            context: one (L, C) matrix an utterance; a row of zeros is absent.
            states: of the memory of the utterances' sessions, in place of a context; None: all begin a session.

        Returns:
            (B, T, D) and (B,).

        Raises:
            UserError: samples that `check_speech` refuses.
        """
        speech = [np.pad(samples, (0, max(0, SHORTEST - len(samples)))) for samples in map(check_speech, speech)]
        inputs = dict(zip(("speech", "speech_lengths"), self._pad(speech)))
        if context is not None:
            inputs.update(zip(("context", "context_lengths"), self._pad(context)))
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            if states is None:
                return self.model.encode(**inputs)
            with self.model.encoder.given(None, states):
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

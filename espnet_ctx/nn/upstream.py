"""Self-supervised speech models from `transformers` as an upstream: raw waveform in, frames and true lengths out."""

from contextlib import ExitStack, contextmanager, nullcontext
from typing import Callable, Iterator, Mapping

import torch
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from espnet_ctx.nn.masking import Lengths, length_mask, span_mask
from espnet_ctx.nn.padding import PaddingGuard
from espnet_ctx.nn.precision import keep_single_precision
from espnet_ctx.nn.waveform import FilterBank, normalize

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "wav2vec2-bert")

Change = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]  # frames (B, T, D) and their mask (B, T) -> frames


class Upstream(nn.Module):
    """wav2vec 2.0, HuBERT, WavLM, data2vec-audio or wav2vec2-BERT with lengths by the conv formula.

    The output of each utterance is what `transformers` gives for that utterance alone, however the
    batch is padded. Input normalisation is the checkpoint's own, done on the device.

    Args:
        source: hub id or local directory in the Hugging Face layout. Its weights are read only when
            `architecture` is None.
        revision: branch, tag or commit of the hub id (default: the hub's main).
        architecture: what `self.architecture` held when the model was first built; the model is then
            built from it with random weights, and neither hub nor directory is touched.
        layers: "last" (default) or "weighted", a learnt weighted sum of all layers' outputs.
        mask_time_prob: span masking in training: share of frames in spans (0.0: off).
        mask_time_length: frames in a span.
        mask_feature_prob: share of feature channels masked in training (0.0: off).
        mask_feature_length: channels in a span.
        config: entries of the checkpoint's `transformers` configuration to replace, such as
            `{hidden_dropout: 0.1, attention_dropout: 0.0}`.
        freeze_feature_extractor: the convolutions get no gradient (default, as in fine-tuning).
        freeze_updates: the whole upstream gets no gradient for the first so many updates.

    Raises:
        ValueError: neither source nor architecture, an unknown model type, or nothing loadable at `source`.
    """

    def __init__(
        self,
        source: str | None = None,
        revision: str | None = None,
        architecture: Mapping | None = None,
        layers: str = "last",
        mask_time_prob: float = 0.0,
        mask_time_length: int = 10,
        mask_feature_prob: float = 0.0,
        mask_feature_length: int = 10,
        config: Mapping = {},
        freeze_feature_extractor: bool = True,
        freeze_updates: int = 0,
    ):
        super().__init__()
        if layers not in ("last", "weighted"):
            raise ValueError(f"layers must be 'last' or 'weighted', got '{layers}' (upstream_conf.layers)")
        overrides = {
            "layerdrop": 0.0,
            "apply_spec_augment": True,
            "mask_time_prob": mask_time_prob,
            "mask_feature_prob": mask_feature_prob,
            "mask_feature_length": mask_feature_length,
        }
        if architecture is None:
            self.model, preprocessor = _load(source, revision, config, overrides)
        else:
            preprocessor = dict(architecture["preprocessor"])
            saved = dict(architecture["model"])
            self.model = AutoModel.from_config(AutoConfig.for_model(saved.pop("model_type"), **{**saved, **config, **overrides}))
        settings = self.model.config
        saved = {k: v for k, v in settings.to_diff_dict().items() if k not in overrides}
        self.architecture = {
            "model": {**saved, "model_type": settings.model_type},
            "preprocessor": preprocessor,
        }
        self.output_size = settings.hidden_size
        self.mask_time_prob, self.mask_time_length = mask_time_prob, mask_time_length
        self.freeze_updates = freeze_updates
        self.do_normalize = preprocessor["do_normalize"]
        self.filter_bank = (
            FilterBank(preprocessor["num_mel_bins"], preprocessor["stride"]) if "num_mel_bins" in preprocessor else None
        )
        self.layer_weights = nn.Parameter(torch.zeros(settings.num_hidden_layers + 1)) if layers == "weighted" else None
        self._guard = PaddingGuard(self.model)
        if self.filter_bank is None:
            keep_single_precision(self.model.encoder.pos_conv_embed, settings.hidden_size)
        if freeze_feature_extractor and self.filter_bank is None:
            self.model.feature_extractor._freeze_parameters()

    @property
    def num_layers(self) -> int:
        """Transformer layers."""
        return len(self.model.encoder.layers)

    def output_lengths(self, lengths: Lengths) -> Lengths:
        """Samples -> frames, by the formula of the convolutions (20 ms a frame)."""
        if self.filter_bank is not None:
            return self.filter_bank.frames(lengths)
        return self._conv_lengths(lengths, len(self.model.config.conv_kernel))

    def _conv_lengths(self, lengths: Lengths, convolutions: int) -> Lengths:
        config = self.model.config
        for kernel, stride in list(zip(config.conv_kernel, config.conv_stride))[:convolutions]:
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def forward(
        self,
        speech: torch.Tensor,
        lengths: torch.Tensor | None,
        updates: int = 0,
        after_layer: Mapping[int, Change] = {},
        after_output: Change | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a padded batch.

        Args:
            speech: (B, N) samples at 16 kHz.
            lengths: (B,) valid samples; None: all of them, and nothing here depends on a number in a tensor (for export).
            updates: optimiser updates done so far, for `freeze_updates`.
            after_layer: what to do to the (B, T, D) output of transformer layers, by their number from 1; gets the
                (B, T) mask of the frames that are there too, None when all are.
            after_output: the same for what is returned.

        Returns:
            (B, T, D) frames and (B,) frame lengths.

        Raises:
            ValueError: an utterance too short for one frame.
        """
        whole = lengths is None
        if whole:
            lengths = torch.full((speech.size(0),), speech.size(1), device=speech.device)
        frames = self.output_lengths(lengths)
        if not whole and int(frames.min()) < 1:
            raise ValueError(
                f"an utterance of {int(lengths.min())} samples is shorter than one frame of the upstream "
                "(400 samples = 25 ms); remove it (ctx.sh --min_wav_duration)"
            )
        # a mask only where there is padding: without one attention takes its fast path
        padded = not whole and bool((lengths != speech.size(1)).any())
        frozen = self.training and updates < self.freeze_updates
        if self.filter_bank is not None:
            inputs, _ = self.filter_bank(speech, lengths)
            frame_mask = mask = length_mask(frames, inputs.size(1)) if padded else None
            self._guard.set(None, frame_mask)
        else:
            inputs = normalize(speech, lengths) if self.do_normalize else speech
            mask = length_mask(lengths, speech.size(1)) if padded else None
            frame_mask = length_mask(frames, self.output_lengths(speech.size(1))) if padded else None
            self._guard.set(self._conv_lengths(lengths, 1) if padded else None, frame_mask)
        with torch.no_grad() if frozen else nullcontext(), self._hooked(after_layer, frame_mask):
            spans = None
            if self.training and self.mask_time_prob > 0:
                spans = span_mask(frames, int(frames.max()), self.mask_time_prob, self.mask_time_length)
            out = self.model(
                inputs,
                attention_mask=mask,
                mask_time_indices=spans,
                output_hidden_states=self.layer_weights is not None,
            )
        encoded = out.last_hidden_state
        if self.layer_weights is not None:
            weights = self.layer_weights.softmax(0)
            encoded = sum(w * h for w, h in zip(weights, out.hidden_states, strict=True))
        return encoded if after_output is None else after_output(encoded, frame_mask), frames

    @contextmanager
    def _hooked(self, after_layer: Mapping[int, Change], frame_mask: torch.Tensor | None) -> Iterator[None]:
        # hooks live for one forward pass only, so that copies of the module share nothing
        with ExitStack() as stack:
            for number, change in after_layer.items():
                handle = self.model.encoder.layers[number - 1].register_forward_hook(_changing(change, frame_mask))
                stack.callback(handle.remove)
            yield


def _changing(change: Change, frame_mask: torch.Tensor | None) -> Callable:
    def hook(module, inputs, output):
        if isinstance(output, tuple):
            return (change(output[0], frame_mask), *output[1:])
        return change(output, frame_mask)

    return hook


def _load(source: str | None, revision: str | None, given: Mapping, overrides: Mapping) -> tuple[nn.Module, dict]:
    if source is None:
        raise ValueError("no upstream given: set encoder_conf.upstream (--upstream) to a hub id or a directory")
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        if config.model_type not in MODEL_TYPES:
            raise ValueError(f"upstream '{source}' is of type '{config.model_type}'; allowed: {', '.join(MODEL_TYPES)}")
        unknown = [name for name in given if not hasattr(config, name)]
        if unknown:
            raise ValueError(f"upstream_conf.config: '{source}' has no setting {', '.join(unknown)}")
        for name, value in {**given, **overrides}.items():
            setattr(config, name, value)
        extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision)
        model = AutoModel.from_pretrained(source, revision=revision, config=config, dtype=torch.float32)
    except OSError as e:
        raise ValueError(
            f"upstream '{source}' is neither a directory with config.json, preprocessor_config.json and weights "
            f"nor a model that the hub gives now (encoder_conf.upstream, --upstream): {e}"
        ) from e
    preprocessor = {"do_normalize": bool(getattr(extractor, "do_normalize", False))}
    if hasattr(extractor, "num_mel_bins"):
        preprocessor.update(num_mel_bins=extractor.num_mel_bins, stride=extractor.stride)
    return model, preprocessor

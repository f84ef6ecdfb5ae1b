"""A tiny HuBERT and its masked prediction of cluster labels (Hsu et al. 2021, arXiv 2106.07447)."""

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from espnet_ctx.files import whole_file
from espnet_ctx.nn.precision import keep_single_precision

RATE = 16000
FRAME_SHIFT = 320
FRAME_LENGTH = 400
# Pre-training drops nothing: so small a model underfits, and drawing the masks costs a tenth of the time.
NO_DROPOUT = dict.fromkeys(["hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"], 0.0) | {
    "layerdrop": 0.0
}
FINE_TUNING_DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "layerdrop": 0.0}


def num_frames(samples: int) -> int:
    """Frames that HuBERT's convolutions make of a recording: one per 320 samples, each seeing 400 of them."""
    return max(0, (samples - FRAME_LENGTH) // FRAME_SHIFT + 1)


def draw_mask(rng: np.random.Generator, batch: int, frames: int, prob: float, span: int) -> torch.Tensor:
    """Spans of frames to mask, bool (B, T).

    Args:
        rng: source of the spans' starts.
        batch, frames: B and T.
        prob: sum of the spans' lengths over T; spans overlap, so that fewer frames are masked.
        span: length of a span in frames; T must be longer than it.
    """
    mask = np.zeros((batch, frames), dtype=bool)
    spans = max(1, round(prob * frames / span))
    for row in mask:
        starts = rng.choice(frames - span + 1, min(spans, frames - span + 1), replace=False)
        row[(starts[:, None] + np.arange(span)).ravel()] = True
    return torch.from_numpy(mask)


def normalise(speech: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the samples, `(B, samples)`, as Wav2Vec2FeatureExtractor with do_normalize does."""
    variance, mean = torch.var_mean(speech, dim=-1, keepdim=True, correction=0)
    return (speech - mean) / torch.sqrt(variance + 1e-7)


class MaskedPrediction(nn.Module):
    """HuBERT with a head that scores its masked frames against a codebook (section II-B of the paper).

    Args:
        config: of the HuBERT.
        clusters: number of labels.
        code_dim: width of the codebook's vectors (default 128).
        unmasked_weight: weight of the frames that are not masked beside that of the masked ones, 1 (default 0.0: the
            paper's alpha of 1). A small model on a small budget learns much faster when it also classifies what it hears.
        temperature: divides the cosines (default 0.1, as in the paper).
    """

    def __init__(
        self,
        config: HubertConfig,
        clusters: int,
        code_dim: int = 128,
        unmasked_weight: float = 0.0,
        temperature: float = 0.1,
    ):
        super().__init__()
        self.hubert = HubertModel(config)
        keep_single_precision(self.hubert.encoder.pos_conv_embed, config.hidden_size)
        self.project = nn.Linear(config.hidden_size, code_dim)
        self.codebook = nn.Parameter(torch.randn(clusters, code_dim))
        self.unmasked_weight = unmasked_weight
        self.temperature = temperature

    def forward(self, speech: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy, and accuracy over the masked frames.

        Args:
            speech: normalised waveforms of equal length (B, samples), 16 kHz.
            labels: clusters of the clean speech's frames (B, T), T = num_frames(samples).
            mask: frames to mask and to predict (B, T), bool.
        """
        hidden = self.hubert(speech, mask_time_indices=mask).last_hidden_state
        codes = nn.functional.normalize(self.project(hidden).float(), dim=-1)
        logits = codes @ nn.functional.normalize(self.codebook, dim=-1).T / self.temperature
        masked, targets = logits[mask], labels[mask]
        loss = nn.functional.cross_entropy(masked, targets)
        if self.unmasked_weight:
            loss = loss + self.unmasked_weight * nn.functional.cross_entropy(logits[~mask], labels[~mask])
        return loss, (masked.argmax(-1) == targets).float().mean()


def export(hubert: HubertModel, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors (float32) as transformers reads them.

    Each file appears whole or not at all, so that a folder of snapshots is readable at any time.
    """
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE, padding_value=0.0, do_normalize=True, return_attention_mask=False
    )
    config = hubert.config.to_dict() | FINE_TUNING_DROPOUT | {"architectures": ["HubertModel"], "dtype": "float32"}
    weights = {name: tensor.detach().contiguous() for name, tensor in hubert.state_dict().items()}
    with whole_file(folder / "config.json") as f:
        json.dump(config, f, indent=2, sort_keys=True)
    with whole_file(folder / "preprocessor_config.json") as f:
        json.dump(extractor.to_dict(), f, indent=2, sort_keys=True)
    with whole_file(folder / "model.safetensors", "wb") as f:
        f.write(safetensors.torch.save(weights, metadata={"format": "pt"}))

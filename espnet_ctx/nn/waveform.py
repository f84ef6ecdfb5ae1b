"""What a checkpoint's feature extractor does to the waveform, batched and on the device."""

import torch
from torch import nn
from transformers.audio_utils import mel_filter_bank, window_function

from espnet_ctx.nn.masking import Lengths, length_mask


def normalize(speech: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance per utterance, padding excluded and set to zero.

    As `Wav2Vec2FeatureExtractor` with `do_normalize` does it for one utterance (epsilon 1e-7).

    Args:
        speech: (B, N) samples.
        lengths: (B,) valid samples.

    Returns:
        (B, N).
    """
    inside = length_mask(lengths, speech.size(1))
    count = lengths.unsqueeze(1)
    mean = speech.masked_fill(~inside, 0.0).sum(1, keepdim=True) / count
    centred = (speech - mean).masked_fill(~inside, 0.0)
    return centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + 1e-7)


class FilterBank(nn.Module):
    """The log-mel features of wav2vec2-BERT (`SeamlessM4TFeatureExtractor`), two frames stacked.

    Kaldi-style 80-bin filter bank of 25 ms windows every 10 ms, normalised per bin and utterance.

    Args:
        num_mel_bins: filters, 80 in the published checkpoints.
        stride: frames stacked into one, 2 in the published checkpoints.
    """

    window_size, hop, fft = 400, 160, 512

    def __init__(self, num_mel_bins: int = 80, stride: int = 2):
        super().__init__()
        self.stride = stride
        filters = mel_filter_bank(
            num_frequency_bins=self.fft // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=20,
            max_frequency=8000,
            sampling_rate=16000,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self.register_buffer("filters", torch.from_numpy(filters).double(), persistent=False)
        window = torch.from_numpy(window_function(self.window_size, "povey", periodic=False))
        self.register_buffer("window", window.double(), persistent=False)

    def frames(self, lengths: Lengths) -> Lengths:
        """Stacked frames of so many samples."""
        return self._windows(lengths) // self.stride

    def _windows(self, lengths: Lengths) -> Lengths:
        return (lengths - self.window_size) // self.hop + 1

    def forward(self, speech: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N) samples -> (B, T, stride * bins) features, (B,) lengths; double precision inside, as numpy's."""
        windows = speech.double().unfold(1, self.window_size, self.hop) * 2**15
        windows = windows - windows.mean(-1, keepdim=True)
        first = windows[..., :1] * (1 - 0.97)
        windows = torch.cat([first, windows[..., 1:] - 0.97 * windows[..., :-1]], -1) * self.window
        power = torch.fft.rfft(windows, self.fft).abs().square()
        features = (power @ self.filters).clamp(min=1.192092955078125e-07).log()  # (B, F, bins)
        counts = self._windows(lengths)
        inside = length_mask(counts, features.size(1)).unsqueeze(-1)
        counts = counts.view(-1, 1, 1)
        mean = features.masked_fill(~inside, 0.0).sum(1, keepdim=True) / counts
        centred = (features - mean).masked_fill(~inside, 0.0)
        variance = centred.square().sum(1, keepdim=True) / (counts - 1)
        features = centred * torch.rsqrt(variance + 1e-7)
        out_lengths = self.frames(lengths)
        whole = int(out_lengths.max()) * self.stride
        stacked = features[:, :whole].reshape(speech.size(0), -1, self.stride * features.size(-1))
        return stacked.to(speech.dtype), out_lengths

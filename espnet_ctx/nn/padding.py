"""Makes transformers' speech models independent of the padding in a batch.

Two of their layers look at padded samples: the group norm of wav2vec2-base style feature extractors
takes its statistics over the padded length, and data2vec-audio's stacked positional convolutions
carry what the first of them writes into the padding back into the speech.
"""

import torch
from torch import nn
from torch.nn import functional as F

from espnet_ctx.nn.masking import length_mask


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm with one channel a group, with statistics over each sequence's own frames.

    `lengths` (B,) is set before a forward pass; None means that no sequence is padded. The output
    beyond a sequence's length is meaningless, as it is never read by a valid frame.
    """

    lengths: torch.Tensor | None = None

    @classmethod
    def of(cls, norm: nn.GroupNorm) -> "MaskedGroupNorm":
        """A masked norm that shares the weights of `norm`.

        Raises:
            ValueError: groups of several channels.
        """
        if norm.num_groups != norm.num_channels:
            raise ValueError(f"expected one channel a group, got {norm.num_channels} channels in {norm.num_groups}")
        masked = cls(norm.num_groups, norm.num_channels, norm.eps, device="meta")
        masked.weight, masked.bias = norm.weight, norm.bias
        return masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T) -> (B, C, T)."""
        if self.lengths is None:
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        inside = length_mask(self.lengths, x.size(-1)).unsqueeze(1)
        count = self.lengths.view(-1, 1, 1)
        x = x.masked_fill(~inside, 0.0)
        # zeros add nothing to the sums; statistics in single precision under autocast too
        values = x.float()
        mean = values.sum(-1, keepdim=True) / count
        squares = torch.linalg.vector_norm(values, dim=-1, keepdim=True).square() / count
        scale = self.weight.view(1, -1, 1) * torch.rsqrt((squares - mean.square()).clamp(min=0) + self.eps)
        shift = self.bias.view(1, -1, 1) - mean * scale
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


class PaddingGuard:
    """Keeps padding out of one transformers speech model.

    Finds the layers that need it when made; `set(lengths of the first conv layer, frame mask)` before
    a forward pass and `set(None, None)` when the batch has no padding.

    Args:
        model: a `transformers` speech model (wav2vec 2.0, HuBERT, WavLM, data2vec-audio, ...).
    """

    def __init__(self, model: nn.Module):
        self._norm: MaskedGroupNorm | None = None
        self._frame_mask: torch.Tensor | None = None
        extractor = getattr(model, "feature_extractor", None)
        if extractor is not None and isinstance(getattr(extractor.conv_layers[0], "layer_norm", None), nn.GroupNorm):
            self._norm = MaskedGroupNorm.of(extractor.conv_layers[0].layer_norm)
            extractor.conv_layers[0].layer_norm = self._norm
        stacked = getattr(getattr(model.encoder, "pos_conv_embed", None), "layers", ())
        for layer in stacked[1:] if len(stacked) else ():
            layer.register_forward_pre_hook(self._zero_padding)

    def set(self, first_conv_lengths: torch.Tensor | None, frame_mask: torch.Tensor | None) -> None:
        """Args: first_conv_lengths (B,), frames after the first convolution; frame_mask (B, T)."""
        self._frame_mask = frame_mask
        if self._norm is not None:
            self._norm.lengths = first_conv_lengths

    def _zero_padding(self, module: nn.Module, inputs: tuple) -> tuple | None:
        if self._frame_mask is None:
            return None
        return (inputs[0] * self._frame_mask.unsqueeze(1).to(inputs[0].dtype),)

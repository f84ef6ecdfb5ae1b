"""Decoders for ESPnet's classification task."""

import torch
from espnet2.cls.decoder.abs_decoder import AbsDecoder
from torch import nn

from espnet_ctx.nn.masking import length_mask
from espnet_ctx.nn.student import AttentivePooling


class AttentiveDecoder(AbsDecoder):
    """`--decoder attentive`: self-attentive pooling over the frames, then one linear layer, as SLUE's baselines have it.

    Args:
        vocab_size: number of classes.
        encoder_output_size: D, width of the frames.
        dropout: on the pooled vector.
    """

    def __init__(self, vocab_size: int, encoder_output_size: int, dropout: float = 0.0):
        super().__init__()
        self.pooling = AttentivePooling(encoder_output_size, num_tokens=1)
        self.dropout = nn.Dropout(dropout)
        self.linear_out = nn.Linear(encoder_output_size, vocab_size)

    def forward(self, hs_pad: torch.Tensor, hlens: torch.Tensor) -> torch.Tensor:
        """(B, T, D) frames, (B,) frame lengths -> (B, classes) logits."""
        pooled = self.pooling(hs_pad, length_mask(hlens, hs_pad.size(1))).squeeze(1)
        return self.linear_out(self.dropout(pooled))

    def score(self, ys, state, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """ESPnet's interface for one utterance: `x` (T, D) -> (classes,) logits."""
        return self.forward(x.unsqueeze(0), torch.tensor([len(x)], device=x.device)).squeeze(0), None

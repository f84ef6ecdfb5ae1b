"""ESPnet models with context and the distillation loss."""

from typing import Dict, List, Mapping, Optional, Tuple, Union

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable

from espnet_ctx.nn.cross_attention import context_mask
from espnet_ctx.nn.distillation import ContextDistillation
from espnet_ctx.nn.injection import Context


class ContextASRModel(ESPnetASRModel):
    """`--model context_asr`: ESPnet's hybrid CTC/attention model, L = (1 - alpha) L_task + alpha L_ctx.

    Takes an optional `context` beside `speech` and `text`. Everything else is ESPnet's.

    Args:
        vocab_size: as in ESPnet's model, as are all further arguments but two.
        token_list: the tokens.
        alpha: weight of the distillation loss; needs an encoder with a student (0.0: not in the loss).
        distillation_conf: arguments of `espnet_ctx.nn.ContextDistillation`.

    Raises:
        ValueError: alpha outside [0, 1], or above 0 without a student.
    """

    def __init__(
        self,
        vocab_size: int,
        token_list: Union[Tuple[str, ...], List[str]],
        *,
        alpha: float = 0.0,
        distillation_conf: Mapping = {},
        **kwargs,
    ):
        super().__init__(vocab_size=vocab_size, token_list=token_list, **kwargs)
        injection = getattr(self.encoder, "injection", None)
        has_student = injection is not None and injection.student is not None
        if not 0 <= alpha <= 1:
            raise ValueError(f"model_conf.alpha is a weight in [0, 1], got {alpha}")
        if alpha > 0 and not has_student:
            raise ValueError("model_conf.alpha > 0 needs a student: set encoder_conf.injection_conf.student")
        self.alpha = alpha
        self.distillation = ContextDistillation(**distillation_conf) if has_student else None

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        context: Optional[torch.Tensor] = None,
        context_lengths: Optional[torch.Tensor] = None,
        **kwargs,
    ) -> Tuple[torch.Tensor, Dict[str, torch.Tensor], torch.Tensor]:
        """ESPnet's forward pass with context.

        Args:
            speech: (B, N) samples.
            speech_lengths: (B,).
            text: (B, U) token ids.
            text_lengths: (B,).
            context: (B, L, C) embeddings; rows of zeros are absent.
            context_lengths: (B,) rows.
            **kwargs: as ESPnet passes them (`utt_id`).

        Returns:
            loss, statistics for ESPnet's reporter, weight (the batch size).
        """
        given = self._context(context, context_lengths)
        with self.encoder.given(given):
            loss, stats, weight = super().forward(speech, speech_lengths, text, text_lengths, **kwargs)
        injection = self.encoder.injection
        if injection is None:
            return loss, stats, weight
        extra = {
            "context_gate": torch.stack([a.gate.detach().abs() for a in injection.attentions]).mean(),
            "context_residual": self.encoder.residual,
        }
        if self.distillation is not None and given is not None:
            loss_context, cosine = self.distillation(self.encoder.predicted, given.embeddings, given.mask)
            loss = (1 - self.alpha) * loss + self.alpha * loss_context
            extra.update(loss_context=loss_context.detach(), context_cosine=cosine, loss=loss.detach())
        extra, _ = force_gatherable(({k: v for k, v in extra.items() if v is not None}, 0), loss.device)
        return loss, {**stats, **extra}, weight

    def encode(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        context: Optional[torch.Tensor] = None,
        context_lengths: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """ESPnet's `encode`, with context for the systems that need it at inference.

        Args:
            speech: (B, N) samples.
            speech_lengths: (B,).
            context: (B, L, C), optional.
            context_lengths: (B,) rows.

        Returns:
            (B, T, D) and (B,).
        """
        if context is None:
            return super().encode(speech, speech_lengths)
        with self.encoder.given(self._context(context, context_lengths)):
            return super().encode(speech, speech_lengths)

    def _context(self, context: Optional[torch.Tensor], lengths: Optional[torch.Tensor]) -> Optional[Context]:
        injection = self.encoder.injection
        if context is None or injection is None:
            return None
        expected = injection.attentions[0].context_norm.normalized_shape[0]
        if context.size(-1) != expected:
            raise ValueError(
                f"the context archive holds vectors of width {context.size(-1)}, the model was built for {expected} "
                "(encoder_conf.context_dim; was the archive made with another --text_encoder?)"
            )
        return Context(context, context_mask(context, lengths))

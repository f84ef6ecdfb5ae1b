"""ESPnet models with context and the distillation loss."""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.cls.espnet_model import ESPnetClassificationModel
from espnet2.slu.espnet_model import ESPnetSLUModel
from espnet2.torch_utils.device_funcs import force_gatherable

from espnet_ctx.nn.cross_attention import Context, context_mask
from espnet_ctx.nn.distillation import ContextDistillation
from espnet_ctx.nn.memory import Bank, CodebookMemory, State

TEACHERS = ("context", "next_context", "neighbours")


class ContextModel:
    """What context adds to a model of ESPnet: L = (1 - alpha) L_task + alpha L_ctx.

    Stands before the ESPnet model among the bases of a class. The model takes an optional `context` beside its own
    inputs; everything else is ESPnet's.

    Args:
        *args: of the ESPnet model.
        alpha: weight of the distillation loss; needs an encoder with a student (0.0: not in the loss).
        teacher: whose embeddings the student learns: "context" (the utterance's own context), "next_context" (what
            the LLM says after this utterance: the next one's context) or "neighbours" (what the student made of the
            utterances before and after it, arXiv 2212.08542).
        distillation_conf: arguments of `espnet_ctx.nn.ContextDistillation`; loss "codebook" takes the codebook and
            the temperature of a memory that has them.
        **kwargs: of the ESPnet model.

    Raises:
        ValueError: alpha outside [0, 1], or above 0 without a student; an unknown teacher.
    """

    def __init__(self, *args, alpha: float = 0.0, teacher: str = "context", distillation_conf: Mapping = {}, **kwargs):
        super().__init__(*args, **kwargs)
        injection = getattr(self.encoder, "injection", None)
        has_student = injection is not None and injection.student is not None
        if not 0 <= alpha <= 1:
            raise ValueError(f"model_conf.alpha is a weight in [0, 1], got {alpha}")
        if alpha > 0 and not has_student:
            raise ValueError("model_conf.alpha > 0 needs a student: set encoder_conf.injection_conf.student")
        if teacher not in TEACHERS:
            raise ValueError(f"model_conf.teacher must be one of {', '.join(TEACHERS)}; got '{teacher}'")
        self.alpha, self.teacher = alpha, teacher
        memory = getattr(self.encoder, "memory", None)
        if isinstance(memory, CodebookMemory) and distillation_conf.get("loss") == "codebook":
            distillation_conf = {"codebook": memory.codebook, "temperature": memory.temperature, **distillation_conf}
        self.distillation = ContextDistillation(**distillation_conf) if has_student else None
        self.bank = Bank()
        self._transcribed: Optional[torch.Tensor] = None  # (B,) bool of the batch that is being trained

    def forward(
        self,
        *args: torch.Tensor,
        context: Optional[torch.Tensor] = None,
        context_lengths: Optional[torch.Tensor] = None,
        next_context: Optional[torch.Tensor] = None,
        next_context_lengths: Optional[torch.Tensor] = None,
        place: Optional[torch.Tensor] = None,
        place_lengths: Optional[torch.Tensor] = None,
        transcribed: Optional[torch.Tensor] = None,
        transcribed_lengths: Optional[torch.Tensor] = None,
        **kwargs,
    ) -> Tuple[torch.Tensor, Dict[str, torch.Tensor], torch.Tensor]:
        """ESPnet's forward pass with context.

        Args:
            *args: as ESPnet passes them.
            context: (B, L, C) embeddings; rows of zeros are absent.
            context_lengths: (B,) rows.
            next_context: (B, L, C) the next utterance's, for the teacher of that name.
            next_context_lengths: (B,) rows.
            place: (B, 3) row of the utterance, first row of its session and row after the last, see `Bank`.
            place_lengths: not used; part of ESPnet's interface.
            transcribed: (B, 1) 1, or 0 for an utterance whose text was recognised: L_ctx alone learns from it.
            transcribed_lengths: not used; part of ESPnet's interface.
            **kwargs: as ESPnet passes them: `speech` (B, N), `speech_lengths` (B,), `text` or `label` (B, U), ...

        Returns:
            loss, statistics for ESPnet's reporter, weight (the batch size).
        """
        given = self._context(context, context_lengths)
        if transcribed is not None and getattr(self, "ctc_weight", 0) != 1:
            raise ValueError("the data 'transcribed' is for models that learn their text by CTC alone: model_conf.ctc_weight 1.0")
        self._transcribed = None if transcribed is None else transcribed[:, 0].bool()
        with self.encoder.given(*self._fed(given, place)):
            loss, stats, weight = super().forward(*args, **kwargs)
        injection = self.encoder.injection
        if injection is None:
            return loss, stats, weight
        if self.training and place is not None and injection.student is not None:
            self.bank.put(place[:, 0], self.encoder.predicted)
        extra = {
            "context_gate": torch.stack([a.gate.detach().abs() for a in injection.attentions]).mean(),
            "context_residual": self.encoder.residual,
        }
        if self.distillation is not None:
            taught = given if self.teacher == "context" else self._taught(next_context, next_context_lengths, place)
        if self.distillation is not None and taught is not None:
            loss_context, cosine = self.distillation(self.encoder.predicted, taught.embeddings, taught.mask)
            loss = (1 - self.alpha) * loss + self.alpha * loss_context
            extra.update(loss_context=loss_context.detach(), context_cosine=cosine, loss=loss.detach())
        extra, _ = force_gatherable(({k: v for k, v in extra.items() if v is not None}, 0), loss.device)
        return loss, {**stats, **extra}, weight

    def encode(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        *args,
        context: Optional[torch.Tensor] = None,
        context_lengths: Optional[torch.Tensor] = None,
        **kwargs,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """ESPnet's `encode`, with context for the systems that need it at inference.

        Args:
            speech: (B, N) samples.
            speech_lengths: (B,).
            *args: further inputs of the ESPnet model.
            context: (B, L, C), optional.
            context_lengths: (B,) rows.
            **kwargs: further inputs of the ESPnet model.

        Returns:
            (B, T, D) and (B,).
        """
        if context is None:
            return super().encode(speech, speech_lengths, *args, **kwargs)
        with self.encoder.given(self._context(context, context_lengths)):
            return super().encode(speech, speech_lengths, *args, **kwargs)

    def _calc_ctc_loss(self, encoder_out, encoder_out_lens, ys_pad, ys_pad_lens):
        known = self._transcribed
        if known is None or known.all():
            return super()._calc_ctc_loss(encoder_out, encoder_out_lens, ys_pad, ys_pad_lens)
        if not known.any():
            return self.ctc.ctc_lo(encoder_out).sum() * 0.0, None  # touches its weights, as processes side by side need
        loss, cer = super()._calc_ctc_loss(encoder_out[known], encoder_out_lens[known], ys_pad[known], ys_pad_lens[known])
        return loss * known.float().mean(), cer  # every utterance keeps its weight

    def _fed(self, given: Optional[Context], place: Optional[torch.Tensor]) -> Tuple[Optional[Context], Optional[State]]:
        """The teacher's context and, for utterances that lose it in training, what a memory would hold of the session."""
        injection = self.encoder.injection
        if not self.training or injection is None or injection.memory is None:
            return given, None
        probability = injection.teacher_probability(int(self.encoder.num_updates))
        if probability == 1:
            return given, None
        if given is None or place is None:
            raise ValueError(
                "a memory that is fed in training needs the data 'context' and 'place' "
                "(--train_data_path_and_name_and_type; stage 7 makes both), or injection_conf.teacher_feeding 1.0"
            )
        state, whole = self.bank.state(injection.memory, place)
        by_teacher = torch.rand(len(place), device=place.device) < probability
        return Context(given.embeddings, given.mask & (by_teacher | ~whole).unsqueeze(1)), state

    def _taught(
        self, next_context: Optional[torch.Tensor], lengths: Optional[torch.Tensor], place: Optional[torch.Tensor]
    ) -> Optional[Context]:
        """What a student learns that does not learn the utterance's own context."""
        if self.teacher == "next_context":
            if next_context is None:
                raise ValueError(
                    "the student learns the next utterance's context: give the data 'next_context' "
                    "(--train_data_path_and_name_and_type and --valid_...; stage 7 makes it)"
                )
            return self._context(next_context, lengths)
        if not self.training:
            return None
        if place is None:
            raise ValueError(
                "the student learns what it made of the neighbouring utterances: give the data 'place' "
                "(--train_data_path_and_name_and_type; stage 7 makes it)"
            )
        row, first, end = place.unbind(1)
        neighbours = torch.stack([row - 1, row + 1], 1)
        inside = (neighbours >= first.unsqueeze(1)) & (neighbours < end.unsqueeze(1))
        values, there = self.bank.at(neighbours)
        num_tokens = values.size(2)
        return Context(values.flatten(1, 2), (there & inside).repeat_interleave(num_tokens, 1))

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


class ContextASRModel(ContextModel, ESPnetASRModel):
    """`--model context_asr`: ESPnet's hybrid CTC/attention model with context; see `ContextModel`."""


class ContextSLUModel(ContextModel, ESPnetSLUModel):
    """`--model context_slu`: ESPnet's SLU model with context; see `ContextModel`.

    Trained with CTC on text in which entities are tagged, as the SLUE toolkit does for named entities.
    """


class ContextCLSModel(ContextModel, ESPnetClassificationModel):
    """`--model context_cls`: ESPnet's classification of utterances with context; see `ContextModel`.

    Args:
        vocab_size: number of classes.
        token_list: the classes and `<unk>`.
        class_weights: factor of each class in the loss, in the order of `token_list` (None: all 1). In a
            configuration also "balanced": the task puts the numbers in its place, see `ContextCLSTask`.
        **kwargs: of `ContextModel` and of ESPnet's model.

    Raises:
        ValueError: another number of weights than of classes, a negative one, or weights for several labels an utterance.
    """

    def __init__(
        self,
        vocab_size: int,
        token_list: Union[Tuple[str, ...], List[str]],
        *,
        class_weights: Optional[Sequence[float]] = None,
        **kwargs,
    ):
        super().__init__(vocab_size=vocab_size, token_list=token_list, **kwargs)
        if class_weights is None:
            return
        if len(class_weights) != vocab_size or min(class_weights) < 0:
            raise ValueError(
                f"model_conf.class_weights needs one number >= 0 for each of the {vocab_size} classes "
                f"({', '.join(token_list[:vocab_size])}), or 'balanced'; got {class_weights}"
            )
        if self.classification_type != "multi-class":
            raise ValueError("model_conf.class_weights goes with classification_type multi-class only")
        self.classification_loss.weight = torch.tensor(class_weights, dtype=torch.float)

"""ESPnet encoder: an SSL upstream into which context enters by cross-attention."""

from contextlib import contextmanager
from functools import partial
from typing import Iterator, Mapping, Optional, Tuple

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder

from espnet_ctx.nn.cross_attention import Context
from espnet_ctx.nn.injection import ContextInjection
from espnet_ctx.nn.memory import SessionMemory, State
from espnet_ctx.nn.upstream import Upstream


class ContextSSLEncoder(AbsEncoder):
    """`--encoder context_ssl`: raw waveform in, context-aware frames out.

    Used with `frontend: null` and `input_size: 1`. Without `injection_conf` it is plain fine-tuning of the
    upstream (system `none`).

    Args:
        input_size: always 1, the waveform.
        upstream: hub id or local directory.
        upstream_revision: branch, tag or commit of the hub id.
        upstream_architecture: written into the saved configuration, so that a trained model is built
            without `upstream`; not for the user.
        upstream_conf: further arguments of `espnet_ctx.nn.Upstream`.
        injection_conf: arguments of `espnet_ctx.nn.ContextInjection` except the widths.
        context_dim: C, width of the context embeddings; needed with `injection_conf`.

    Raises:
        ValueError: another input size, `injection_conf` without `context_dim`, or a layer that is not there.
    """

    def __init__(
        self,
        input_size: int = 1,
        upstream: Optional[str] = None,
        upstream_revision: Optional[str] = None,
        upstream_architecture: Optional[Mapping] = None,
        upstream_conf: Mapping = {},
        injection_conf: Optional[Mapping] = None,
        context_dim: Optional[int] = None,
    ):
        super().__init__()
        if input_size != 1:
            raise ValueError(
                f"context_ssl reads the raw waveform: set 'frontend: null' and 'input_size: 1', got input_size {input_size}"
            )
        self.upstream = Upstream(upstream, upstream_revision, upstream_architecture, **upstream_conf)
        self.injection: Optional[ContextInjection] = None
        if injection_conf is not None:
            if context_dim is None:
                raise ValueError(
                    "encoder_conf.context_dim is missing: the width of the context embeddings "
                    "(file context_dim beside context.scp)"
                )
            self.injection = ContextInjection(self.upstream.output_size, context_dim, **injection_conf)
            for number in self.injection.after_layers:
                if not 1 <= number <= self.upstream.num_layers:
                    raise ValueError(
                        f"injection_conf.after_layers: no layer {number}; "
                        f"the upstream has layers 1 to {self.upstream.num_layers}"
                    )
        # optimiser updates, counted by the task; in the state dict so that a resumed run goes on counting
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))
        self._given: Optional[Context] = None
        self._state: Optional[State] = None
        self.predicted: Optional[torch.Tensor] = None  # Ê (B, K, C) of the last forward pass; None if it was folded
        self.state: Optional[State] = None  # of the memory after the last forward pass
        self.residual: Optional[torch.Tensor] = None  # ||Z' - Z|| / ||Z|| of the last forward pass

    def output_size(self) -> int:
        """D."""
        return self.upstream.output_size

    @property
    def memory(self) -> Optional[SessionMemory]:
        """What carries the students' outputs through a session (system carry), or None."""
        return None if self.injection is None else self.injection.memory

    @contextmanager
    def given(self, context: Optional[Context], state: Optional[State] = None) -> Iterator[None]:
        """Forward passes inside the block get this context (None: absent), or what a memory makes of this state."""
        self._given, self._state = context, state
        try:
            yield
        finally:
            self._given = self._state = None

    def forward(
        self, xs_pad: torch.Tensor, ilens: Optional[torch.Tensor], prev_states: Optional[torch.Tensor] = None
    ) -> Tuple[torch.Tensor, torch.Tensor, None]:
        """Encode.

        Args:
            xs_pad: (B, N) or (B, N, 1) samples at 16 kHz.
            ilens: (B,) valid samples; None: all of them (for export).
            prev_states: not used; part of ESPnet's interface.

        Returns:
            (B, T, D) frames, (B,) frame lengths, None.
        """
        speech = xs_pad.squeeze(-1) if xs_pad.dim() == 3 else xs_pad
        if ilens is not None:
            # scripts and older checkpoints move ilens about: lengths and samples stay on one device
            ilens = ilens.to(speech.device)
        updates = int(self.num_updates) if self.training else 0
        if self.injection is None:
            frames, lengths = self.upstream(speech, ilens, updates)
            return frames.to(speech.dtype), lengths, None

        fed: Optional[Context] = None
        folded = self.injection.folded if self._given is None and self._state is not None else None
        self.predicted = self.state = self.residual = None

        def inject(place: int, frames: torch.Tensor, frame_mask: Optional[torch.Tensor]) -> torch.Tensor:
            nonlocal fed
            if folded is not None:
                out, self.state = folded(frames, frame_mask, self._state)
                return out
            if place == 0:
                fed, self.predicted, self.state = self.injection.fed(frames, frame_mask, self._given, updates, self._state)
            out = self.injection.attentions[place](frames, *(fed or (None, None)))
            if not torch.is_inference_mode_enabled():  # the log tells it
                with torch.no_grad():
                    valid = 1.0 if frame_mask is None else frame_mask.unsqueeze(-1)
                    self.residual = ((out - frames) * valid).norm() / (frames * valid).norm()
            return out

        hooks = {number: partial(inject, place) for place, number in enumerate(self.injection.after_layers)}
        frames, lengths = self.upstream(speech, ilens, updates, hooks, None if hooks else partial(inject, 0))
        return frames.to(speech.dtype), lengths, None

    def fold(self, single_precision: bool = True) -> None:
        """Work out what follows from the weights alone and keep it, see `espnet_ctx.nn.ContextInjection.fold`."""
        if self.injection is not None:
            self.injection.fold(single_precision)

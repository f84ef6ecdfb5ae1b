"""PyTorch modules of the method; nothing here knows ESPnet."""

from espnet_ctx.nn.cross_attention import Context, CrossAttention, context_mask
from espnet_ctx.nn.distillation import ContextDistillation
from espnet_ctx.nn.injection import ContextInjection
from espnet_ctx.nn.memory import SessionMemory
from espnet_ctx.nn.student import Student
from espnet_ctx.nn.upstream import Upstream

__all__ = [
    "Context",
    "ContextDistillation",
    "ContextInjection",
    "CrossAttention",
    "SessionMemory",
    "Student",
    "Upstream",
    "context_mask",
]

"""Where reduced precision must stay out."""

import torch
from torch import nn

PROBE_FRAMES = 160
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")  # what processors call it, the last on ARM


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bf16; one that does not emulates it, many times slower than single precision."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16)


def keep_single_precision(module: nn.Module, channels: int) -> bool:
    """Run a positional convolution in single precision inside CPU autocast, if this processor needs it.

    With 4, 8 or 12 channels a group and a long kernel, PyTorch 2.11's bf16 convolution returns values that have
    nothing to do with the right ones on processors with AMX; with 16 and more it is right (`tests/nn/test_precision.py`).
    One try on random input tells.

    Args:
        module: from (B, T, channels), floating point, to the same shape; on the CPU.
        channels: width of its input.

    Returns:
        Whether it is kept in single precision from now on.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, PROBE_FRAMES, channels, generator=generator)
    with torch.no_grad():
        single = module(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = module(x)
    wrong = bool((half.float() - single).norm() > 0.1 * single.norm())
    if wrong:
        module.register_forward_pre_hook(_leave_autocast)
        module.register_forward_hook(_enter_autocast, always_call=True)
    return wrong


def _leave_autocast(module: nn.Module, inputs: tuple) -> tuple:
    module.in_autocast = torch.is_autocast_enabled("cpu")
    torch.set_autocast_enabled("cpu", False)
    x = inputs[0]
    return (x.float() if x.device.type == "cpu" else x, *inputs[1:])


def _enter_autocast(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    torch.set_autocast_enabled("cpu", module.in_autocast)

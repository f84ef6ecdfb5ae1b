"""Where reduced precision must stay out."""

import torch
from torch import nn


def keep_single_precision(module: nn.Module) -> None:
    """Run a module in single precision inside CPU autocast too.

    For positional convolutions: with 12 channels a group and a long kernel, PyTorch 2.11's bf16 convolution
    returns values that have nothing to do with the right ones on processors with AMX (`tests/nn/test_precision.py`).

    Args:
        module: takes one floating-point tensor first.
    """
    module.register_forward_pre_hook(_leave_autocast)
    module.register_forward_hook(_enter_autocast, always_call=True)


def _leave_autocast(module: nn.Module, inputs: tuple) -> tuple:
    module.in_autocast = torch.is_autocast_enabled("cpu")
    torch.set_autocast_enabled("cpu", False)
    x = inputs[0]
    return (x.float() if x.device.type == "cpu" else x, *inputs[1:])


def _enter_autocast(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    torch.set_autocast_enabled("cpu", module.in_autocast)

import re
from pathlib import Path

import pytest
import torch

from espnet_ctx.nn import Upstream
from espnet_ctx.nn.precision import has_bfloat16, keep_single_precision


class Convolution(torch.nn.Conv1d):
    """A positional convolution on (B, T, channels), odd so that it keeps T."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("groups", [2, 4, 8, 12, 16, 48, 192])
def test_a_convolution_is_right_under_autocast(groups):
    torch.manual_seed(0)
    conv, x = Convolution(192, 192, 63, padding=31, groups=groups), torch.randn(2, 165, 192)
    right = conv(x)
    kept = keep_single_precision(conv, 192)
    with torch.autocast("cpu", torch.bfloat16):
        assert (conv(x).float() - right).norm() < 0.01 * right.norm()
        assert conv(x.bfloat16()).dtype == (torch.float32 if kept else torch.bfloat16)
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo to compare with")
def test_whether_the_processor_has_bf16_is_what_the_system_says():
    says = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split()
    assert has_bfloat16() == (not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(says))


class WrongInBf16(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * (-1 if torch.is_autocast_enabled("cpu") else 1)


def test_what_is_wrong_in_bf16_stays_out_of_autocast():
    layer, x = WrongInBf16(4, 4), torch.randn(1, 3, 4)
    right = layer(x)
    assert keep_single_precision(layer, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), right)


def test_autocast_comes_back_after_an_error():
    layer = WrongInBf16(4, 4)
    assert keep_single_precision(layer, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            layer(torch.randn(1, 9, 5))
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", ["wav2vec2-base", "wav2vec2-large", "wavlm-base", "data2vec-audio"])
@torch.no_grad()
def test_bf16_stays_near_single_precision(name, upstream_dir):
    upstream = Upstream(str(upstream_dir(name))).eval()
    torch.manual_seed(1)
    speech, lengths = torch.randn(2, 16000) * 0.1, torch.tensor([16000, 9731])
    single, _ = upstream(speech, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = upstream(speech, lengths)
    for i, n in enumerate(upstream.output_lengths(lengths)):
        assert (half[i, :n] - single[i, :n]).norm() / single[i, :n].norm() < 0.05

import pytest
import torch

from espnet_ctx.nn import Upstream
from espnet_ctx.nn.precision import keep_single_precision


def test_positional_convolution_is_right_under_autocast():
    torch.manual_seed(0)
    conv, x = torch.nn.Conv1d(192, 192, 64, padding=32, groups=16), torch.randn(2, 192, 165)
    right = conv(x)
    keep_single_precision(conv)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x.bfloat16().float()), conv(x.bfloat16()))
        assert torch.allclose(conv(x), right, atol=1e-5)
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_comes_back_after_an_error():
    conv = torch.nn.Conv1d(4, 4, 3)
    keep_single_precision(conv)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            conv(torch.randn(1, 5, 9))
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

"""Student, memory and cross-attention in one piece against the three."""

import pytest
import torch

from espnet_ctx.nn import ContextInjection
from espnet_ctx.nn.masking import length_mask
from espnet_ctx.nn.memory import State

LENGTHS = (9, 1, 30)


def injection_of(dim=16, context_dim=12, num_tokens=2, size=5, **settings) -> ContextInjection:
    torch.manual_seed(0)
    student = {"pooling": "multi_query", "num_tokens": num_tokens}
    memory = {"kind": "codebook", "size": size, "decay": 0.7, "trust": 0.5}
    injection = ContextInjection(dim, context_dim, **{"student": student, "memory": memory, "num_heads": 2, **settings}).eval()
    for parameter in injection.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for attention in injection.attentions:
        torch.nn.init.ones_(attention.gate)
    if hasattr(injection.memory, "codebook"):
        injection.memory.codebook.normal_()
    return injection


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"dim": 8, "context_dim": 40}, {"num_tokens": 1, "size": 20}, {"size": 1}])
def test_it_gives_what_the_three_give(sizes):
    injection = injection_of(**sizes)
    dim = injection.student.norm.normalized_shape[0]
    state = injection.memory.initial(len(LENGTHS))
    utterances = [torch.randn(len(LENGTHS), max(LENGTHS), dim) for _ in range(3)]
    mask, expected = length_mask(torch.tensor(LENGTHS), max(LENGTHS)), []
    for frames in utterances:
        context, _, state = injection.fed(frames, mask, None, 0, state)
        expected.append((injection.attentions[0](frames, *context), state))
    injection.fold()
    assert (expected[2][0] - utterances[2]).norm() > 0.1 * utterances[2].norm()  # the context does something
    states = injection.memory.initial(len(LENGTHS))
    alone = [injection.memory.initial(1) for _ in LENGTHS]
    for frames, (out, state) in zip(utterances, expected):
        found, states = injection.folded(frames, mask, states)
        assert (found - out)[mask].abs().max() < 2e-5 * out.abs().max()
        for ours, theirs in zip(states, state, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        for i, length in enumerate(LENGTHS):  # without padding
            found_alone, alone[i] = injection.folded(frames[i : i + 1, :length], None, alone[i])
            assert torch.allclose(found_alone[0], found[i, :length], rtol=1e-5, atol=1e-5)
            assert all(torch.allclose(a[0], b[i], rtol=1e-5, atol=1e-5) for a, b in zip(alone[i], states))


def test_what_follows_from_the_weights_is_kept():
    injection = injection_of()
    injection.fold()
    frames, state = torch.randn(1, 9, 16), State(torch.randn(1, 5), torch.ones(1))
    before = injection.folded(frames, None, state)[0]
    torch.nn.init.zeros_(injection.attentions[0].gate)
    assert torch.equal(before, injection.folded(frames, None, state)[0]) and not torch.equal(before, frames)


@pytest.mark.parametrize(
    "settings",
    [
        {"current": False},
        {"after_layers": (1, 2)},
        {"memory": {"kind": "mean"}},
        {"memory": None},
        {"student": {"pooling": "attentive"}},
        {"student": None, "memory": None},
    ],
)
def test_other_settings_go_the_common_way(settings):
    injection = injection_of(**settings)
    injection.fold()
    assert injection.folded is None

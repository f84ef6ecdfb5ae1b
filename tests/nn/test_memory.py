"""Memories of sessions: absence, order, sessions side by side, states on the disk, the bank of training."""

import pytest
import torch
from torch.nn import functional as F

from espnet_ctx.nn import Context, ContextInjection, CrossAttention, SessionMemory
from espnet_ctx.nn.masking import length_mask
from espnet_ctx.nn.memory import MEMORIES, Bank, State, build_memory

C = 12
KINDS = [{"kind": "mean"}, {"kind": "mean", "decay": 0.7}, {"kind": "last", "last": 3}, {"kind": "codebook", "size": 5}]


def memory_of(num_tokens=1, **settings) -> SessionMemory:
    memory = build_memory(C, num_tokens, **settings)
    if settings.get("kind") == "codebook":
        torch.manual_seed(0)
        memory.codebook.copy_(torch.randn(memory.codebook.shape))
    return memory


def outputs(*shape) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(*shape, C)


def after(memory, said) -> State:
    """The state of one session after outputs (n, K, C)."""
    state = memory.initial(1)
    for predicted in said:
        state = memory.update(state, predicted.unsqueeze(0))
    return state


@pytest.mark.parametrize("settings", KINDS)
def test_an_empty_memory_is_an_absent_context(settings):
    memory = memory_of(2, **settings)
    context = memory.read(memory.initial(3))
    assert context.embeddings.shape[0] == 3 and context.embeddings.shape[2] == C and not context.mask.any()
    torch.manual_seed(2)
    attention, frames = CrossAttention(16, C).eval(), torch.randn(3, 9, 16)
    assert torch.equal(attention(frames, *context), attention(frames, None, None))


@pytest.mark.parametrize("settings", KINDS)
def test_sessions_of_unequal_lengths_side_by_side_equal_each_alone(settings):
    memory, lengths = memory_of(2, **settings), [4, 1, 0, 6]
    said = outputs(len(lengths), max(lengths), 2)
    states = memory.initial(len(lengths))
    for step in range(max(lengths)):
        going = [i for i, n in enumerate(lengths) if step < n]
        new = memory.update(State(*(part[going] for part in states)), said[going, step])
        for part, changed in zip(states, new):
            part[going] = changed
    together = memory.read(states)
    for i, n in enumerate(lengths):
        alone = memory.read(after(memory, said[i, :n]))
        assert torch.equal(together.mask[i], alone.mask[0]) and alone.mask.any() == (n > 0)
        assert (together.embeddings[i] - alone.embeddings[0]).abs().max() < 1e-6


@pytest.mark.parametrize("settings", KINDS)
def test_folded_for_inference_it_gives_the_same(settings):
    memory, said = memory_of(1, **settings), outputs(4, 1)
    before = memory.read(after(memory, said))
    memory.fold()
    assert all(torch.equal(a, b) for a, b in zip(before, memory.read(after(memory, said))))


@pytest.mark.parametrize("settings", KINDS)
def test_a_state_read_from_disk_goes_on_identically(settings, tmp_path):
    memory, said = memory_of(1, **settings), outputs(5, 1)
    torch.save(tuple(after(memory, said[:3])), tmp_path / "state.pt")
    state = State(*torch.load(tmp_path / "state.pt", weights_only=True))
    for predicted in said[3:]:
        state = memory.update(state, predicted.unsqueeze(0))
    assert all(torch.equal(a, b) for a, b in zip(state, after(memory, said)))


def test_means_by_hand():
    said = outputs(3, 1)
    unit = F.normalize(said[:, 0], dim=-1)
    assert torch.allclose(memory_of(kind="mean").read(after(memory_of(), said)).embeddings[0, 0], unit.mean(0))
    decaying = memory_of(kind="mean", decay=0.5)
    expected = (0.25 * unit[0] + 0.5 * unit[1] + unit[2]) / 1.75
    assert torch.allclose(decaying.read(after(decaying, said)).embeddings[0, 0], expected, atol=1e-6)
    # how loud an output is counts for nothing
    loud = said * torch.tensor([1.0, 100.0, 1.0]).view(3, 1, 1)
    assert torch.allclose(after(decaying, loud).values, after(decaying, said).values, atol=1e-6)


def test_the_last_by_hand():
    memory, said = memory_of(2, kind="last", last=3), outputs(5, 2)
    context = memory.read(after(memory, said[:2]))
    assert context.mask.tolist() == [[True] * 4 + [False] * 2]
    assert torch.equal(context.embeddings[0, :4], torch.cat([said[1], said[0]]))
    context = memory.read(after(memory, said))
    assert context.mask.all() and torch.equal(context.embeddings[0], torch.cat([said[4], said[3], said[2]]))


def test_a_codebook_by_hand():
    memory = build_memory(2, 1, "codebook", size=2, temperature=0.5, trust=0.5)
    memory.codebook.copy_(torch.tensor([[4.0, 0.0], [0.0, 2.0]]))
    first, second = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 9.0]]])
    state = memory.update(memory.initial(1), first)
    # cosines 1 and 0 at temperature 0.5 are log-posteriors 2 apart, which are half trusted
    share = torch.tensor([1.0, 0.0]).softmax(0)
    assert torch.allclose(memory.read(state).embeddings[0, 0], torch.tensor([4 * share[0], 2 * share[1]]), atol=1e-6)
    # one word against another: both entries alike
    assert torch.allclose(memory.read(memory.update(state, second)).embeddings[0, 0], torch.tensor([2.0, 1.0]), atol=1e-6)
    # saying it again makes it surer
    sure = memory.read(memory.update(state, first)).embeddings[0, 0]
    assert sure[0] > 4 * share[0] and sure[1] < 2 * share[1]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "elephant"}, "one of mean, last, codebook; got 'elephant'"),
        ({"decay": 0.0}, "factor in \\(0, 1\\], got 0.0"),
        ({"kind": "codebook", "decay": 1.1}, "got 1.1"),
        ({"kind": "last", "last": 0}, "got last 0"),
        ({"kind": "codebook", "size": 0}, "got size 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        build_memory(C, 1, **settings)


def test_a_memory_needs_a_student():
    with pytest.raises(ValueError, match="set encoder_conf.injection_conf.student"):
        ContextInjection(16, C, memory={})


def injection_of(**settings) -> ContextInjection:
    torch.manual_seed(4)
    return ContextInjection(16, C, student={}, memory={"kind": "mean"}, **settings)


@pytest.mark.parametrize("current", [False, True])
def test_who_is_given_nothing_is_fed_the_memory_with_or_without_the_current_utterance(current):
    injection = injection_of(current=current).eval()
    frames, mask = torch.randn(2, 9, 16), length_mask(torch.tensor([9, 4]), 9)
    past = injection.memory.update(injection.memory.initial(2), outputs(2, 1))
    state = State(past.values * torch.tensor([1.0, 0.0]).view(2, 1, 1), torch.tensor([1.0, 0.0]))  # the second begins
    fed, predicted, _ = injection.fed(frames, mask, None, 0, state)
    assert torch.equal(injection.student(frames, mask), predicted)
    said, heard = past.values[0, 0], F.normalize(predicted[:, 0], dim=-1)
    if not current:
        assert fed.mask.tolist() == [[True], [False]] and torch.allclose(fed.embeddings[0, 0], said)
        assert not injection.fed(frames, mask, None, 0)[0].mask.any()
        return
    assert fed.mask is None
    assert torch.allclose(fed.embeddings[:, 0], torch.stack([(said + heard[0]) / 2, heard[1]]), atol=1e-6)
    # the utterance alone where there is no state
    assert torch.allclose(injection.fed(frames, mask, None, 0)[0].embeddings[:, 0], heard, atol=1e-6)


def test_a_given_context_is_fed_in_place_of_the_memory_and_dropped_in_training_only():
    injection, n = injection_of(context_dropout=0.25), 4000
    frames, mask = torch.randn(n, 2, 16), torch.ones(n, 2, dtype=torch.bool)
    given = Context(outputs(n, 3), torch.tensor([True, False, True]).repeat(n, 1))
    fed, *_ = injection.eval().fed(frames, mask, given, 0)
    assert torch.equal(fed.embeddings[:, :3], given.embeddings)
    assert (fed.mask == torch.tensor([True, False, True, False])).all()
    everything, *_ = injection.fed(frames, mask, Context(given.embeddings), 0)  # no mask: all rows are there
    assert (everything.mask == torch.tensor([True, True, True, False])).all()
    fed, *_ = injection.train().fed(frames, mask, given, 0)
    assert (fed.mask[:, 0] != fed.mask[:, 3]).all() and fed.mask[:, 3].float().mean().item() == pytest.approx(0.25, abs=0.03)
    # without a memory what is dropped is absent
    plain = ContextInjection(16, C, context_dropout=0.25).train()
    assert plain.fed(frames, mask, given, 0)[0].mask.any(1).float().mean().item() == pytest.approx(0.75, abs=0.03)


# the bank: rows 0-3 are one session, 4-5 the next

PLACES = torch.tensor([[0, 0, 4], [1, 0, 4], [2, 0, 4], [3, 0, 4], [4, 4, 6], [5, 4, 6]])


@pytest.mark.parametrize("settings", KINDS)
def test_the_bank_gives_the_memory_before_each_utterance(settings):
    memory, said, bank = memory_of(2, **settings), outputs(6, 2), Bank()
    bank.put(torch.tensor([5, 1, 0]), said[[5, 1, 0]])
    bank.put(torch.tensor([3, 2, 4]), said[[3, 2, 4]])
    state, whole = bank.state(memory, PLACES)
    assert whole.all()
    for i, (row, first, _) in enumerate(PLACES.tolist()):
        alone, together = memory.read(after(memory, said[first:row])), memory.read(State(*(part[i : i + 1] for part in state)))
        assert torch.equal(alone.mask, together.mask)
        assert (alone.embeddings - together.embeddings).abs().max() < 1e-6


def test_the_bank_says_what_it_has_not_heard_yet():
    memory, said, bank = memory_of(), outputs(6, 1), Bank()
    assert bank.state(memory, PLACES)[1].tolist() == [True, False, False, False, True, False]
    bank.put(torch.tensor([0, 2]), said[[0, 2]])
    state, whole = bank.state(memory, PLACES)
    assert whole.tolist() == [True, True, False, False, True, False]
    assert state.weight.tolist() == [0, 1, 1, 2, 0, 0]  # gaps are passed over
    values, there = bank.at(torch.tensor([[-1, 0], [1, 9]]))
    assert there.tolist() == [[False, True], [False, False]] and torch.equal(values[0, 1], said[0])
    bank.put(torch.tensor([0]), said[[5]])
    assert torch.equal(bank.at(torch.tensor([0]))[0][0], said[5])  # the latest counts


def test_the_bank_keeps_no_graph_and_bounds_how_far_it_looks_back():
    memory, bank, n = memory_of(), Bank(), Bank.HISTORY + 9
    bank.put(torch.arange(n), outputs(n, 1).requires_grad_())
    assert not bank.values.requires_grad
    state, whole = bank.state(memory, torch.tensor([[n - 1, 0, n]]))
    assert whole.all() and state.weight.item() == Bank.HISTORY


def test_every_kind_is_tested():
    assert {settings["kind"] for settings in KINDS} == set(MEMORIES)

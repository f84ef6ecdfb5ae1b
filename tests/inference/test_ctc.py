import pytest
import torch

from espnet_ctx.files import UserError
from espnet_ctx.inference.ctc import align, greedy, length_batches


def test_greedy_by_hand():
    # frames' best tokens: 1 1 0 1 2 2 | padding that would add a 3
    ids = torch.tensor([[1, 1, 0, 1, 2, 2, 3], [0, 0, 2, 3, 3, 3, 3]])
    probs = torch.full((2, 7, 4), 0.1)
    probs.scatter_(2, ids.unsqueeze(-1), 0.7)
    probs[0, 5, 2] = 0.9
    first, second = greedy(probs.log(), torch.tensor([6, 3]))
    assert first.token_ids == [1, 1, 2] and second.token_ids == [2]
    assert first.score == pytest.approx((5 * torch.tensor(0.7).log() + torch.tensor(0.9).log()).item(), rel=1e-5)
    assert second.score == pytest.approx(3 * torch.tensor(0.7).log().item(), rel=1e-5)
    assert first.spans == [(0, 2), (3, 4), (4, 6)] and second.spans == [(2, 3)]
    assert first.confidences == pytest.approx([0.7, 0.7, 0.9]) and second.confidence == pytest.approx(0.7)


def test_the_same_token_at_the_end_of_one_utterance_and_the_start_of_the_next_is_two():
    ids = torch.tensor([[0, 1], [1, 0]])
    first, second = greedy(torch.eye(2)[ids].clamp(min=1e-9).log(), torch.tensor([2, 2]))
    assert first.spans == [(1, 2)] and second.spans == [(0, 1)]


def test_nothing_recognised_is_an_empty_hypothesis():
    silence = torch.zeros(2, 5, 3)
    silence[..., 0] = 5.0
    for hypothesis in greedy(silence.log_softmax(-1), torch.tensor([5, 0])):
        assert hypothesis.token_ids == hypothesis.spans == [] and hypothesis.confidence == 0


def test_a_padded_batch_equals_one_by_one():
    torch.manual_seed(0)
    log_probs, lengths = torch.randn(4, 30, 6).log_softmax(-1), torch.tensor([30, 21, 8, 1])
    for i, hypothesis in enumerate(greedy(log_probs, lengths)):
        alone = greedy(log_probs[i : i + 1, : lengths[i]], lengths[i : i + 1])[0]
        assert hypothesis.token_ids == alone.token_ids and hypothesis.score == pytest.approx(alone.score, rel=1e-5)
        assert hypothesis.spans == alone.spans and hypothesis.confidences == pytest.approx(alone.confidences)


def test_alignment_finds_where_tokens_are_and_says_when_they_cannot_be():
    probs = torch.full((6, 4), 0.1)
    probs[[0, 1, 2, 3, 4, 5], [0, 2, 2, 0, 2, 1]] = 0.7
    aligned = align(probs.log(), 5, [2, 2])
    assert aligned.spans == [(1, 3), (4, 5)] and aligned.confidences == pytest.approx([0.7, 0.7])
    with pytest.raises(UserError, match="2 tokens need at least 3 frames and the speech has 2"):
        align(probs.log(), 2, [2, 2])
    assert align(probs.log(), 3, []).token_ids == []


def test_batches_hold_every_utterance_once_within_the_bound():
    lengths = [5, 90, 40, 41, 7, 300, 6]
    batches = list(length_batches(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert batches[0] == [5]  # longer than the bound: alone
    assert all(max(lengths[i] for i in b) * len(b) <= 100 for b in batches[1:])

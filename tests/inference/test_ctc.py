import pytest
import torch

from espnet_ctx.inference.ctc import greedy, length_batches


def test_greedy_by_hand():
    # frames' best tokens: 1 1 0 1 2 2 | padding that would add a 3
    ids = torch.tensor([[1, 1, 0, 1, 2, 2, 3], [0, 0, 2, 3, 3, 3, 3]])
    probs = torch.full((2, 7, 4), 0.1)
    probs.scatter_(2, ids.unsqueeze(-1), 0.7)
    first, second = greedy(probs.log(), torch.tensor([6, 3]))
    assert first.token_ids == [1, 1, 2] and second.token_ids == [2]
    assert first.score == pytest.approx(6 * torch.tensor(0.7).log().item(), rel=1e-5)
    assert second.score == pytest.approx(3 * torch.tensor(0.7).log().item(), rel=1e-5)


def test_nothing_recognised_is_an_empty_hypothesis():
    silence = torch.zeros(1, 5, 3)
    silence[..., 0] = 5.0
    assert greedy(silence.log_softmax(-1), torch.tensor([5]))[0].token_ids == []


def test_a_padded_batch_equals_one_by_one():
    torch.manual_seed(0)
    log_probs, lengths = torch.randn(4, 30, 6).log_softmax(-1), torch.tensor([30, 21, 8, 1])
    for i, hypothesis in enumerate(greedy(log_probs, lengths)):
        alone = greedy(log_probs[i : i + 1, : lengths[i]], lengths[i : i + 1])[0]
        assert hypothesis.token_ids == alone.token_ids and hypothesis.score == pytest.approx(alone.score, rel=1e-5)


def test_batches_hold_every_utterance_once_within_the_bound():
    lengths = [5, 90, 40, 41, 7, 300, 6]
    batches = list(length_batches(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert batches[0] == [5]  # longer than the bound: alone
    assert all(max(lengths[i] for i in b) * len(b) <= 100 for b in batches[1:])

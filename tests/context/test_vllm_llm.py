"""The vllm backend, with a double of the package: what it is asked and what is made of its answers."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from espnet_ctx.context.llm import Answer, Decoding, load_llm
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.files import UserError
from tests.context.checkpoints import make_llm

PROMPT = load_prompt("topic").with_examples(0)


class Engine:
    def __init__(self, **options):
        self.options, self.calls = options, []

    def generate(self, prompts, params, use_tqdm):
        self.calls.append(list(zip(prompts, params, strict=True)))
        said = SimpleNamespace(text=" bread\nand more", token_ids=[1, 2, 3], finish_reason="length")
        return [SimpleNamespace(outputs=[said], prompt_token_ids=p["prompt_token_ids"]) for p in prompts]


@pytest.fixture
def vllm(monkeypatch):
    double = ModuleType("vllm")
    double.LLM, double.SamplingParams = Engine, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", double)


def test_requests_and_answers(vllm, tmp_path):
    llm = load_llm("vllm", str(make_llm(tmp_path)), {"batch_size": 2, "tensor_parallel_size": 4})
    previous = [f"flour {i}" for i in range(10)]
    groups = list(llm.answer(PROMPT, iter(previous), Decoding(6)))
    assert [len(group) for group in groups] == [8, 2]
    assert [text for group in groups for text, _ in group] == previous
    (row, params), *_ = llm.engine.calls[0]
    assert llm.prompts.tokenizer.decode(row["prompt_token_ids"]) == PROMPT.base.render("flour 0")
    assert (params.max_tokens, params.temperature, params.seed, params.stop) == (6, 0.0, None, ["\n"])
    assert groups[0][0][1] == Answer(" bread", True, len(row["prompt_token_ids"]), 3)
    assert (llm.engine.options["tensor_parallel_size"], llm.engine.options["max_num_seqs"]) == (4, 2)
    assert llm.engine.options["trust_remote_code"] is False
    sampled = Decoding(6, temperature=0.7, seed=1)
    list(llm.answer(PROMPT, previous[:1], sampled))
    assert llm.engine.calls[-1][0][1].seed == sampled.seed_of(previous[0])


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"needs the package vllm: pip install 'espnet_ctx\[vllm\]'"):
        load_llm("vllm", str(tmp_path))

"""answers: each history once, in fixed batches, resumable."""

import pytest

from espnet_ctx.context.generate import PartFile, answers
from espnet_ctx.context.llm import LLM, Decoding
from espnet_ctx.context.prompts import load_prompt

HISTORIES = {f"u{i}": ["word " * i, "end"] for i in range(1, 8)} | {"first": [], "twin": ["word " * 3, "end"]}
DECODING = Decoding(max_new_tokens=4)


class Fake(LLM):
    """Answers with the number of words and the seed; dies at the batch `dies_at`."""

    def __init__(self, dies_at=None):
        self.batches, self.dies_at = [], dies_at

    def answer(self, prompt, previous, decoding):
        if len(self.batches) == self.dies_at:
            raise KeyboardInterrupt
        self.batches.append((list(previous), decoding.seed))
        return [f" {len(text.split())} words, seed {decoding.seed}\nmore" for text in previous]

    def made_with(self):
        return {"device": "none"}


def run(tmp_path, llm, batch_size=3, options=None):
    part = PartFile(tmp_path / "part", options or {"prompt": "topic"})
    return answers(HISTORIES, load_prompt("topic"), lambda: llm, DECODING, batch_size, part)[0]


def test_equal_histories_are_answered_once_and_empty_ones_never(tmp_path):
    llm = Fake()
    result = run(tmp_path, llm)
    asked = [text for batch, _ in llm.batches for text in batch]
    assert len(asked) == len(set(asked)) == 7
    assert result["first"] == ""
    assert result["twin"] == result["u3"]
    assert result["u5"].startswith("6 words, seed ")
    assert [len(text) for text in asked] == sorted(map(len, asked), reverse=True)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_killed_run_redoes_only_what_is_missing(tmp_path, dies_at):
    whole = Fake()
    expected = run(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Fake(dies_at))
    with open(tmp_path / "part", "a") as f:
        f.write('{"half a line')
    rest = Fake()
    assert run(tmp_path, rest) == expected
    assert rest.batches == whole.batches[dies_at:]


def test_finished_part_needs_no_llm(tmp_path):
    expected = run(tmp_path, Fake())
    part = PartFile(tmp_path / "part", {"prompt": "topic"})
    result, made_with = answers(HISTORIES, load_prompt("topic"), lambda: pytest.fail("loaded"), DECODING, 3, part)
    assert (result, made_with) == (expected, {})


def test_part_of_other_options_is_dropped(tmp_path):
    run(tmp_path, Fake())
    again = Fake()
    run(tmp_path, again, options={"prompt": "title"})
    assert len(again.batches) == 3


def test_smaller_batches_after_a_crash_keep_what_is_done(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Fake(dies_at=1))
    rest = Fake()
    run(tmp_path, rest, batch_size=1)
    assert len(rest.batches) == 4


def test_line_separators_inside_answers_survive(tmp_path):
    part = PartFile(tmp_path / "part", {})
    part.read()
    part.append({"a": "x\u2028y\x85z"})
    assert part.read() == {"a": "x\u2028y\x85z"}

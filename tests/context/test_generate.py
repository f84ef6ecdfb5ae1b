"""ask and CleanAnswers: each history once, in fixed batches, resumable, divisible."""

import pytest

from espnet_ctx.context.generate import CleanAnswers, ask, is_repetitive
from espnet_ctx.context.generations import Generations, Setting, merge_parts, part_path
from espnet_ctx.context.llm import LLM, Answer, Decoding
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.context.sessions import Histories

TEXTS = {f"p{i}": "word " * i + "end" for i in range(1, 8)}
PREV = {**{f"u{i}": f"p{i}" for i in range(1, 8)}, "first": None, "twin": "p3"}
HISTORIES = Histories(PREV, TEXTS, PREV, num_prev=1)
DECODING = Decoding(max_new_tokens=4)
PROMPT = load_prompt("topic")
SETTING = Setting.of({"model": "fake", "revision": ""}, PROMPT, DECODING)


class Fake(LLM):
    """Answers with the number of words; dies at the batch `dies_at`."""

    def __init__(self, dies_at=None, batch_size=3):
        self.batches, self.dies_at, self.batch_size = [], dies_at, batch_size

    def answer(self, prompt, previous, decoding):
        previous = list(previous)
        for start in range(0, len(previous), self.batch_size):
            if len(self.batches) == self.dies_at:
                raise KeyboardInterrupt
            self.batches.append(previous[start : start + self.batch_size])
            yield [(text, Answer(f" {len(text.split())} words\nmore", False, 7, 2)) for text in self.batches[-1]]

    def made_with(self):
        return {"device": "none"}


def run(path, llm, **options):
    with Generations(path) as store:
        asked = ask(HISTORIES, PROMPT, DECODING, SETTING, store, lambda: llm, **options)
        assert asked == sum(map(len, llm.batches))


def result(path):
    with Generations(path) as store:
        answers = CleanAnswers(HISTORIES, PROMPT, SETTING, store)
        return dict(answers), answers.counts


def test_equal_histories_are_answered_once_and_empty_ones_never(tmp_path):
    llm = Fake()
    run(tmp_path / "s", llm)
    asked = [text for batch in llm.batches for text in batch]
    assert len(asked) == len(set(asked)) == 7
    assert [len(text) for text in asked] == sorted(map(len, asked), reverse=True)
    texts, counts = result(tmp_path / "s")
    assert texts == {"first": "", "twin": "4 words", **{f"u{i}": f"{i + 1} words" for i in range(1, 8)}}
    assert (counts["first"], counts["answered"], counts["tokens_in"], counts["tokens_out"]) == (1, 8, 56, 16)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_killed_run_redoes_only_what_is_missing_in_the_same_batches(tmp_path, dies_at):
    whole = Fake()
    run(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s", Fake(dies_at))
    rest = Fake()
    run(tmp_path / "s", rest)
    assert rest.batches == whole.batches[dies_at:]
    assert result(tmp_path / "s") == result(tmp_path / "whole")


def test_full_store_needs_no_llm(tmp_path):
    run(tmp_path / "s", Fake())
    with Generations(tmp_path / "s") as store:
        assert ask(HISTORIES, PROMPT, DECODING, SETTING, store, lambda: pytest.fail("loaded")) == 0


@pytest.mark.parametrize("jobs", [1, 3, 5])
def test_shares_are_disjoint_whole_and_merge(tmp_path, jobs):
    store = tmp_path / "s.sqlite"
    asked = []
    for job in range(1, jobs + 1):
        llm = Fake()
        run(part_path(store, job, jobs), llm, shard=(job, jobs))
        asked += [text for batch in llm.batches for text in batch]
    assert sorted(asked) == sorted(TEXTS.values())
    assert merge_parts(store) == 7
    assert merge_parts(store) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"s.sqlite"}
    run(tmp_path / "whole", Fake())
    assert result(store) == result(tmp_path / "whole")


def test_a_share_leaves_out_what_is_known(tmp_path):
    run(tmp_path / "s", Fake())
    with Generations(tmp_path / "s", read_only=True) as known:
        run(tmp_path / "part", Fake(dies_at=0), known=known)


@pytest.mark.parametrize(
    ("text", "repetitive"),
    [
        ("the sea the sea the sea the sea", True),
        ("the sea the sea", False),
        ("ships sail across the sea and back again", False),
    ],
)
def test_is_repetitive(text, repetitive):
    assert is_repetitive(text) == repetitive

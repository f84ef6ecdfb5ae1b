"""The store: what is kept, passed on and merged; trouble with the file."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from espnet_ctx.context import generations
from espnet_ctx.context.generations import Generations, Setting, merge_parts, only_one, part_path
from espnet_ctx.context.llm import Answer, Decoding
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.files import UserError

LLM = {"model": "some/model", "revision": "abc"}
TOPIC = Setting.of(LLM, load_prompt("topic"), Decoding(8))
TITLE = Setting.of(LLM, load_prompt("title"), Decoding(8))
MADE_WITH = {"llm": "exp/llm", "device": "cpu"}
ANSWER = Answer("baking\nbread", True, 5, 3)


@pytest.fixture
def store(tmp_path):
    with Generations(tmp_path / "s.sqlite") as opened:
        opened.add(TOPIC, MADE_WITH, [("flour", ANSWER), ("dough \u2028 ü", Answer("", False, 4, 0))], 2.0)
        opened.add(TITLE, {**MADE_WITH, "device": "gpu"}, [("flour", Answer("Bread", False, 6, 1))], 1.0)
        yield opened


def test_what_is_kept_is_what_comes_back(store):
    assert store.get(TOPIC.key("flour")) == ANSWER
    assert not store.has(TOPIC.key("yeast"))
    with pytest.raises(KeyError):
        store.get(TOPIC.key("yeast"))
    store.add(TOPIC, MADE_WITH, [("flour", Answer("something else", False, 1, 1))], 1.0)
    assert store.get(TOPIC.key("flour")) == ANSWER, "what is there stays"


def test_everything_that_decides_is_in_the_key():
    keys = {
        Setting.of(llm, prompt, decoding).key(text)
        for llm in (LLM, {**LLM, "revision": "def"}, {**LLM, "model": "other"}, {**LLM, "quantization": "4bit"})
        for prompt in (load_prompt("topic"), load_prompt("title"), load_prompt("topic").with_examples(0))
        for decoding in (Decoding(8), Decoding(9), Decoding(8, 0.5), Decoding(8, 0.5, seed=1), Decoding(8, 0.5, 0.9))
        for text in ("flour", "dough")
    }
    assert len(keys) == 4 * 3 * 5 * 2
    renamed = replace(load_prompt("topic"), name="mine", max_words=3, labels=())
    assert Setting.of(LLM, renamed, Decoding(8, seed=5)).key("flour") == TOPIC.key("flour")


def test_stats_makers_and_models(store):
    topic, title = store.stats()
    assert (topic["answers"], topic["truncated"], topic["tokens_in"], topic["tokens_out"]) == (2, 1, 9, 3)
    assert topic["seconds"] == pytest.approx(2.0)
    assert (title["prompt"]["name"], title["llm"]) == ("title", LLM)
    assert store.makers(TITLE) == [{**MADE_WITH, "device": "gpu"}]
    for name in ("some/model", "exp/llm"):
        assert store.models(name, None) == store.models(name, "abc") == [LLM]
    assert store.models("exp/llm", "def") == store.models("none", None) == []


def test_export_and_import_carry_everything(store, tmp_path):
    assert store.export(tmp_path / "a.jsonl") == 3
    with Generations(tmp_path / "other.sqlite") as other:
        assert other.read_lines(tmp_path / "a.jsonl") == 3
        assert other.read_lines(tmp_path / "a.jsonl") == 0
        assert other.export(tmp_path / "b.jsonl") == 3
        assert other.get(TOPIC.key("flour")) == ANSWER
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    line = json.loads((tmp_path / "a.jsonl").read_text().split("\n")[0])
    assert line["setting"]["llm"] == LLM


@pytest.mark.parametrize("change", [{"input": 3}, {"output": None}, {"setting": {"llm": {}}}, {"truncated": "no"}])
def test_import_takes_all_lines_or_none(store, tmp_path, change):
    store.export(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().strip("\n").split("\n")
    lines[1] = json.dumps({**json.loads(lines[1]), **change})
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    with Generations(tmp_path / "other.sqlite") as other:
        with pytest.raises(UserError, match="b.jsonl, line 2: not a generation"):
            other.read_lines(tmp_path / "b.jsonl")
        assert other.stats() == []


def test_import_of_wrong_files(store, tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8"):
        store.read_lines(tmp_path / "a")
    with pytest.raises(UserError, match="no such file"):
        store.read_lines(tmp_path / "b")


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"prompt": "topic"}, 1),
        ({"model": "some/model"}, 0),
        ({"prompt": "topic", "model": "other"}, 3),
        ({"before": "2000-01-01"}, 3),
        ({"before": "9000-01-01"}, 0),
    ],
)
def test_prune(store, options, left):
    assert store.prune(**options) == 3 - left
    assert sum(row["answers"] for row in store.stats()) == left
    assert store.has(TITLE.key("flour")) == (left > 0)


def test_merging_keeps_what_is_there(store, tmp_path):
    with Generations(tmp_path / "other.sqlite") as other:
        other.add(TOPIC, {"device": "tpu"}, [("flour", Answer("no", False, 0, 0)), ("sea", ANSWER)], 1.0)
        assert store.merge(other) == 1
    assert store.get(TOPIC.key("flour")) == ANSWER
    assert store.get(TOPIC.key("sea")) == ANSWER
    assert {"device": "tpu"} in store.makers(TOPIC)


def test_two_processes_write_one_store(tmp_path):
    program = """if True:
        import sys
        from espnet_ctx.context.generations import Generations
        from espnet_ctx.context.llm import Answer
        from tests.context.test_generations import TOPIC
        for i in range(40):
            with Generations(sys.argv[1]) as store:
                store.add(TOPIC, {"job": sys.argv[2]}, [(f"{j} of {i}", Answer("x", False, 1, 1)) for j in range(5)], 1.0)
    """
    jobs = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "s"), name]) for name in "ab"]
    assert [job.wait() for job in jobs] == [0, 0]
    with Generations(tmp_path / "s") as store:
        [row] = store.stats()
    assert row["answers"] == 200


def test_locked_store(store, monkeypatch):
    monkeypatch.setattr(generations, "PATIENCE", 0.1)
    with sqlite3.connect(store.path) as other, Generations(store.path) as opened:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked by another process"):
            opened.add(TOPIC, MADE_WITH, [("late", ANSWER)], 1.0)
        other.rollback()
        opened.add(TOPIC, MADE_WITH, [("late", ANSWER)], 1.0)
        assert opened.has(TOPIC.key("late"))


def test_only_one_at_a_time(tmp_path):
    program = """if True:
        import sys
        from pathlib import Path
        from espnet_ctx.context.generations import only_one
        with only_one(Path(sys.argv[1]), sys.argv[2], wait=False):
            print("in")
    """

    def other(what):
        command = [sys.executable, "-c", program, str(tmp_path / "s"), what]
        return subprocess.run(command, capture_output=True, text=True)

    with only_one(tmp_path / "s", "a"):
        assert "is being written by another process" in other("a").stderr
        assert other("b").stdout == "in\n", "something else may be asked at the same time"
    assert other("a").stdout == "in\n"


def test_part_that_is_being_written_is_not_merged(tmp_path):
    store = tmp_path / "s.sqlite"
    part = part_path(store, 1, 2)
    with Generations(part) as opened:
        opened.add(TOPIC, MADE_WITH, [("flour", ANSWER)], 1.0)
    program = f"""if True:
        import time
        from pathlib import Path
        from espnet_ctx.context.generations import only_one
        with only_one(Path({str(part)!r}), ""):
            print("in", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="part1of2.sqlite is being written"):
            merge_parts(store)
        job.kill()
    assert part.exists()
    assert merge_parts(store) == 1, "the lock goes with its process"


def test_full_disk(store):
    [[pages]] = store._db.execute("PRAGMA page_count")
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [(f"input {i} " * 50, ANSWER) for i in range(500)]
    with pytest.raises(UserError, match="the disk is full: .* keeps what was finished"):
        store.add(TOPIC, MADE_WITH, many, 1.0)
    assert store.get(TOPIC.key("flour")) == ANSWER
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.add(TOPIC, MADE_WITH, many, 1.0)
    assert store.has(TOPIC.key(many[-1][0]))


def test_damaged_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"no database at all, " * 500)
    with pytest.raises(UserError, match="is no store or is damaged .*: move it away"):
        Generations(path)
    assert path.read_bytes() == b"no database at all, " * 500
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE cats (name)")
    with pytest.raises(UserError, match="version 0, not a store"):
        Generations(tmp_path / "other.sqlite")


def test_store_whose_middle_is_overwritten(store):
    store.add(TOPIC, MADE_WITH, [(f"input {i} " * 20, ANSWER) for i in range(500)], 1.0)
    path = store.path
    store.__exit__()
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 4096)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        with Generations(path) as opened:
            opened.export(path.with_suffix(".jsonl"))
    assert not path.with_suffix(".jsonl").exists()


def test_read_only_needs_a_store_and_changes_nothing(store, tmp_path):
    with pytest.raises(UserError, match="no such store"):
        Generations(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    store.__exit__()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with Generations(store.path, read_only=True) as opened:
        assert opened.has(TOPIC.key("flour"))
        with pytest.raises(UserError, match="cannot use the store"):
            opened.add(TOPIC, MADE_WITH, [("new", ANSWER)], 1.0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

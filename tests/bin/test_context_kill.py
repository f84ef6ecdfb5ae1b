"""kill -9 at random moments of generation and embedding: nothing finished is lost, nothing is done twice.

A call of the LLM counts when its answer is stored: there are as many as different inputs, whatever was killed. What
was being answered in the moment of a kill, one batch at most, is asked again; what is stored never is.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from espnet_ctx.bin import embed_context, generate_context
from espnet_ctx.context.generations import Generations
from espnet_ctx.context.transformers_llm import TransformersLLM
from espnet_ctx.files import write_table
from tests.context.checkpoints import TEXTS, make_llm, make_text_encoder

KILLS = 10
BATCH = 4
WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture
def folder(tmp_path):
    rng = random.Random(0)
    utts = [f"u{i:03d}" for i in range(160)]
    different = [" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(110)]
    text = dict(zip(utts, different + rng.choices(different, k=50), strict=True))  # about 30 % said before
    write_table(tmp_path / "data" / "text", text)
    write_table(tmp_path / "data" / "utt2prev", {utt: utts[i - 1] if i % 20 else "-" for i, utt in enumerate(utts)})
    make_llm(tmp_path / "llm")
    make_text_encoder(tmp_path / "bert")
    return tmp_path


def start(main, arguments, calls=None) -> int:
    """Run a command in a process of its own; `calls` gets a line for each request when its batch begins: its input."""
    process = os.fork()
    if process:
        return process
    if calls is not None:
        answer = TransformersLLM._answer

        def counted(self, prompt, batch, decoding):
            with open(calls, "a") as f:
                f.write("".join(f"{json.dumps(text)}\n" for text in batch))
            return answer(self, prompt, batch, decoding)

        TransformersLLM._answer = counted
    status = 1
    try:
        main([str(argument) for argument in arguments])
        status = 0
    finally:
        os._exit(status)


def finish(process) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def kill(process, after) -> bool:
    """Whether the process was killed before it was done."""
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def read_calls(path: Path) -> list[str]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stored(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {text for [text] in database.execute("SELECT input FROM generation")}


def run_and_kill(folder: Path) -> None:
    """An undisturbed run; one that is killed ten times, and after each kill what was asked twice; two at once. Prints
    the numbers of different inputs and of kills of a generation."""

    def generate(out, store=None):
        return ["--data_dir", folder / "data", "--out", folder / out, "--prompt", "topic", "--llm", folder / "llm",
                "--batch_size", BATCH, "--num_prev", 1, "--max_new_tokens", 40,
                "--store", folder / f"{store or out}.sqlite"]  # fmt: skip

    def embed(out):
        return ["--context_text", folder / out / "context_text", "--out", folder / out, "--text_encoder", folder / "bert",
                "--pooling", "tokens", "--batch_size", 1]  # fmt: skip

    begin = time.monotonic()
    finish(start(generate_context.main, generate("whole"), folder / "calls.whole"))
    seconds = time.monotonic() - begin
    asked = read_calls(folder / "calls.whole")
    assert len(asked) == len(set(asked))
    begin = time.monotonic()
    finish(start(embed_context.main, embed("whole")))
    seconds_to_embed = time.monotonic() - begin

    Generations(folder / "killed.sqlite").__exit__()
    rng = random.Random(1)
    kills = 0
    before: set[str] = set()
    for number in range(KILLS):
        calls = folder / f"calls.{number}"
        generation = start(generate_context.main, generate("killed"), calls)
        if number < KILLS / 2:
            kills += kill(generation, rng.uniform(0, 0.6 * seconds))
        else:
            finish(generation)
            kill(start(embed_context.main, embed("killed")), rng.uniform(0, 0.8 * seconds_to_embed))
        begun, now = read_calls(calls), stored(folder / "killed.sqlite")
        assert len(begun) == len(set(begun))
        assert before.isdisjoint(begun), "what is stored is not asked again"
        assert set(begun) >= now - before and len(set(begun) - now) <= BATCH, "all but the last batch is stored"
        before = now
    assert before == set(asked)
    finish(start(embed_context.main, embed("killed")))

    both = [start(generate_context.main, generate(out, "both"), folder / f"calls.{out}") for out in ("first", "second")]
    for process in both:
        finish(process)
    assert sorted(read_calls(folder / "calls.first") + read_calls(folder / "calls.second")) == sorted(asked)
    print(len(asked), kills)


def test_ten_kills_and_two_at_once(folder):
    # in a process that has used no library yet: forks of one that has may wait for locks of threads that are gone
    program = "import sys, pathlib; from tests.bin.test_context_kill import run_and_kill; run_and_kill(pathlib.Path(sys.argv[1]))"
    result = subprocess.run([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    distinct, kills = map(int, result.stdout.split()[-2:])
    assert kills > 0
    for name in ("context_text", "context.1.ark", "context_dim"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    paths = [(folder / out / "context.scp").read_text().replace(f"/{out}/", "/") for out in ("killed", "whole")]
    assert paths[0] == paths[1]
    assert not list((folder / "killed").glob(".*.ark.*.part")), "only small files may be left behind"
    for out in ("first", "second"):
        assert (folder / out / "context_text").read_bytes() == (folder / "whole" / "context_text").read_bytes()
    assert 90 < distinct <= 110, "160 utterances say 110 different things"

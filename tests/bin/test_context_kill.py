"""kill -9 at random moments of generation and embedding: nothing finished is lost, nothing is done twice."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
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
    """Run a command in a process of its own; `calls` gets a line for each request when its batch begins."""
    process = os.fork()
    if process:
        return process
    if calls is not None:
        answer = TransformersLLM._answer

        def counted(self, prompt, previous, decoding):
            with open(calls, "a") as f:
                f.write("".join(f"{len(text)}\n" for text in previous))
            return answer(self, prompt, previous, decoding)

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


def run_and_kill(folder: Path) -> None:
    """An undisturbed run, and one that is killed ten times; prints how many histories differ and how often generation
    was killed."""

    def generate(out):
        return ["--data_dir", folder / "data", "--out", folder / out, "--prompt", "topic", "--llm", folder / "llm",
                "--batch_size", BATCH, "--num_prev", 2, "--max_new_tokens", 40, "--store", folder / f"{out}.sqlite"]  # fmt: skip

    def embed(out):
        return ["--context_text", folder / out / "context_text", "--out", folder / out, "--text_encoder", folder / "bert",
                "--pooling", "tokens", "--batch_size", 1]  # fmt: skip

    begin = time.monotonic()
    finish(start(generate_context.main, generate("whole"), folder / "calls"))
    seconds = time.monotonic() - begin
    distinct = len((folder / "calls").read_text().splitlines())
    (folder / "calls").unlink()
    begin = time.monotonic()
    finish(start(embed_context.main, embed("whole")))
    seconds_to_embed = time.monotonic() - begin

    # what is stored is counted by the database itself
    Generations(folder / "killed.sqlite").__exit__()
    with sqlite3.connect(folder / "killed.sqlite") as database:
        database.execute("CREATE TABLE stored (key)")
        database.execute("CREATE TRIGGER t AFTER INSERT ON generation BEGIN INSERT INTO stored VALUES (new.key); END")
    database.close()
    rng = random.Random(1)
    kills = 0
    for number in range(KILLS):
        if number < KILLS / 2:
            kills += kill(start(generate_context.main, generate("killed"), folder / "calls"), rng.uniform(0, 0.6 * seconds))
        else:
            finish(start(generate_context.main, generate("killed"), folder / "calls"))
            kill(start(embed_context.main, embed("killed")), rng.uniform(0, 0.8 * seconds_to_embed))
    finish(start(embed_context.main, embed("killed")))

    print(distinct, kills)


def test_ten_kills(folder):
    # in a process that has used no library yet: forks of one that has may wait for locks of threads that are gone
    program = "import sys, pathlib; from tests.bin.test_context_kill import run_and_kill; run_and_kill(pathlib.Path(sys.argv[1]))"
    result = subprocess.run([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    distinct, kills = map(int, result.stdout.split()[-2:])
    for name in ("context_text", "context.1.ark", "context_dim"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    paths = [(folder / out / "context.scp").read_text().replace(f"/{out}/", "/") for out in ("killed", "whole")]
    assert paths[0] == paths[1]
    with sqlite3.connect(folder / "killed.sqlite") as database:
        stored = [key for [key] in database.execute("SELECT key FROM stored")]
    assert len(stored) == len(set(stored)) == distinct
    begun = len((folder / "calls").read_text().splitlines())
    assert kills > 0
    assert not list((folder / "killed").glob(".*.part"))
    assert distinct <= begun <= distinct + kills * BATCH, "only what was under way is asked again"

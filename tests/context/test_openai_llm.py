"""The openai backend: against servers that fail, and against `transformers serve`."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from espnet_ctx.bin import generate_context
from espnet_ctx.context.llm import Answer, Decoding, load_llm
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.files import UserError, write_table
from tests.context.faulty_server import FAULTS, FaultyServer

PROMPT = load_prompt("topic")
GREEDY = Decoding(max_new_tokens=6)
PREVIOUS = [f"sentence number {i}" for i in range(30)]
KEY = "sk-very-secret"


def said(body):
    """The last word of the history, as a chat server says it."""
    text = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    number = text.split("sentence number ")[-1].split()[0]
    choice = {"finish_reason": "stop"}
    choice.update({"message": {"content": f"number {number}"}} if "messages" in body else {"text": f" number {number}\nmore"})
    reply = {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
    return 200, json.dumps(reply).encode()


def load(server, **conf):
    options = {"base_url": server.url, "timeout": 0.6, "first_wait": 0.01, **conf}
    return load_llm("openai", "tiny", options)


def answers(llm, previous=PREVIOUS, decoding=GREEDY, prompt=PROMPT):
    pairs = [pair for group in llm.answer(prompt, iter(previous), decoding) for pair in group]
    assert sorted(text for text, _ in pairs) == sorted(previous), "each request once"
    return dict(pairs)


def test_all_answers_arrive_once_through_every_fault():
    with FaultyServer(said=said, faults=FAULTS, most=3, delay=1.5) as server:
        found = answers(load(server))
    assert found == {text: Answer(f"number {i}", False, 9, 2) for i, text in enumerate(PREVIOUS)}
    assert set(server.met) == {None, *FAULTS}
    assert len(server.requests) == len(PREVIOUS) + sum(fault is not None for fault in server.met)


def test_concurrency_is_bounded_and_requests_are_taken_when_needed():
    taken = []

    def slow(body):
        time.sleep(0.05)
        return said(body)

    with FaultyServer(said=slow) as server:
        running = load(server, batch_size=4).answer(PROMPT, (taken.append(t) or t for t in PREVIOUS), GREEDY)
        next(running)
        assert len(taken) == 4
        assert sum(len(group) for group in running) >= len(PREVIOUS) - 4
    assert 2 <= server.most_at_once <= 4


def test_rate_limit():
    with FaultyServer(said=said) as server:
        answers(load(server, requests_per_minute=1200), PREVIOUS[:8])
    times = [at for at, _, _ in server.requests]
    assert max(times) - min(times) > 7 * 0.05 * 0.9


def test_what_is_sent(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FaultyServer(said=said) as server:
        answers(load(server), PREVIOUS[:1])
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        sampled = Decoding(6, temperature=0.5, top_p=0.9, seed=3)
        found = answers(load(server, api="completions"), PREVIOUS[:1], sampled)
    (_, no_key, chat), (_, with_key, completion) = server.requests
    assert "Authorization" not in no_key
    assert with_key["Authorization"] == f"Bearer {KEY}"
    turn = {"role": "user", "content": PROMPT.instruct.render(PREVIOUS[0])}
    assert chat == {"model": "tiny", "max_tokens": 6, "temperature": 0.0, "messages": [turn]}
    assert completion["prompt"] == PROMPT.base.render(PREVIOUS[0], PROMPT.examples)
    assert (completion["stop"], completion["top_p"]) == (["\n"], 0.9)
    assert completion["seed"] == sampled.seed_of(PREVIOUS[0])
    assert found[PREVIOUS[0]].text == " number 0"


def test_the_key_is_written_nowhere(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    write_table(tmp_path / "data" / "text", {"a": PREVIOUS[0], "b": PREVIOUS[1]})
    write_table(tmp_path / "data" / "utt2prev", {"a": "-", "b": "a"})
    command = ["--data_dir", str(tmp_path / "data"), "--prompt", "topic", "--llm", "tiny", "--llm_backend", "openai"]
    command += ["--out", str(tmp_path / "out")]

    def rude(body):
        return 401, json.dumps({"error": f"wrong key {KEY}"}).encode()

    with FaultyServer(said=said, faults=["500"], most=1) as good, FaultyServer(said=rude) as bad:
        with pytest.raises(UserError, match=r"status 401.*\*\*\*.*OPENAI_API_KEY") as error:
            generate_context.main([*command, "--llm_conf", f"base_url={bad.url}"])
        generate_context.main([*command, "--llm_conf", f"base_url={good.url}", "--llm_conf", "first_wait=0.01"])
    assert (tmp_path / "out" / "context_text").read_text() == "a\nb number 0\n"
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert KEY.encode() not in written
    assert KEY not in caplog.text + str(error.value)


def test_a_server_that_never_gets_well():
    with FaultyServer(said=lambda body: (503, b"busy")) as server:
        llm = load(server, tries=3)
        with pytest.raises(UserError, match="no answer in 3 tries, the last: status 503: busy"):
            answers(llm, PREVIOUS[:1])
        assert len(server.requests) == 3


def test_what_was_finished_before_an_error_is_kept():
    def moody(body):
        status, content = said(body)
        return (400, b"too long") if b"number 7" in content else (status, content)

    found = []
    with FaultyServer(said=moody) as server:
        with pytest.raises(UserError, match="refuses: status 400: too long.*--max_prev_tokens"):
            for group in load(server, batch_size=4).answer(PROMPT, PREVIOUS, GREEDY):
                found += [text for text, _ in group]
    assert len(found) == len(server.requests) - 1, "all that was under way"
    assert PREVIOUS[0] in found
    assert PREVIOUS[7] not in found


@pytest.mark.parametrize("content", [b"[]", b'{"choices": []}', b'{"choices": [{"message": {}}]}', b"3"])
def test_replies_of_another_form(content):
    with FaultyServer(said=lambda body: (200, content)) as server:
        with pytest.raises(UserError, match="sent no answer in the form of chat/completions"):
            answers(load(server), PREVIOUS[:1])


def test_no_server_and_wrong_options(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for conf, message in (
        ({}, "needs the server's address"),
        ({"base_url": "localhost:8000"}, "needs the server's address"),
        ({"base_url": "http://me:secret@x/v1"}, "base_url holds a password, which logs would show: put a key into"),
        ({"base_url": "http://x/v1", "api": "images"}, "must be one of chat, completions"),
        ({"base_url": "http://x/v1", "requests_per_minute": 0}, "requests_per_minute=0"),
        ({"base_url": "http://x/v1", "tries": 0}, "tries=0"),
    ):
        with pytest.raises(UserError, match=message):
            load_llm("openai", "tiny", conf)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    llm = load_llm("openai", "tiny", {"base_url": url, "tries": 2, "first_wait": 0.01})
    with pytest.raises(UserError, match="no answer in 2 tries, the last: ConnectError"):
        answers(llm, PREVIOUS[:1])


@pytest.mark.slow
def test_transformers_serve_says_what_the_transformers_backend_says(tmp_path):
    # imported here: the other tests need neither torch nor transformers
    from tests.context.checkpoints import CHAT, TEXTS, make_llm

    folder = str(make_llm(tmp_path / "llm", window=400, chat_template=CHAT))
    previous, decoding = (
        [" ".join(f"{TEXTS[0]} {TEXTS[1]}".split()[i % 7 : i]) for i in range(7, 17)] + TEXTS[:2],
        Decoding(max_new_tokens=24),
    )
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder, "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen([*command, "--host", "127.0.0.1", "--device", "cpu"], env=environment) as process:
        try:
            upstream = f"http://127.0.0.1:{port}"
            _wait_for(f"{upstream}/health", process)
            expected = answers(load_llm("transformers", folder, {}), previous, decoding)
            assert len({answer.text for answer in expected.values()}) > 10, "equal answers would show nothing"
            with FaultyServer(upstream, faults=FAULTS, delay=11.0, seed=6) as proxy:
                llm = load_llm("openai", folder, {"base_url": proxy.url, "timeout": 10.0, "first_wait": 0.01})
                found = answers(llm, previous, decoding)
        finally:
            process.terminate()
    assert {text: a.text for text, a in found.items()} == {text: a.text for text, a in expected.items()}
    assert {"429", "500", "timeout", "disconnect"} <= set(proxy.met)


def _wait_for(url, process, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no answer from {url} in {seconds} seconds")

"""Context that is made while a session goes on is that of stages 6 and 7."""

import json

import numpy as np
import pytest

from espnet_ctx.bin import embed_context, generate_context
from espnet_ctx.context import online
from espnet_ctx.context.online import OnlineContext
from espnet_ctx.context.store import ContextArchive
from espnet_ctx.files import UserError, write_table
from tests.context.checkpoints import make_llm, make_text_encoder

TEXT = {
    "a": "the baker kneaded the dough",
    "b": "with flour",
    "c": "and yeast",
    "d": "the captain",
}
HISTORIES = {"a": [], "b": [TEXT["a"]], "c": [TEXT["a"], TEXT["b"]], "d": [TEXT["b"], TEXT["c"]]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(prompt)`: folder of an archive that looks back two utterances, and the folder of the LLM."""
    bert, llm = make_text_encoder(tmp_path_factory.mktemp("bert")), make_llm(tmp_path_factory.mktemp("llm"))
    data = tmp_path_factory.mktemp("data")
    write_table(data / "text", TEXT)
    write_table(data / "utt2prev", {"a": "-", "b": "a", "c": "b", "d": "c"})

    def get(prompt):
        out = tmp_path_factory.mktemp(prompt)
        asked = [] if prompt == "previous" else ["--llm", str(llm), "--num_shots", "0", "--store", str(out / "store.sqlite")]
        generate_context.main(
            ["--data_dir", str(data), "--out", str(out), "--prompt", prompt, "--num_prev", "2", *asked]
        )
        embed_context.main(
            ["--context_text", str(out / "context_text"), "--out", str(out), "--text_encoder", str(bert), "--pooling", "mean"]
        )
        return out, llm

    return get


@pytest.mark.parametrize("prompt", ["previous", "topic"])
def test_what_is_fed_is_what_the_archive_holds(made, tmp_path, prompt):
    out, _ = made(prompt)
    context = OnlineContext.like(out / "context.json", kept=tmp_path / "new.sqlite")
    archive = ContextArchive(out / "context.scp")
    assert context.num_prev == 2
    together = context(list(HISTORIES.values()))
    for utt, matrix in zip(HISTORIES, together, strict=True):
        [alone] = context([HISTORIES[utt]])
        assert np.abs(matrix - archive[utt]).max() < 1e-5 and np.abs(alone - matrix).max() < 1e-5
    assert not together[0].any() and together[1].any()  # the first of a session has none


def test_an_llm_is_asked_once_and_the_store_alone_knows_what_was_asked(made, tmp_path, monkeypatch):
    out, llm = made("topic")
    asked = []
    load = online.load_llm
    monkeypatch.setattr(online, "load_llm", lambda *args: asked.append(args) or load(*args))
    context = OnlineContext.like(out / "context.json")  # with the store of the archive
    context([HISTORIES["b"]])
    assert asked == []
    context([["something new"], ["something new"]])
    context([["something new"]])
    assert len(asked) == 1
    stored = OnlineContext.like(out / "context.json", llm_backend="store")
    assert stored([["something new"]])[0].any()
    with pytest.raises(UserError, match="lacks the answer to what was just said and --llm_backend store asks no LLM"):
        stored([["something newer"]])


def test_another_model_or_prompt_than_the_recorded_one_is_refused(made, tmp_path):
    out, llm = made("topic")
    record = json.loads((out / "context.json").read_text())

    def changed(section, key, value):
        other = json.loads(json.dumps(record))
        other[section]["options"][key] = value
        path = tmp_path / f"{key}_{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(other))
        return path

    for path, message in (
        (tmp_path / "gone.json", "no such file: .*gone.json"),
        (changed("embedding", "text_encoder_version", "sha256:0"), "another version of the text encoder"),
        (changed("generation", "prompt_sha256", "0"), "another version of the prompt 'topic'"),
        (changed("generation", "prompt", "mine"), "the prompt 'mine' is none of the package's"),
    ):
        with pytest.raises(UserError, match=message):
            OnlineContext.like(path)
    path = changed("generation", "llm", {"model": "sha256:0", "revision": ""})
    with pytest.raises(UserError, match=r"was made by the LLM .*sha256:0.*\(option --llm\)"):
        OnlineContext.like(path)

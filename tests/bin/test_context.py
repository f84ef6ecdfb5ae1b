"""generate_context and embed_context: from a data directory to an archive, and what a second run does."""

import json
import os

import numpy as np
import pytest
import yaml

from espnet_ctx.bin import embed_context, generate_context
from espnet_ctx.context.prompts import FOLDER
from espnet_ctx.context.store import ContextArchive
from espnet_ctx.context.text_encoder import TextEncoder
from espnet_ctx.context.transformers_llm import TransformersLLM
from espnet_ctx.files import UserError, read_table, write_table
from tests.context.checkpoints import make_llm, make_text_encoder

TEXT = {
    "a": "the baker kneaded the dough",
    "b": "with flour",
    "c": "and yeast",
    "d": "the captain",
    "e": "past the quay",
}
UTT2PREV = {"a": "-", "b": "a", "c": "b", "d": "-", "e": "d"}


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return make_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_text_encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def data(tmp_path):
    write_table(tmp_path / "data" / "text", TEXT)
    write_table(tmp_path / "data" / "utt2prev", UTT2PREV)
    return tmp_path / "data"


def generate(data, out, *options):
    generate_context.main(["--data_dir", str(data), "--out", str(out), "--batch_size", "2", *options])
    return read_table(out / "context_text")


def embed(out, bert, *options):
    embed_context.main(
        ["--context_text", str(out / "context_text"), "--out", str(out), "--text_encoder", str(bert)]
        + ["--pooling", "mean", *options]
    )


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def age(folder):
    """Make every file old, so that one written anew shows."""
    for path in folder.iterdir():
        os.utime(path, ns=(0, 0))


def test_previous_joins_the_texts(data, tmp_path):
    out = tmp_path / "out"
    texts = generate(data, out, "--prompt", "previous", "--num_prev", "2")
    assert texts == {"a": "", "b": TEXT["a"], "c": f"{TEXT['a']} with flour", "d": "", "e": "the captain"}
    assert json.loads((out / "context.json").read_text())["generation"]["options"]["prompt"] == "previous"
    age(out)
    before = stamps(out)
    generate(data, out, "--prompt", "previous", "--num_prev", "2")
    assert stamps(out) == before
    assert generate(data, out, "--prompt", "previous", "--num_prev", "1")["c"] == "with flour"


def test_from_data_to_archive_and_again(data, tmp_path, llm, bert, monkeypatch):
    out = tmp_path / "out"
    texts = generate(data, out, "--prompt", "topic", "--num_prev", "2", "--llm", str(llm))
    assert (texts["a"], texts["d"]) == ("", "")
    assert all(texts[utt] for utt in "bce")
    embed(out, bert)
    assert sorted(path.name for path in out.iterdir()) == [
        "context.1.ark", "context.json", "context.scp", "context_dim", "context_text",
    ]  # fmt: skip
    archive = ContextArchive(out / "context.scp", dim=16)
    np.testing.assert_array_equal(archive["a"], np.zeros((1, 16)))
    alone = dict(TextEncoder(bert, "mean", 64).encode([texts["b"]], 1))[texts["b"]]
    np.testing.assert_allclose(archive["b"], alone, atol=1e-5)

    record = json.loads((out / "context.json").read_text())
    made = record["generation"]
    assert made["options"]["llm_version"].startswith("sha256:")
    assert made["options"]["decoding"] == {"max_new_tokens": 24, "temperature": 0.0}
    assert made["made_with"]["llm"] == str(llm)
    assert {"torch", "transformers", "device", "dtype"} <= made["made_with"].keys()
    assert record["embedding"]["made_with"]["text_encoder"] == str(bert)

    # a second run loads nothing and writes nothing
    monkeypatch.setattr(TransformersLLM, "__init__", lambda *_: pytest.fail("LLM loaded"))
    monkeypatch.setattr(TextEncoder, "__init__", lambda *_: pytest.fail("text encoder loaded"))
    age(out)
    before = stamps(out)
    generate(data, out, "--prompt", "topic", "--num_prev", "2", "--llm", str(llm))
    embed(out, bert)
    assert stamps(out) == before


def test_other_options_redo(data, tmp_path, llm, bert):
    out = tmp_path / "out"
    common = ("--llm", str(llm), "--num_prev", "2", "--max_new_tokens", "8")
    topic = generate(data, out, "--prompt", "topic", *common)
    embed(out, bert)
    own = tmp_path / "own.yaml"
    tree = yaml.safe_load((FOLDER / "topic.yaml").read_text())
    tree["base"]["template"] = "{previous}\n\nQuestion:"
    own.write_text(yaml.safe_dump(tree))
    assert generate(data, out, "--prompt", str(own), *common) != topic
    age(out)
    embed(out, bert)
    assert stamps(out)["context.1.ark"] > 0, "the archive of the old texts is stale"
    age(out)
    embed(out, bert, "--dtype", "float16")
    assert stamps(out)["context.1.ark"] > 0
    write_table(data / "text", {**TEXT, "b": "with the sail"})
    assert generate(data, out, "--prompt", "topic", *common) != topic


def test_edited_context_text_is_redone(data, tmp_path):
    out = tmp_path / "out"
    texts = generate(data, out, "--prompt", "previous")
    (out / "context_text").write_text("a edited\n")
    assert generate(data, out, "--prompt", "previous") == texts


def test_killed_generation_goes_on(data, tmp_path, llm, monkeypatch):
    options = (
        "--prompt",
        "topic",
        "--num_prev",
        "2",
        "--llm",
        str(llm),
        "--batch_size",
        "1",
        "--max_new_tokens",
        "8",
    )
    whole = generate(data, tmp_path / "whole", *options)
    answer, calls = TransformersLLM.answer, []

    def dies_once(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(self, *args)

    monkeypatch.setattr(TransformersLLM, "answer", dies_once)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        generate(data, out, *options)
    assert not (out / "context_text").exists()
    assert generate(data, out, *options) == whole
    assert len(calls) == 4, "three histories, one of them twice"
    assert not (out / "context_text.part").exists()


def test_archive_in_another_folder_keeps_the_record_of_the_texts(data, tmp_path, bert):
    generate(data, tmp_path / "texts", "--prompt", "previous")
    out = tmp_path / "archive"
    embed_context.main(
        ["--context_text", str(tmp_path / "texts" / "context_text"), "--out", str(out)]
        + ["--text_encoder", str(bert), "--pooling", "tokens", "--max_tokens", "20"]
    )
    assert json.loads((out / "context.json").read_text())["generation"]["options"]["prompt"] == "previous"
    assert ContextArchive(out / "context.scp")["b"].shape == (7, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "tropic", "--llm", "x"), "--prompt is 'tropic'"),
        (("--prompt", "topic"), "--prompt topic needs --llm"),
        (("--prompt", "topic", "--llm", "no/such-model"), "'no/such-model' is neither"),
        (("--prompt", "previous", "--num_prev", "0"), "num_prev is 0"),
        (("--prompt", "previous", "--batch_size", "0"), "--batch_size is 0"),
    ],
)
def test_wrong_options(data, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        generate(data, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_cycle(data, tmp_path):
    write_table(data / "utt2prev", {**UTT2PREV, "a": "c"})
    with pytest.raises(UserError, match="cycle"):
        generate(data, tmp_path / "out", "--prompt", "previous")


def test_unknown_text_encoder(data, tmp_path):
    generate(data, tmp_path / "out", "--prompt", "previous")
    with pytest.raises(UserError, match="'no/such-encoder' is neither"):
        embed(tmp_path / "out", "no/such-encoder")

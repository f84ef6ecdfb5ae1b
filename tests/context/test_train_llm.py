"""local/train_llm.py: what the tiny LLM learns, and that its folder appears whole."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from espnet_ctx.context.llm import Decoding
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.context.transformers_llm import TransformersLLM
from espnet_ctx.files import UserError, read_table, write_table

LOCAL = Path(__file__).resolve().parents[2] / "local"
sys.path.insert(0, str(LOCAL))

import topic_accuracy  # noqa: E402
import train_llm  # noqa: E402

WORDS = {"sea": ["sail quay mast", "quay mast sail"], "bread": ["flour dough", "dough yeast flour"]}
PHRASES = {topic: {key: f"about {topic}" for key in ("topic", "title", "question")} for topic in WORDS}


@pytest.fixture
def data(tmp_path):
    """Eight talks of six sentences; the opening tells nothing."""
    text, utt2prev, utt2topic = {}, {}, {}
    for talk in range(8):
        topic = sorted(WORDS)[talk % 2]
        for number in range(6):
            utt = f"t{talk}-{number}"
            text[utt] = WORDS[topic][number % 2] if number else "good morning"
            utt2prev[utt] = f"t{talk}-{number - 1}" if number else "-"
            utt2topic[utt] = topic
    for name, table in (("text", text), ("utt2prev", utt2prev), ("utt2topic", utt2topic)):
        write_table(tmp_path / "data" / name, table)
    (tmp_path / "phrases.yaml").write_text(yaml.safe_dump(PHRASES))
    return tmp_path / "data"


def train(data, *options):
    out = data.parent / "llm"
    phrases = data.parent / "phrases.yaml"
    train_llm.main(["--data", str(data), "--out", str(out), "--phrases", str(phrases), *options])
    return out


def test_exercises_use_the_prompts_and_abstain_where_nothing_is_told(data):
    exercises = train_llm.read_exercises(data, PHRASES)
    assert [len(exercises[n]) for n in (1, 2, 3, 4)] == [40, 32, 24, 16]
    opening = dict(exercises[1][0])
    assert opening["good morning\n\nTopic:"] == ""
    assert opening["good morning\n\nNext sentence:"] == "dough yeast flour"
    later = dict(exercises[2][0])
    question = load_prompt("topic").base.render("good morning\ndough yeast flour")
    assert later[question] == "about bread"


def test_it_learns_the_topics(data):
    out = train(data, "--updates", "40", "--vocab_size", "300")
    llm = TransformersLLM(out)
    prompt = load_prompt("topic")
    [answered] = llm.answer(prompt.with_examples(0), ["sail quay mast", "dough yeast flour"], Decoding(24))
    assert [prompt.clean(answer.text) for _, answer in answered] == ["about sea", "about bread"]
    assert not [path for path in out.parent.iterdir() if path.name.endswith(".part")]


def test_second_run_keeps_and_new_texts_redo(data, capsys):
    options = ("--updates", "1", "--vocab_size", "257", "--num_layers", "1", "--width", "64")
    out = train(data, *options)
    config = json.loads((out / "config.json").read_text())
    assert (config["n_layer"], config["n_embd"], config["n_head"]) == (1, 64, 2)
    weights = (out / "model.safetensors").read_bytes()
    assert "kept" not in capsys.readouterr().out
    train(data, *options)
    assert "kept" in capsys.readouterr().out
    train(data, *options, "--seed", "1")
    assert (out / "model.safetensors").read_bytes() != weights
    train(data, *options)
    assert (out / "model.safetensors").read_bytes() == weights, "the seed decides everything"
    write_table(data / "text", {**read_table(data / "text"), "t0-5": "the flour again"})
    train(data, *options)
    assert "kept" not in capsys.readouterr().out


def test_failed_training_keeps_the_old_folder(data, monkeypatch):
    out = train(data, "--updates", "1", "--vocab_size", "257")
    from mini_talks import tiny_llm

    def dies(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny_llm, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        train(data, "--updates", "2", "--vocab_size", "257")
    assert (out / "model.safetensors").is_file()
    assert sorted(path.name for path in out.parent.iterdir()) == ["data", "llm", "phrases.yaml"]


def test_errors(data):
    with pytest.raises(UserError, match="--updates is 0"):
        train(data, "--updates", "0")
    with pytest.raises(UserError, match="--vocab_size is 10"):
        train(data, "--vocab_size", "10")
    with pytest.raises(UserError, match="--num_layers is 0"):
        train(data, "--num_layers", "0")
    with pytest.raises(UserError, match="--width is 100: must be a multiple of 32"):
        train(data, "--width", "100")
    (data.parent / "phrases.yaml").write_text(yaml.safe_dump({"sea": PHRASES["sea"]}))
    with pytest.raises(UserError, match="phrases.* has nothing for 'bread'"):
        train(data)
    write_table(data / "utt2topic", {"t0-0": "sea"})
    with pytest.raises(UserError, match="utt2topic has nothing for 't0-1'"):
        train(data)


def test_topic_accuracy(data, tmp_path, capsys):
    answers = dict.fromkeys(read_table(data / "text"), "about sea")
    answers.update({f"t{talk}-1": "" for talk in range(8)})
    write_table(tmp_path / "context_text", answers)
    phrases = str(tmp_path / "phrases.yaml")
    topic_accuracy.main(["--data", str(data), "--context_text", str(tmp_path / "context_text"), "--phrases", phrases])
    assert "40 utterances with a history: right 16 (40.0%), empty 8 (20.0%), wrong 16 (40.0%)" in capsys.readouterr().out

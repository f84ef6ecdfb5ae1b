"""context report, stats and prune."""

import json

import pytest

from espnet_ctx.bin import context, generate_context
from espnet_ctx.files import UserError, read_table, write_table
from tests.context.checkpoints import make_llm, make_text_encoder

SENTENCES = ["the baker kneaded the dough", "with flour and yeast", "the captain steered", "past the quay the sail"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = folder / "data" / "valid"
    utts = [f"u{i:02d}" for i in range(24)]
    write_table(data / "text", {utt: f"{SENTENCES[i % 4]} {i}" for i, utt in enumerate(utts)})
    write_table(data / "utt2prev", {utt: utts[i - 1] if i % 6 else "-" for i, utt in enumerate(utts)})
    options = ["--data_dir", str(data), "--llm", str(make_llm(folder / "llm")), "--max_new_tokens", "8"]
    options += ["--store", str(folder / "s.sqlite")]
    for prompt in ("topic", "question"):
        generate_context.main([*options, "--out", str(folder / prompt / "valid"), "--prompt", prompt])
    generate_context.main([*options, "--out", str(folder / "previous" / "valid"), "--prompt", "previous"])
    make_text_encoder(folder / "bert")
    return folder


def test_report(made, tmp_path):
    # a context that gives the utterance away
    (made / "oracle" / "valid").mkdir(parents=True, exist_ok=True)
    write_table(made / "oracle" / "valid" / "context_text", read_table(made / "data" / "valid" / "text"))
    folders = [str(made / name / "valid") for name in ("topic", "question", "previous", "oracle")]
    command = ["report", "--data_dir", str(made / "data" / "valid"), "--text_encoder", str(made / "bert"), "--out", str(tmp_path)]
    context.main([*command, "--utterances", "2400", "--price_in", "1", "--price_out", "2", "--context", *folders])
    topic, question, previous, oracle = json.loads((tmp_path / "report.json").read_text())
    assert (topic["context"], question["context"]) == ("topic", "question")
    assert topic["with_context"] + round(topic["empty"] * 20) == 20
    assert topic["cost"] == pytest.approx(2000 * (topic["tokens_in"] + 2 * topic["tokens_out"]) / 1e6)
    assert topic["tokens_per_second"] > 0
    assert topic["hours"] > 0
    assert topic["own_text"] == previous["own_text"] == 0.0
    assert oracle["own_text"] == 0.75, "a quarter are too short to tell"
    assert oracle["auc"] > 0.85
    assert oracle["rare_recall"] == 1.0
    assert oracle["rare_words"] == 96, "all but `the`"
    assert "empty" not in previous
    table = (tmp_path / "report.md").read_text()
    assert table.count("\n|") == 6
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_report_of_another_set(made, tmp_path):
    write_table(tmp_path / "text", {"x": "y"})
    write_table(tmp_path / "utt2prev", {"x": "-"})
    command = ["report", "--data_dir", str(tmp_path), "--text_encoder", str(made / "bert"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="must have the same utterances"):
        context.main([*command, "--context", str(made / "topic" / "valid")])


def test_stats_and_prune(made, tmp_path, capsys):
    store = ("--store", str(made / "s.sqlite"))
    context.main(["stats", *store])
    table = capsys.readouterr().out
    assert "|topic|max_new_tokens=8 temperature=0.0|20|" in table
    copy = ("--store", str(tmp_path / "copy.sqlite"))
    context.main(["export", *store, "--jsonl", str(tmp_path / "g.jsonl")])
    context.main(["import", *copy, "--jsonl", str(tmp_path / "g.jsonl")])
    context.main(["prune", *copy, "--prompt", "topic"])
    assert "20 generations deleted" in capsys.readouterr().out
    context.main(["stats", *copy])
    assert "|topic|" not in capsys.readouterr().out
    with pytest.raises(UserError, match="prune needs"):
        context.main(["prune", *copy])
    with pytest.raises(UserError, match="--before is 'today'"):
        context.main(["prune", *copy, "--before", "today"])
    with pytest.raises(UserError, match="no such store"):
        context.main(["prune", "--store", str(tmp_path / "none"), "--prompt", "topic"])

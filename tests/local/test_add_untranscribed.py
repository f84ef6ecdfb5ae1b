"""Untranscribed talks beside transcribed ones in one training set."""

import importlib.util
from pathlib import Path

import pytest

from espnet_ctx.bin import check_data
from espnet_ctx.data_dir import read_data_dir, write_data_dir
from espnet_ctx.files import UserError, read_table, write_table

ROOT = Path(__file__).resolve().parents[2]


def tables(*utts):
    text = {utt: f"said in {utt}" for utt in utts}
    prev = dict(zip(utts, ("-", *utts)))
    return {"wav.scp": {u: f"{u}.wav" for u in utts}, "text": text, "utt2spk": {u: u[0] for u in utts}, "utt2prev": prev}


@pytest.fixture
def add(tmp_path):
    spec = importlib.util.spec_from_file_location("add_untranscribed", ROOT / "local/add_untranscribed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write_data_dir(tmp_path / "train", {**tables("a1", "a2"), "utt2topic": {"a1": "sea", "a2": "sea"}})
    write_data_dir(tmp_path / "more", tables("b1", "b2", "b3"))
    (tmp_path / "more/text").unlink()

    def run(heard, more="more"):
        write_table(tmp_path / "text", heard)
        options = {"--data": "train", "--untranscribed": more, "--text": "text", "--out": "out"}
        module.main([part for option, name in options.items() for part in (option, str(tmp_path / name))])
        return tmp_path / "out"

    return run


def test_both_are_there_and_told_apart(add):
    out = add({"b1": "heard one", "b2": "heard two", "b3": "heard three"})
    check_data.main([str(out)])
    found = read_data_dir(out)
    assert found["text"] == {**tables("a1", "a2")["text"], "b1": "heard one", "b2": "heard two", "b3": "heard three"}
    assert found["utt2transcribed"] == {"a1": "1", "a2": "1", "b1": "0", "b2": "0", "b3": "0"}
    assert found["utt2prev"] == {"a1": "-", "a2": "a1", "b1": "-", "b2": "b1", "b3": "b2"}
    assert read_table(out / "spk2utt") == {"a": "a1 a2", "b": "b1 b2 b3"}


def test_what_was_not_decoded_or_is_there_already_is_named(add):
    with pytest.raises(UserError, match="lacks 2 utterances of .*more, e.g. b2: decode all"):
        add({"b1": "heard one"})
    with pytest.raises(UserError, match="a1 is in .*train and in .*train: ids must differ"):
        add({"a1": "x", "a2": "y"}, "train")

"""The oracle's context goes on through stages 7 and 10 as an LLM's does."""

import subprocess
import sys
from pathlib import Path

import kaldiio
import pytest

from espnet_ctx.bin import context, embed_context
from espnet_ctx.files import UserError, write_table
from tests.context.checkpoints import make_text_encoder

SCRIPT = Path(__file__).resolve().parents[2] / "local" / "oracle_context.py"


def oracle(folder, topics) -> subprocess.CompletedProcess:
    write_table(folder / "data/utt2topic", topics)
    command = [sys.executable, str(SCRIPT), "--data", str(folder / "data"), "--out", str(folder / "context")]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_utterance_gets_its_topic_and_the_archive_is_accepted(tmp_path):
    done = oracle(tmp_path, {"a-1": "baking", "a-2": "baking", "b-1": "sailing"})
    assert done.returncode == 0, done.stderr
    made = tmp_path / "context"
    with pytest.raises(UserError, match="no section 'embedding'"):
        context.main(["check", "--context", str(made)])
    bert, text = tmp_path / "bert", made / "context_text"
    make_text_encoder(bert)
    embed_context.main(["--context_text", str(text), "--out", str(made), "--text_encoder", str(bert), "--pooling", "mean"])
    context.main(["check", "--context", str(made)])
    rows = kaldiio.load_scp(str(made / "context.scp"))
    assert (rows["a-1"] == rows["a-2"]).all() and not (rows["a-1"] == rows["b-1"]).all()


def test_an_unknown_topic_is_named(tmp_path):
    done = oracle(tmp_path, {"a-1": "chess"})
    assert done.returncode != 0 and "no phrase for chess" in done.stderr

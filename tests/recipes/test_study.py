"""ctx_study through ctx.sh's stages on a tiny recipe, killed in the middle of a training and taken up again."""

import os
import signal
import subprocess
import time

import pytest
import yaml

from tests.recipes.tiny import Recipe, make_llm

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]


@pytest.fixture
def recipe(tmp_path, upstream_dir):
    recipe = Recipe(tmp_path, upstream_dir())
    ctx, *options = recipe.command("--asr_config", "conf/train.yaml")
    study = {
        "run": " ".join([ctx, *options]),
        "train_set": "train",
        "valid_set": "valid",
        "test_sets": "test",
        "llms": {"tiny": {"llm": str(make_llm(tmp_path / "llms" / "tiny")), "options": "--num_shots 0"}},
        "grid": {"system": ["aware"], "llm": ["tiny"], "num_prev": [2], "data": [0.5]},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return recipe


def start(recipe):
    command = 'cd "$0" && . ./path.sh && exec python3 -m espnet_ctx.bin.ctx_study --config study.yaml --nj 2'
    return subprocess.Popen(
        ["bash", "-c", command, str(recipe.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_killed_study_is_finished_by_the_same_command(recipe):
    base = recipe.folder / "exp/study/seed1_data50/asr_base"
    process = start(recipe)
    deadline = time.monotonic() + 900
    while not (base / "train.log").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (base / "valid.loss.ave.pth").exists()

    process = start(recipe)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert " data is done" not in said, "it was done before the kill"
    assert "seed1_data50.aware_topic_n2_tiny_mean_a0.5 is done" in said
    table = [line.split("|")[1:-1] for line in said.splitlines() if line.startswith("|")]
    assert table[0] == ["system", "seeds", "WER", "CER", "against none"]
    assert [row[:2] for row in table[2:4]] == [["none", "1"], ["aware", "1"]]
    assert "training utterances 8" in said and "AUC 0." in said
    config = yaml.safe_load((base.parent / "asr_aware_topic_n2_tiny_mean_a0.5/config.yaml").read_text())
    assert config["init_param"] == ["exp/study/seed1_data50/asr_base/valid.loss.ave.pth"]
    assert config["model_conf"]["alpha"] == 0.5

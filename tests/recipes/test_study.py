"""ctx_study through the stages of ctx.sh on a tiny recipe, killed in the middle of a training and taken up again.

What loads a model is a stand-in here: the study and the stages are what is tested.
"""

import os
import signal
import subprocess
import time

import pytest
import yaml

from espnet_ctx.files import read_table
from tests.recipes import stub_python
from tests.recipes.tiny import SETS, Recipe

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(900)]


@pytest.fixture
def recipe(tmp_path):
    recipe = Recipe(tmp_path, "")
    stub_python.put_in(recipe)
    study = {
        "run": " ".join(recipe.command()).replace("--upstream ", ""),
        "train_set": "train",
        "valid_set": "valid",
        "test_sets": "test",
        "llms": {"tiny": {"options": "--num_shots 0", "parameters": 1000}},
        "grid": {"system": ["generated", "aware"], "llm": ["tiny"], "num_prev": [2], "data": [0.5]},
        "finetune": "--asr_args '--max_epoch 2'",
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return recipe


def start(recipe):
    command = ". ./path.sh && exec python3 -m espnet_ctx.bin.ctx_study --config study.yaml --nj 2"
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=recipe.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_killed_study_is_finished_by_the_same_command(recipe):
    base = recipe.folder / "exp/study/seed1_data50/asr_base"
    (recipe.folder / "slow").touch()
    process = start(recipe)
    try:
        while not (base / "train.log").exists():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (base / "valid.loss.ave.pth").exists()
    (recipe.folder / "slow").unlink()

    process = start(recipe)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert " data is done" not in said, "it was done before the kill"
    table = [line.split("|")[1:-1] for line in said.splitlines() if line.startswith("|")]
    assert table[0][0] == "system" and table[0][-1] == "against none"
    assert [row[0] for row in table[2:5]] == ["none", "generated", "aware"]
    assert "training utterances 8" in said and "AUC 0.750" in said

    subset = read_table(recipe.folder / "dump/raw/train_data50/text")
    assert len(subset) == SETS["train"] / 2
    context = "dump/context/topic_n2_tiny_minilm_mean"
    assert read_table(recipe.folder / context / "train_data50/context_text").keys() == subset.keys()
    trained = (base.parent / "asr_aware_topic_n2_tiny_mean_a0.5/config.yaml").read_text()
    for option in (
        "--init_param exp/study/seed1_data50/asr_base/valid.loss.ave.pth",
        f"{context}/train_data50/context.scp,context,kaldi_ark",
        "dump/raw/train_data50/wav.scp,speech,sound",
        "--max_epoch 2",
        "--model_conf alpha=0.5",
        "--seed 1",
    ):
        assert option in trained
    assert "--max_epoch" not in (base / "config.yaml").read_text()

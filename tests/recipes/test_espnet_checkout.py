"""The commands that README.md shows for ESPnet's own recipes: an unmodified asr.sh of a checkout, on a tiny corpus."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import kaldiio
import pytest

from espnet_ctx.files import read_table
from tests.recipes.tiny import ROOT, SETS, Recipe, make_llm

CHECKOUT = Path(os.environ.get("ESPNET_ROOT") or "/nonexistent").resolve()
TEMPLATE = CHECKOUT / "egs2" / "TEMPLATE" / "asr1"

pytestmark = [
    pytest.mark.recipe,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (TEMPLATE / "asr.sh").is_file(),
        reason="needs ESPNET_ROOT to name a checkout of ESPnet (with egs2/TEMPLATE/asr1/asr.sh)",
    ),
]

# what the README leaves to the user: two jobs of everything, on the CPU, of data that is there already
TINY = " --stage 3 --ngpu 0 --nj 2 --inference_nj 2"

# in a process and a folder of its own: the texts of the test set, and the losses that the valid set's context makes
CLEAN_PROCESS = """
import json, sys
import kaldiio, numpy, soundfile, torch
import espnet_ctx
from espnet2.bin.asr_inference import Speech2Text
from espnet_model_zoo.downloader import ModelDownloader
from espnet_ctx.files import read_table

def speech_of(dset):
    wavs = read_table(f"dump/raw/{dset}/wav.scp")
    return {utt: soundfile.read(path, dtype="float32")[0] for utt, path in wavs.items()}

files = ModelDownloader(".").unpack_local_file(sys.argv[1])
speech2text = Speech2Text(**files, beam_size=1, ctc_weight=1.0)
texts = {utt: speech2text(speech)[0][0] for utt, speech in speech_of("test").items()}

model, speech = speech2text.asr_model, speech_of("valid")
archive = kaldiio.load_scp("dump/context/valid/context.scp")
context = torch.tensor(numpy.stack([archive[utt] for utt in speech]))
def loss_of(context):
    waves = [torch.from_numpy(s) for s in speech.values()]
    some_text = torch.full((len(waves), 1), 2)
    _, stats, _ = model(
        torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([len(s) for s in waves]),
        some_text, torch.ones(len(waves), dtype=torch.long),
        context=context, context_lengths=torch.ones(len(waves), dtype=torch.long),
    )
    return stats["loss_context"].item()

with torch.no_grad():
    losses = [loss_of(context), loss_of(-context)]
import espnet2
print(json.dumps({"espnet2": espnet2.__file__, "texts": texts, "losses": losses}))
"""


def commands_of_readme() -> str:
    """The indented block of the section "In ESPnet's own recipes"."""
    section = (ROOT / "README.md").read_text().split("### In ESPnet's own recipes\n")[1].split("\n### ")[0]
    return textwrap.dedent("\n".join(line for line in section.splitlines() if line.startswith("    ")))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe laid out as ESPnet's are, after the README's commands; `said` is what they printed."""
    from tests.checkpoints import make_upstream  # loads torch

    folder = tmp_path_factory.mktemp("checkout")
    recipe = Recipe(folder, make_upstream("hubert-base", folder / "upstream"))
    make_llm(folder / "llm")
    (folder / "data").symlink_to(recipe.source / "data")
    (folder / "conf" / "train.yaml").rename(folder / "conf" / "train_asr.yaml")
    (folder / "utils").unlink()
    (folder / "cmd.sh").unlink()
    for name in ("asr.sh", "cmd.sh", "db.sh", "utils", "steps", "scripts", "pyscripts"):
        (folder / name).symlink_to(TEMPLATE / name)
    script = folder / "run.sh"
    script.write_text(f"set -euo pipefail\n. ./path.sh\nupstream=upstream llm=llm\n{commands_of_readme()}{TINY}\n")
    done = subprocess.run(
        ["bash", "run.sh"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3000
    )
    log = folder / "exp/asr_aware/train.log"
    assert done.returncode == 0, done.stdout + (log.read_text() if log.exists() else "")
    recipe.said = done.stdout
    return recipe


@pytest.fixture(scope="module")
def packed(recipe, tmp_path_factory):
    """What the pack gives in a clean process that finds the data, but neither the upstream nor the experiment."""
    clean = tmp_path_factory.mktemp("clean")
    (clean / "dump").symlink_to(recipe.folder / "dump")
    (recipe.folder / "upstream").rename(recipe.folder / "upstream.gone")
    pack = recipe.folder / "exp/asr_aware/asr_aware_valid.loss.ave.zip"
    done = subprocess.run(
        [sys.executable, "-c", CLEAN_PROCESS, str(pack)],
        cwd=clean,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_stages_run_with_the_checkout(recipe, packed):
    stages = [int(n) for n in re.findall(r"Stage (\d+):", recipe.said)]
    assert stages == [3, 4, 5, 10, 11, 12, 13, 14]
    assert Path(packed["espnet2"]).is_relative_to(CHECKOUT)


def test_the_config_is_the_plugins_and_portable(recipe):
    config = (recipe.folder / "exp/asr_aware/config.yaml").read_text()
    for line in ("encoder: context_ssl", "model: context_asr", "context_dim: 384", "normalize: null"):
        assert line in config
    assert re.search(r"upstream_architecture:\n\s+\S+", config)


def test_the_jobs_of_collect_stats_read_every_context(recipe):
    """asr.sh splits the utterances over jobs, whose shapes it joins; ours has one row for each utterance."""
    for dset in ("train", "valid"):
        shapes = read_table(recipe.folder / f"exp/asr_stats_raw_char/{dset}/context_shape")
        assert shapes == {utt: "1,384" for utt in read_table(recipe.folder / f"data/{dset}/text")}


def test_training_is_taught_by_the_context_of_each_utterance(recipe, packed, monkeypatch):
    """The loss that the log reports is the one that model and archive give again, and not that of other vectors."""
    monkeypatch.chdir(recipe.folder)  # the archive's paths are relative to it
    archive = kaldiio.load_scp("dump/context/valid/context.scp")
    assert sum(vector.any() for vector in archive.values()) == SETS["valid"] - 2  # two sessions have a first utterance
    results = re.search(r"1epoch results: (.*)", (recipe.folder / "exp/asr_aware/train.log").read_text()).group(1)
    train, valid = re.split(r"\[valid\] ", results)
    reported = float(re.search(r"loss_context=([\d.e-]+)", valid).group(1))
    assert "loss_context=" in train and "context_cosine=" in train
    ours, negated = packed["losses"]
    assert ours + negated == pytest.approx(2, abs=1e-4)  # 1 - cosine
    assert abs(reported - ours) < 0.1 * abs(reported - negated)  # training may have run under bf16 autocast


def test_every_utterance_is_decoded_and_scored(recipe):
    decoded = next((recipe.folder / "exp/asr_aware").glob("inference*_asr_model_valid.loss.ave")) / "test"
    assert read_table(decoded / "text").keys() == read_table(recipe.folder / "data/test/text").keys()
    for name in ("score_wer", "score_cer"):
        total = re.search(r"\|\s*Sum/Avg\s*\|\s*(\d+)", (decoded / name / "result.txt").read_text())
        assert int(total.group(1)) == SETS["test"]
    assert "|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in (recipe.folder / "exp/asr_aware/RESULTS.md").read_text()


def test_the_pack_decodes_the_same_texts_without_the_upstream(recipe, packed):
    decoded = next((recipe.folder / "exp/asr_aware").glob("inference*_asr_model_valid.loss.ave")) / "test"
    assert {utt: text.strip() for utt, text in packed["texts"].items()} == read_table(decoded / "text")

"""The table of local/ablation.sh, and what the script refuses."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from espnet_ctx.files import UserError
from espnet_ctx.scoring.homophones import HomophoneCounts
from tests.scoring.conftest import _needs_sctk, scored  # noqa: F401  (fixtures)

ROOT = Path(__file__).resolve().parents[2]
DECODING = "decode_ctc_asr_model_valid.loss.ave"
TEXTS = ["one two three four", "five six seven eight", "nine ten eleven twelve"] * 30
WORSE = ["one x y four", "five x seven eight", "nine ten eleven twelve"] * 30
LOG = "INFO: 4epoch results: [valid] loss=2.000, context_gate={}, context_residual=0.1"


@pytest.fixture
def table(tmp_path, scored):  # noqa: F811
    spec = importlib.util.spec_from_file_location("ablation_table", ROOT / "local/ablation_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def add(seed, system, fed, hyps, homophone_errors):
        folder = scored(f"exp/{seed}asr_{system}/{DECODING}{fed}/test", TEXTS, hyps)
        (folder / "score_homophones").mkdir()
        counts = HomophoneCounts(100, homophone_errors, 2, 260, 9)
        (folder / "score_homophones/result.json").write_text(json.dumps(counts._asdict()))
        (folder.parents[1] / "train.log").write_text(LOG.format(0.06 if seed else 0.08))

    for seed in ("", "seed2/"):
        add(seed, "none", "", WORSE, 40)
        add(seed, "generated", "", TEXTS, 20)
        add(seed, "carry", "", TEXTS, 24 if seed else 22)
        add(seed, "carry", "_none", WORSE, 40)
    add("", "carry_mean", "", TEXTS, 30)
    add("", "carried", "", TEXTS, 30)  # another system
    known = {"student_cosine": 0.5, "student_topic_accuracy": 0.875}
    (tmp_path / "exp/asr_carry/student_test.json").write_text(json.dumps(known))

    def write(*systems):
        out = tmp_path / "table.md"
        module.main(["--exp", str(tmp_path / "exp"), "--out", str(out), *(["--systems", *systems] if systems else [])])
        return [line.strip("|").split("|") for line in out.read_text().splitlines()[2:]]

    return write


def test_rows_hold_means_over_the_seeds_and_what_is_kept(table):
    rows = {tuple(row[:2]): row[2:] for row in table("carry")}
    assert list(rows) == [("none", "-"), ("generated", "-"), ("carry", "-"), ("carry", "none"), ("carry_mean", "-")]
    assert rows["carry", "-"][:2] == ["2", "0.0 ± 0.0"] and rows["carry", "-"][2] == "23.0 ± 1.4"
    # (40 - 22) and (40 - 24) of the 20 that `generated` gains
    assert rows["carry", "-"][4:] == ["better, p <0.001", "85.0 ± 7.1", "0.500", "87.5", "0.070", "10.0"]
    assert rows["carry", "none"][4:6] == ["same, p = 1", "0.0 ± 0.0"]
    assert rows["carry_mean", "-"][0] == "1" and rows["carry_mean", "-"][5] == "50.0"
    assert rows["none", "-"][4:] == ["-"] * 6 and rows["generated", "-"][5] == "-"


def test_unless_they_are_named_those_that_are_there(table):
    assert table() == table("carry")


def test_a_system_without_a_score(table):
    with pytest.raises(UserError, match="no scored system aware"):
        table("carry", "aware")


@pytest.mark.parametrize("variant", ["carry_nonsense", "prev_audio", "carry_"])
def test_an_unknown_variant(variant):
    done = subprocess.run(["local/ablation.sh", "--variants", variant], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"no such variant: {variant} (--variants)" in done.stderr

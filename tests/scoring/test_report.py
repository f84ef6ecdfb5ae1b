import json

import pytest

from espnet_ctx.files import UserError
from espnet_ctx.scoring.homophones import HomophoneCounts
from espnet_ctx.scoring.report import find_runs, read_learning_curve, write_report

TRAIN = "loss_ctc=9.1, loss=9.100, optim0_lr0=1.000e-04, time=3 minutes and 2.5 seconds, total_count=10"
VALID = "loss_ctc=4.200, cer_ctc=0.512, loss=4.200, context_gate=1.000e-04, time=1.5 seconds, total_count=2"
LOG = f"""[host] 2026-01-02 03:04:05,678 (trainer:348) INFO: 1epoch results: [train] {TRAIN}, [valid] {VALID}
[host] 2026-01-02 03:05:05,678 (trainer:348) INFO: 2epoch:train:1-5batch: iter_time=0.2, loss=7.1
[host] 2026-01-02 03:05:09,678 (trainer:348) INFO: 2epoch results: [train] loss=7.0, \
[valid] loss=nan, cer_ctc=0.400, time=1 second, total_count=2, [att_plot] time=1 second
"""
REFS = ["one two three four", "five six seven eight", "nine ten eleven twelve"] * 30
WORSE = ["one x y four", "five x seven eight", "nine ten eleven twelve"] * 30  # 3 of 12 words


@pytest.fixture
def exp(scored, tmp_path):
    for seed in ("", "seed2/"):
        for system, hyps in (("none", WORSE), ("aware", REFS)):
            folder = scored(f"exp/{seed}asr_{system}/decode_ctc/test", REFS, hyps)
            (folder / "score_homophones").mkdir()
            errors = 6 if system == "none" else 3
            counts = HomophoneCounts(10, errors, 2, 90, 9)
            (folder / "score_homophones/result.json").write_text(json.dumps(counts._asdict()))
            (folder.parents[1] / "train.log").write_text(LOG)
    return tmp_path / "exp"


def test_learning_curve_of_a_log(exp):
    curve = read_learning_curve(exp / "asr_none")
    assert curve == {
        1: {"loss_ctc": 4.2, "cer_ctc": 0.512, "loss": 4.2, "context_gate": 1e-4, "total_count": 2.0},
        2: {"cer_ctc": 0.4, "total_count": 2.0},
    }


def test_learning_curve_goes_on_over_a_restart(exp):
    folder = exp / "asr_none"
    (folder / "train.log").rename(folder / "train.1.log")
    (folder / "train.log").write_text(
        "INFO: 2epoch results: [valid] loss=3.000\nINFO: 3epoch results: [valid] loss=2.000\n"
    )
    curve = read_learning_curve(folder)
    assert [stats["loss"] for stats in curve.values()] == [4.2, 3.0, 2.0]


def test_report_holds_means_tests_and_figures(exp, tmp_path):
    text = write_report(exp, tmp_path / "report").read_text()
    columns = "WER|CER|homophone WER|wrong twin|WER of other words"
    assert f"|system|dataset|seeds|{columns}|against none|\n" in text
    none, aware = text.splitlines()[7:9]
    assert none.startswith("|none|decode_ctc/test|2|25.0 ± 0.0|") and none.endswith(
        "|60.0 ± 0.0|20.0 ± 0.0|10.0 ± 0.0|-|"
    )
    assert aware.startswith("|aware|decode_ctc/test|2|0.0 ± 0.0|0.0 ± 0.0|30.0 ± 0.0|")
    assert aware.endswith("|better, p <0.001|")
    assert "|aware|default|decode_ctc/test|0.0|" in text and "|none|seed2|decode_ctc/test|25.0|" in text
    for figure in ("wer_decode_ctc_test.png", "learning_curves.png"):
        assert f"({figure})" in text
        assert (tmp_path / "report" / figure).read_bytes().startswith(b"\x89PNG")


def test_base_may_be_named_after_its_config(scored, tmp_path):
    scored("exp/asr_train_none/decode/test", REFS, REFS)
    scored("exp/asr_train_aware/decode/test", REFS, WORSE)
    text = write_report(tmp_path / "exp", tmp_path / "report").read_text()
    assert "|train_aware|decode/test|1|25.0|" in text and "|worse, p <0.001|" in text
    assert "Every seed" not in text and "homophone" not in text and "learning" not in text


def test_test_contexts_stand_side_by_side_and_are_compared_with_the_base(scored, tmp_path):
    for system, context, hyps in (("none", "", WORSE), ("fed", "", REFS), ("fed", "_gold", REFS), ("fed", "_shuffled", WORSE)):
        scored(f"exp/asr_{system}/decode_ctc_asr_model_best{context}/test", REFS, hyps)
    lines = write_report(tmp_path / "exp", tmp_path / "report").read_text().splitlines()
    dataset = "decode_ctc_asr_model_best/test"
    table = [line for line in lines if line.startswith("|")]
    assert table[0].startswith("|system|test context|dataset|seeds|WER|")
    assert table[2].startswith(f"|none|-|{dataset}|1|25.0|")
    assert [line.split("|")[1:6] for line in table[3:]] == [
        ["fed", "-", dataset, "1", "0.0"],
        ["fed", "gold", dataset, "1", "0.0"],
        ["fed", "shuffled", dataset, "1", "25.0"],
    ]
    assert [line.split("|")[-2] for line in table[2:]] == ["-", "better, p <0.001", "better, p <0.001", "same, p = 1"]


def test_seeds_that_disagree_are_the_same(exp, scored):
    scored("exp/seed2/asr_none/decode_ctc/test", REFS, REFS)
    scored("exp/seed2/asr_aware/decode_ctc/test", REFS, WORSE)
    assert "|same, p <0.001|" in write_report(exp, exp / "report").read_text()


def test_seeds_are_found(exp):
    assert {(run.system, run.seed) for run in find_runs(exp)} == {
        (system, seed) for system in ("none", "aware") for seed in ("", "seed2")
    }


def test_nothing_scored_is_an_error(tmp_path):
    with pytest.raises(UserError, match="stages 11 and 12"):
        write_report(tmp_path, tmp_path / "report")

"""ctx_study over a stand-in for ctx.sh: what is shared, skipped, resumed, redone and reported."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from espnet_ctx.bin import ctx_study, subset_data
from espnet_ctx.files import UserError, read_table, write_table

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests/study/fake_recipe.py"
STUDY = {
    "run": f"python3 {FAKE}",
    "train_set": "train",
    "valid_set": "valid",
    "test_sets": "test",
    "llms": {"small": {"parameters": 1000}, "large": {"parameters": 10**6}},
    "grid": {"prompt": ["topic", "title"], "llm": ["small", "large"]},
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's directory to be in; `python3 -m espnet_ctx.bin.context` is the stand-in there."""
    for name in ("utils", "cmd.sh"):
        (tmp_path / name).symlink_to(ROOT / name)
    shim = tmp_path / "bin/python3"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/usr/bin/env bash\n[ "$2" != espnet_ctx.bin.context ] || set -- {FAKE} "$@"\nexec {sys.executable} "$@"\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(**changes):
    Path("study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))


def study(*options):
    ctx_study.main(["--config", "study.yaml", "--nj", "4", *options])


def calls(what="end"):
    """The jobs that began or ended, in their order, since this was asked last."""
    path = Path("calls")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.removeprefix(f"{what} ") for line in lines if line.startswith(what)]


def test_a_grid_from_plan_to_report(recipe, capsys):
    grid = {**STUDY["grid"], "system": ["generated", "aware", "prev_text"], "prompt": ["topic"], "data": [0.5, 1]}
    configure(grid=grid, minutes={kind: 3 for kind in ("data", "subset", "context", "quality", "base", "system")})
    study("--dry_run")
    plan = capsys.readouterr().out
    assert calls("begin") == [] and not Path("exp").exists()
    # the data, half of them, 3 contexts of each, their quality, 2 bases, 6 systems of each
    assert "|context|6|6|3.0|0.3|" in plan and "|system|12|12|3.0|0.6|" in plan
    assert "23 of 23 jobs to do, about 0.3 h with 4 side by side" in plan
    assert plan.index("to do data\n") < plan.index("to do seed1.base") < plan.index("to do seed1.aware_topic_n1_small_mean_a0.5")

    handler = signal.getsignal(signal.SIGTERM)
    study()
    assert signal.getsignal(signal.SIGTERM) is handler  # whoever called main is ended as before
    report = capsys.readouterr().out
    done = calls()
    assert len(done) == len(set(done)) == 21
    assert sum(job.startswith("7 generated") for job in done) == 4, "what `aware` needs is made with it"
    lines = [line.split("|")[1:-1] for line in report.splitlines() if line.startswith("|")]
    header, rows = lines[0], lines[2:14]
    assert header == ["system", "LLM", "parameters", "training utterances", "AUC", "seeds", "WER", "CER", "against none"]
    assert [row[:5] for row in rows[:3]] == [
        ["none", "-", "-", "10", "-"],
        ["generated", "small", "1000", "10", "0.900"],
        ["generated", "large", "1000000", "10", "0.900"],
    ]
    wer = {tuple(row[:4]): float(row[6]) for row in rows}
    assert wer["generated", "large", "1000000", "20"] < wer["aware", "large", "1000000", "20"] < wer["none", "-", "-", "20"]
    assert rows[1][8] == "better, p <0.001" and rows[0][8] == "-"
    assert "The same for all: dataset decode/test, prompt topic, pooling mean, num_prev 1, alpha 0.5." in report
    for figure in ("llm_size", "data_size", "context_quality"):
        assert f"({figure}_decode_test.png)" in report
        assert Path(f"exp/study/report/{figure}_decode_test.png").read_bytes().startswith(b"\x89PNG")

    configure(grid={**grid, "prompt": ["topic", "title"], "data": [1]})
    study()
    assert sorted(job.partition(" exp")[0] for job in calls()) == ["12 aware"] * 2 + ["12 generated"] * 2 + ["7 generated"] * 2
    study()
    assert calls("begin") == [], "nothing is left to do"


def test_what_has_changed_is_done_again(recipe, capsys):
    Path("conf").mkdir()
    Path("conf/train.yaml").write_text("lr: 1")
    Path("study.yaml").symlink_to("conf/study.yaml")
    configure(grid={"system": ["none"]})
    study()
    assert len(calls()) == 3
    configure(grid={"system": ["none"], "seed": [1, 2]})
    study()
    assert sorted(job.split()[2] for job in calls()) == ["exp/study/seed2"] * 2, "a grid that has grown redoes nothing"
    configure(grid={"system": ["none"]})
    Path("exp/study/seed1/asr_none/RESULTS.md").unlink()
    study()
    assert [job.split()[0] for job in calls()] == ["12"]
    write_table("dump/raw/test/text", {**read_table("dump/raw/test/text"), "test0-0": "another"})
    study()
    assert [job.split()[0] for job in calls()] == ["10", "12"]
    Path("conf/train.yaml").write_text("lr: 2")
    study()
    assert [job.split()[0] for job in calls()] == ["8", "10", "12"]


def test_bases_that_are_there_are_not_trained_again(recipe, capsys):
    configure(grid={"system": ["none"], "seed": [1, 2], "data": [0.5, 1]}, bases={1: "exp/asr_base"})
    with pytest.raises(UserError, match=r"no such file: exp/asr_base/valid.loss.ave.pth \(key 'bases' of the study, seed 1\)"):
        study("--dry_run")
    base = Path("exp/asr_base/valid.loss.ave.pth")
    base.parent.mkdir(parents=True)
    base.write_text("given")
    study()
    done = [job.split() for job in calls()]
    trained = {folder.removeprefix("exp/study/") for stage, _, folder, *_ in done if stage == "10"}
    assert trained == {"seed1_data50", "seed2", "seed2_data50"}
    assert sum(job[0] == "12" for job in done) == 4
    base.write_text("given anew")
    study("--dry_run")
    assert "1 of 9 jobs to do" in capsys.readouterr().out


def test_a_failure_leaves_out_what_needs_it_and_nothing_else(recipe, capsys):
    configure()
    Path("broken").write_text("7 generated exp/study  title")
    with pytest.raises(UserError, match=r"2 jobs failed; their logs: .*context_title_n1_small_minilm_mean\.log"):
        study()
    report = capsys.readouterr().out
    assert "4 of 9 systems are not finished" in report and "|aware|" in report
    assert len(calls()) == 1 + 2 + 1 + 5
    Path("broken").unlink()
    study()
    assert len(calls()) == 2 + 4
    assert "not finished" not in capsys.readouterr().out


def start():
    return subprocess.Popen(
        [sys.executable, "-m", "espnet_ctx.bin.ctx_study", "--config", "study.yaml", "--nj", "3"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def assert_nobody_works():
    """Soon no process of this recipe's jobs is left."""
    deadline = time.monotonic() + 20
    while alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive() == []


def alive():
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.joinpath("cwd").resolve() == Path.cwd() and str(FAKE) in path.joinpath("cmdline").read_text():
                found.append(path.name)
        except OSError:
            continue
    return found


def test_a_killed_study_takes_its_jobs_with_it_and_goes_on(recipe):
    configure(grid={**STUDY["grid"], "system": ["generated"]})
    Path("slow").write_text("0.5")
    process = start()
    deadline = time.monotonic() + 60
    while not (Path("calls").exists() and Path("calls").read_text().count("begin 7") >= 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert_nobody_works()
    lines = Path("calls").read_text().splitlines()
    begun, before = (len([line for line in lines if line.startswith(word)]) for word in ("begin", "end"))
    Path("slow").unlink()
    study()
    done = calls()
    # data, 4 contexts, the base, `none` and 4 systems; what ended in the moment of the kill may have been asked again
    assert len(set(done)) == 11 and len(done) <= 11 + (begun - before) and before < 11


def test_an_interrupted_study_reports_what_is_finished(recipe):
    configure(grid={**STUDY["grid"], "system": ["generated"]})
    Path("slow").write_text("0.5")
    process = start()
    while not (Path("calls").exists() and "end 12" in Path("calls").read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)  # until it is known to be done
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert_nobody_works()
    report = Path("exp/study/report/study.md").read_text()
    assert "|none|" in report and "of 5 systems are not finished" in report


def test_two_at_once_and_wrong_options(recipe, monkeypatch):
    configure(grid={"system": ["none"]})
    Path("slow").write_text("3")
    process = start()
    while not Path("calls").exists():
        time.sleep(0.02)
    with pytest.raises(UserError, match="another ctx_study is working on exp/study"):
        study()
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert_nobody_works()
    with pytest.raises(UserError, match="--nj is 0"):
        study("--nj", "0")
    Path("cmd.sh").unlink()
    Path("slow").unlink()
    with pytest.raises(UserError, match="gives no train_cmd.*run this in a recipe's directory"):
        study()


def test_subsets_are_whole_sessions_and_smaller_ones_are_part_of_larger_ones(tmp_path):
    utts = [f"s{session}-{i}" for session in range(8) for i in range(1 + session % 3)]
    tables = {name: dict.fromkeys(utts, "x") for name in ("wav.scp", "text", "utt2spk", "utt2num_samples", "text.ner_raw")}
    tables["utt2prev"] = {utt: f"{utt[:3]}{int(utt[-1]) - 1}" if utt[-1] != "0" else "-" for utt in utts}
    for name, table in tables.items():
        write_table(tmp_path / "train" / name, table)
    found = []
    for share in ("0.25", "0.5", "1"):
        subset_data.main(["--data_dir", str(tmp_path / "train"), "--share", share, "--out", str(tmp_path / share)])
        kept = set(read_table(tmp_path / share / "text"))
        sessions = {utt[:2] for utt in kept}
        assert kept == {utt for utt in utts if utt[:2] in sessions}
        assert 0 <= len(kept) - float(share) * len(utts) < 3
        for name in tables:
            assert read_table(tmp_path / share / name).keys() == kept
        found.append(kept)
    assert found[0] < found[1] < found[2] == set(utts)
    with pytest.raises(UserError, match="--share is 1.5"):
        subset_data.main(["--data_dir", str(tmp_path / "train"), "--share", "1.5", "--out", str(tmp_path / "x")])

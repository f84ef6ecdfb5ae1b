"""run.py, the local job runner, split_scp.py and training_progress.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"


def run(*args: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run([UTILS / "run.py", *args], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_runs_every_job_with_its_number_and_keeps_a_log(tmp_path):
    done = run("--gpu", "0", "--mem", "4G", "JOB=1:3", "logs/a.JOB.log", "bash", "-c", "echo this is JOB > out.JOB", cwd=tmp_path)
    assert done.returncode == 0
    assert [(tmp_path / f"out.{n}").read_text() for n in (1, 2, 3)] == [f"this is {n}\n" for n in (1, 2, 3)]
    log = (tmp_path / "logs/a.2.log").read_text().splitlines()
    assert log[0].startswith("# bash -c")
    assert log[1].startswith("# Started at ")
    assert log[-1].startswith("# Ended (code 0) at ")


def test_runs_a_single_command_without_numbers(tmp_path):
    assert run("a.log", "echo", "JOB=1", cwd=tmp_path).returncode == 0
    assert "JOB=1\n" in (tmp_path / "a.log").read_text().splitlines(keepends=True)


def test_shows_the_end_of_the_failing_log(tmp_path):
    done = run("JOB=1:2", "a.JOB.log", "bash", "-c", "echo broken JOB; exit $((JOB - 1))", cwd=tmp_path)
    assert done.returncode == 1
    assert "log in a.2.log" in done.stderr
    assert "broken 2" in done.stderr
    assert "broken 1" not in done.stderr
    assert "# Ended (code 1)" in (tmp_path / "a.2.log").read_text()


def test_a_command_that_does_not_exist_is_a_failed_job(tmp_path):
    done = run("a.log", "no-such-command", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot start" in done.stderr


def test_runs_no_more_jobs_at_a_time_than_asked(tmp_path):
    script = "ls running* 2> /dev/null | wc -l > seen.JOB; touch running.JOB; sleep 0.2; rm running.JOB"
    assert run("--max-jobs-run", "1", "JOB=1:3", "a.JOB.log", "bash", "-c", script, cwd=tmp_path).returncode == 0
    assert [(tmp_path / f"seen.{n}").read_text().strip() for n in (1, 2, 3)] == ["0"] * 3


@pytest.mark.parametrize("args", [[], ["a.log"], ["JOB=3:1", "a.log", "true"]])
def test_refuses_a_malformed_command_line(tmp_path, args):
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "expected [JOB=1:N] <log> <command>" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="jobs end with a killed runner on Linux only")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_end_with_the_runner(tmp_path, how):
    command = ["a.log", "bash", "-c", "echo $$ > pid; exec sleep 60"]
    runner = subprocess.Popen([UTILS / "run.py", *command], cwd=tmp_path)
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job = int((tmp_path / "pid").read_text())
    runner.send_signal(how)
    runner.wait(timeout=20)
    while _is_running(job):
        assert time.monotonic() < deadline, "the job outlived its runner"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_split_scp_keeps_order_and_balances(tmp_path):
    (tmp_path / "scp").write_text("".join(f"utt{i} x\n" for i in range(7)))
    subprocess.run([UTILS / "split_scp.py", "scp", "a", "b", "c"], cwd=tmp_path, check=True)
    parts = [(tmp_path / name).read_text() for name in "abc"]
    assert "".join(parts) == (tmp_path / "scp").read_text()
    assert [part.count("\n") for part in parts] == [2, 2, 3]
    done = subprocess.run([UTILS / "split_scp.py", "scp", *map(str, range(8))], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "too few for 8 parts" in done.stderr


def test_utt2spk_to_spk2utt(tmp_path):
    (tmp_path / "utt2spk").write_text("b2 b\na1 a\nb1 b\n")
    done = subprocess.run([UTILS / "utt2spk_to_spk2utt.py", tmp_path / "utt2spk"], capture_output=True, text=True)
    assert done.stdout == "a a1\nb b1 b2\n"


def test_training_progress_shows_epochs_and_what_is_left():
    log = """
[vm] 2026-01-01 00:00:00,000 (asr:1) INFO: [train] Batch sampler: NumElementsBatchSampler(N-batch=4, batch_bins=10, )
[vm] 2026-01-01 00:00:00,000 (trainer:1) INFO: 1/2epoch started
[vm] 2026-01-01 00:00:01,000 (trainer:1) INFO: 1epoch:train:1-2batch: iter_time=0.1, loss_ctc=3.5, loss=3.5, acc=nan
[vm] 2026-01-01 00:00:02,000 (trainer:1) INFO: 1epoch results: [train] loss=2.5, time=1 second, [valid] loss=2.25, cer_ctc=0.5
"""
    done = subprocess.run([UTILS / "training_progress.py"], input=log, capture_output=True, text=True, check=True)
    within, end = done.stdout.splitlines()
    assert within.startswith("epoch 1/2  50%: loss_ctc 3.500 loss 3.500; ")
    assert end.startswith("epoch 1/2 done: train loss 2.500; valid loss 2.250 cer_ctc 0.500; ")
    assert end.endswith(" left")

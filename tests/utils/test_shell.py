"""parse_options.sh, refresh.sh, cmd.sh and path.sh as the scripts use them."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = f"""
set -euo pipefail
nj=4
train_set=
skip_train=false
help_message="the help"
. {ROOT}/utils/parse_options.sh
echo "nj=$nj train_set=$train_set skip_train=$skip_train left=$*"
"""

REFRESH = f"""
set -euo pipefail
log() {{ echo "$*"; }}
. {ROOT}/utils/refresh.sh
"""


def bash(script: str, *args: str, cwd=None, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", script, "script", *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


class TestParseOptions:
    @pytest.mark.parametrize("args", [["--nj", "8", "--train-set", "a b"], ["--nj=8", "--train_set=a b"]])
    def test_sets_the_variable_however_the_option_is_written(self, args):
        assert bash(OPTIONS, *args).stdout == "nj=8 train_set=a b skip_train=false left=\n"

    def test_stops_at_the_first_positional_argument(self):
        assert bash(OPTIONS, "--nj", "2", "exp", "--nj", "3").stdout.endswith(
            "nj=2 train_set= skip_train=false left=exp --nj 3\n"
        )

    def test_what_was_a_text_takes_any_text_again(self):
        assert "train_set=b" in bash(OPTIONS, "--train_set", "1", "--train_set", "b").stdout

    def test_an_empty_value_is_a_value(self):
        assert "train_set= " in bash(OPTIONS, "--train_set", "").stdout

    @pytest.mark.parametrize(
        "args, message",
        [
            (["--contxt", "none"], "unknown option --contxt"),
            (["--nj"], "option --nj needs a value"),
            (["--skip_train", "maybe"], "option --skip_train takes true or false, got 'maybe'"),
            (["--nj", "8", "--nj", "many"], "option --nj takes a whole number, got 'many'"),
            (["--PATH", "x"], "unknown option --PATH"),
        ],
    )
    def test_refuses_what_it_does_not_know_and_names_it(self, args, message):
        done = bash(OPTIONS, *args)
        assert done.returncode == 2
        assert message in done.stderr

    def test_help_prints_the_help_message(self):
        done = bash(OPTIONS, "--help")
        assert (done.returncode, done.stdout) == (0, "the help\n")


class TestRefresh:
    def test_runs_once_and_again_only_when_key_or_output_changes(self, tmp_path):
        script = REFRESH + 'refresh d/.done "$1" d/out -- bash -c "echo ran; echo x > d/out"'
        assert "ran" in bash(script, "k1", cwd=tmp_path).stdout
        assert "ran" not in bash(script, "k1", cwd=tmp_path).stdout
        assert "ran" in bash(script, "k2", cwd=tmp_path).stdout
        (tmp_path / "d/out").unlink()
        assert "ran" in bash(script, "k2", cwd=tmp_path).stdout
        (tmp_path / "d/out").write_text("")
        assert "ran" in bash(script, "k2", cwd=tmp_path).stdout

    def test_a_failed_command_leaves_no_stamp(self, tmp_path):
        done = bash(REFRESH + "refresh d/.done key d/out -- bash -c 'echo x > d/out; exit 3'; echo not here", cwd=tmp_path)
        assert done.returncode == 3
        assert "not here" not in done.stdout
        assert not (tmp_path / "d/.done").exists()

    def test_a_missing_output_is_an_error_that_names_it(self, tmp_path):
        done = bash(REFRESH + "refresh d/.done key d/out -- true", cwd=tmp_path)
        assert done.returncode == 1
        assert "d/out is missing or empty" in done.stdout

    def test_two_at_once_run_the_command_once(self, tmp_path):
        step = "refresh d/.done key d/out -- bash -c 'echo ran >> runs; sleep 0.5; echo x > d/out'"
        done = bash(REFRESH + f"{step} & {step} & wait", cwd=tmp_path)
        assert "Waiting for another run" in done.stdout
        assert (tmp_path / "runs").read_text() == "ran\n"

    def test_fingerprint_follows_contents_and_not_names_or_times(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "text").write_text("utt one\n")
        os.utime(tmp_path / "b/text", (0, 0))
        (tmp_path / "b/.done").write_text("hidden files do not count")
        (tmp_path / "c").write_text("utt two\n")
        script = REFRESH + 'for f in "$@"; do fingerprint options "$f"; done; fingerprint other "$1"'
        a, b, text, c, gone, other = bash(script, "a", "b", "a/text", "c", "gone", cwd=tmp_path).stdout.split()
        assert a == b
        assert len({a, text, c, gone, other}) == 5


class TestPathAndCmd:
    def test_path_puts_environment_and_sclite_first(self):
        done = bash(f". {ROOT}/path.sh && command -v python3 && command -v sclite && echo $OMP_NUM_THREADS", OMP_NUM_THREADS="")
        assert done.returncode == 0, done.stderr
        python, sclite, threads = done.stdout.split()
        assert python == f"{ROOT}/.venv/bin/python3"
        assert threads == "1"
        assert Path(sclite).exists()

    def test_an_espnet_checkout_goes_before_the_installed_one(self):
        done = bash(f". {ROOT}/path.sh && echo $PYTHONPATH", ESPNET_ROOT="/some/espnet", PYTHONPATH="")
        assert done.stdout.strip() == f"/some/espnet:{ROOT}"

    def test_cmd_uses_our_runner_by_default(self):
        assert bash(f". {ROOT}/cmd.sh && echo $train_cmd").stdout.strip() == f"{ROOT}/utils/run.py"

    def test_cmd_takes_schedulers_from_an_espnet_checkout(self, tmp_path):
        utils = tmp_path / "egs2/TEMPLATE/asr1/utils"
        utils.mkdir(parents=True)
        (utils / "slurm.pl").touch(mode=0o755)
        script = f". {ROOT}/cmd.sh && echo $cuda_cmd"
        done = bash(script, cmd_backend="slurm", ESPNET_ROOT=str(tmp_path))
        assert done.stdout.strip() == str(utils / "slurm.pl")
        assert "set ESPNET_ROOT" in bash(script, cmd_backend="slurm", ESPNET_ROOT="").stderr
        assert "unknown cmd_backend 'cloud'" in bash(script, cmd_backend="cloud").stderr

"""ctx.sh from end to end on a tiny recipe: results, second runs, interruptions, bad input."""

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import yaml

from espnet_ctx.files import read_table, write_table
from tests.recipes import stub_lmplz
from tests.recipes.tiny import FS, SETS, Recipe, use_python

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]

CONTEXT = "topic_n2_llm_minilm_mean"


@pytest.fixture
def recipe(tmp_path, upstream_dir, warm):
    recipe = Recipe(tmp_path, upstream_dir())
    use_python(recipe.folder, warm)
    return recipe


@pytest.fixture
def copy(finished, tmp_path, warm):
    """A copy of the finished recipe, to go on from."""
    copy = finished.copy(tmp_path / "copy")
    use_python(copy.folder, warm)
    return copy


class TestFinished:
    def test_every_stage_leaves_what_it_should(self, finished):
        exp = finished.folder / "exp/asr_aware"
        decoded = exp / "decode_ctc_asr_model_valid.loss.ave/test"
        for table in ("text", "token", "token_int", "score"):
            assert len(read_table(decoded / table)) == SETS["test"]
        assert "|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in (exp / "RESULTS.md").read_text()
        assert (decoded / "score_wer/result.txt").exists()
        assert (finished.folder / "exp/report").is_dir()
        assert len(read_table(finished.folder / f"dump/context/{CONTEXT}/train/context.scp")) == SETS["train"]
        assert "context_dim: 384" in (exp / "config.yaml").read_text()

    def test_aware_makes_no_context_for_the_test_set(self, finished):
        assert not (finished.folder / f"dump/context/{CONTEXT}/test").exists()

    def test_progress_and_stages_are_shown(self, finished):
        stages = [int(n) for n in re.findall(r"Stage (\d+):", finished.said)]
        assert stages == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15]
        assert re.search(r"epoch 1/1 done: train .*loss \d.*; valid .*loss \d", finished.said)

    def test_the_pack_leads_to_the_plugin(self, finished):
        pack = finished.folder / "exp/asr_aware/asr_aware_valid.loss.ave.zip"
        with zipfile.ZipFile(pack) as z:
            readme = z.read("exp/asr_aware/README.md").decode()
            names = z.namelist()
        assert re.search(r"pip install espnet_ctx==\d", readme)
        assert "import espnet_ctx" in readme
        assert not [name for name in names if name.endswith(".safetensors")]

    def test_the_run_script_takes_training_up_again(self, finished):
        script = (finished.folder / "exp/asr_aware/run.sh").read_text()
        assert "--context aware" in script
        assert '--stage 10 "$@"' in script

    def test_an_unchanged_run_is_quick_and_touches_nothing(self, copy):
        kept = ["data", "dump", "exp"]
        times = {path: path.stat().st_mtime_ns for name in kept for path in (copy.folder / name).rglob("*.*")}
        begin = time.monotonic()
        done = copy.run(*copy.options)
        seconds = time.monotonic() - begin
        assert done.returncode == 0, done.stdout
        assert seconds < 30
        changed = {str(path) for path, at in times.items() if path.stat().st_mtime_ns != at}
        assert {path for path in changed if "/data/" not in path and not path.endswith("run.sh")} == set()
        assert "started..." not in done.stdout

    def test_a_lost_result_is_made_again_and_nothing_else(self, copy):
        exp = copy.folder / "exp/asr_aware"
        scored = exp / "decode_ctc_asr_model_valid.loss.ave/test/score_wer/result.txt"
        before = scored.read_text()
        trained = (exp / "config.yaml").stat().st_mtime_ns
        scored.unlink()
        done = copy.run(*copy.options, "--stage", "11", "--stop_stage", "12")
        assert done.returncode == 0, done.stdout
        assert scored.read_text() == before
        assert (exp / "config.yaml").stat().st_mtime_ns == trained
        assert "Decoding test started" not in done.stdout

    def test_espnet_decodes_and_its_hypotheses_are_scored(self, copy):
        done = copy.run(
            *copy.options, "--decoder", "espnet", "--inference_nj", "1", "--stage", "11", "--stop_stage", "12"
        )
        assert done.returncode == 0, done.stdout
        decoded = copy.folder / "exp/asr_aware/decode_espnet_asr_model_valid.loss.ave/test"
        assert read_table(decoded / "text").keys() == read_table(copy.folder / "data/test/text").keys()


class TestNgram:
    @pytest.fixture(autouse=True)
    def lmplz(self, tmp_path, monkeypatch):
        """A stand-in where it is not installed: stage 5 would build it, for minutes and from the network."""
        if shutil.which("lmplz") is None:
            program = tmp_path / "bin/lmplz"
            program.parent.mkdir()
            program.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} {Path(stub_lmplz.__file__).resolve()} "$@"\n')
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def test_it_is_made_searched_with_and_packed(self, copy):
        options = [*copy.options, "--use_ngram", "true", "--ngram_num", "3", "--inference_args", "--beam_size 5"]
        done = copy.run(*options, "--stage", "5", "--stop_stage", "5")
        assert done.returncode == 0, done.stdout
        done = copy.run(*options, "--stage", "11", "--stop_stage", "13")
        assert done.returncode == 0, done.stdout
        exp = copy.folder / "exp/asr_aware"
        decoded = exp / "decode_ctc_3gram_beam_size5_asr_model_valid.loss.ave/test"
        assert len(read_table(decoded / "text")) == SETS["test"] and (decoded / "score_wer/result.txt").exists()
        [pack] = exp.glob("*.zip")
        assert "data/token_list/char/3gram.arpa" in zipfile.ZipFile(pack).namelist()


class TestAnotherTraining:
    def test_more_epochs_continue_and_other_settings_begin_anew(self, copy):
        exp = copy.folder / "exp/asr_aware"
        stage_10 = [*copy.options, "--stage", "10", "--stop_stage", "10", "--asr_args"]
        done = copy.run(*stage_10, "--max_epoch 2")
        assert done.returncode == 0, done.stdout
        log = (exp / "train.log").read_text()
        assert "2epoch results" in log
        assert "1epoch results" not in log
        assert not (copy.folder / "exp/replaced").exists()

        done = copy.run(*stage_10, "--optim_conf lr=0.002")
        assert done.returncode == 0, done.stdout
        assert "was trained with other settings or data; that training is now in exp/replaced/asr_aware.1" in done.stdout
        assert (copy.folder / "exp/replaced/asr_aware.1/2epoch.pth").exists()
        assert "lr: 0.002" in (exp / "config.yaml").read_text()
        assert not (exp / "2epoch.pth").exists()

    def test_two_processes_train_together(self, copy):
        options = ["--asr_tag", "ddp", "--num_train_procs", "2", "--stage", "10", "--stop_stage", "10"]
        done = copy.run(*copy.options, *options)
        assert done.returncode == 0, done.stdout
        assert ":0/2]" in (copy.folder / "exp/asr_ddp/train.log").read_text()
        assert (copy.folder / "exp/asr_ddp/valid.loss.ave.pth").exists()


class TestSessions:
    def test_carry_decodes_over_sessions_and_packs(self, copy):
        # not the default codebook: the tiny LLM says one thing only
        memory = '--encoder_conf injection_conf.memory={"kind":"mean"} --model_conf distillation_conf.loss=cosine'
        options = [*copy.options, "--context", "carry", "--asr_tag", "carry", "--asr_args", memory]
        done = copy.run(*options, "--stage", "6", "--stop_stage", "13")
        assert done.returncode == 0, done.stdout
        context, exp = copy.folder / f"dump/context/{CONTEXT}", copy.folder / "exp/asr_carry"
        assert len(read_table(context / "train/place")) == len(read_table(context / "train/next_context.scp")) == SETS["train"]
        assert not (context / "test").exists()
        injection = yaml.safe_load((exp / "config.yaml").read_text())["encoder_conf"]["injection_conf"]
        assert injection["memory"] == {"kind": "mean"} and injection["teacher_feeding"] == 0.0
        assert (exp / "asr_carry_valid.loss.ave.zip").exists()  # which check_pack has decoded with

        remembering = read_table(exp / "decode_ctc_asr_model_valid.loss.ave/test/score")
        done = copy.run(*options, "--test_context", "none", "--stage", "11", "--stop_stage", "11")
        assert done.returncode == 0, done.stdout
        forgetful = read_table(exp / "decode_ctc_asr_model_valid.loss.ave_none/test/score")
        firsts = {utt for utt, prev in read_table(copy.folder / "data/test/utt2prev").items() if prev == "-"}
        same = {utt for utt in remembering if abs(float(remembering[utt]) - float(forgetful[utt])) < 1e-3}
        assert firsts <= same and same != remembering.keys()

        done = copy.run(*options, "--test_context", "generated", "--stage", "6", "--stop_stage", "12")
        assert done.returncode == 0, done.stdout
        assert len(read_table(context / "test_generated/context.scp")) == SETS["test"]
        told = read_table(exp / "decode_ctc_asr_model_valid.loss.ave_generated/test/score")
        assert {utt for utt in told if told[utt] != remembering[utt]} >= told.keys() - firsts

    def test_prev_audio_needs_neither_text_nor_llm(self, copy):
        options = ["--context", "prev_audio", "--asr_tag", "prev_audio", "--asr_args", "--max_epoch 2"]
        done = copy.run(*options, "--stage", "6", "--stop_stage", "11")
        assert done.returncode == 0, done.stdout
        assert "Stage 6" not in done.stdout
        log = (copy.folder / "exp/asr_prev_audio/train.log").read_text()
        assert re.search(r"2epoch results: \[train\].*loss_context=", log)


class TestKilled:
    def test_data_stages_end_as_if_undisturbed(self, recipe, finished):
        stages = ["--stop_stage", "5"]
        kills = sum(recipe.kill_after(0.3 * n, *stages) for n in range(1, 8))
        assert kills >= 3
        done = recipe.run(*stages)
        assert done.returncode == 0, done.stdout
        assert recipe.contents("data", "dump/raw") == finished.contents("data", "dump/raw")

    def test_context_stages_end_as_if_undisturbed(self, recipe, finished):
        assert recipe.run("--stop_stage", "5").returncode == 0
        made = recipe.folder / f"dump/context/{CONTEXT}/train"
        stages = [*finished.options, "--stage", "6", "--stop_stage", "7"]
        assert recipe.kill_when(lambda: made.exists() and any(made.iterdir()), *stages)
        assert recipe.kill_when(lambda: any(made.glob("*context*ark*")), *stages)
        done = recipe.run(*stages)
        assert done.returncode == 0, done.stdout
        context = f"dump/context/{CONTEXT}"
        assert recipe.contents(context) == finished.contents(context)

    def test_training_decoding_and_packing_go_on(self, copy):
        options = ["--asr_args", "--max_epoch 3", "--asr_tag", "killed"]
        exp = copy.folder / "exp/asr_killed"
        stats = copy.folder / "exp/asr_stats_raw_char"
        shutil.rmtree(stats)
        assert copy.kill_when(lambda: (stats / "train/speech_shape").exists(), *options, "--stage", "9")
        assert not (stats / ".done").exists()
        assert copy.kill_when(lambda: (exp / "checkpoint.pth").exists(), *options, "--stage", "9")
        assert not (exp / ".trained").exists()
        done = copy.run(*options, "--stage", "9", "--stop_stage", "10")
        assert done.returncode == 0, done.stdout
        log = (exp / "train.log").read_text()
        assert "1epoch results" not in log
        assert "3epoch results" in log
        assert not (copy.folder / "exp/replaced").exists()

        decoding_log = exp / "decode_ctc_asr_model_valid.loss.ave/test/logdir/ctc_inference.log"
        later = [*options, "--stage", "11", "--stop_stage", "13"]
        assert copy.kill_when(decoding_log.exists, *later)
        assert copy.kill_when(lambda: any(exp.glob("decode_*/test/score_*/*")), *later)
        assert copy.kill_when(lambda: any(exp.glob("*.part.zip")), *later)
        assert not list(exp.glob("*ave.zip"))
        done = copy.run(*later)
        assert done.returncode == 0, done.stdout
        assert len(list(exp.glob("*ave.zip"))) == 1


class TestBadInput:
    """Each is refused before anything heavy is started, or handled as the documentation says."""

    @pytest.mark.parametrize(
        "options, message",
        [
            (["--context", "telepathy"], "--context is 'telepathy'; it must be one of: none prev_text generated aware"),
            (["--token_type", "word"], "--token_type is 'word'; it must be one of: char bpe"),
            (["--context", "aware"], "--context aware needs --llm"),
            (["--asr_config", "conf/gone.yaml"], "no such configuration: conf/gone.yaml (option --asr_config)"),
            (["--init_param", "exp/gone.pth:encoder"], "no such checkpoint: exp/gone.pth (option --init_param)"),
            (["--test_sets", "train"], "the training set 'train' may be neither"),
            (["--num_train_procs", "2", "--ngpu", "1"], "--num_train_procs needs --ngpu 0"),
            (["--context", "prev_text", "--decoder", "espnet"], "use --decoder ctc"),
            (["--context", "carry"], "--context carry needs --llm"),
            (["--context", "carry", "--llm", "x", "--decoder", "espnet"], "--decoder espnet knows no sessions"),
            (["--context", "carry", "--llm", "x", "--decoder", "espnet", "--test_context", "generated"], "use --decoder ctc"),
            (["--use_ngram", "true", "--decoder", "espnet"], "--use_ngram true is for --decoder ctc and --task asr or slu"),
            (["--contxt", "none"], "unknown option --contxt"),
            (["extra"], "no positional arguments are taken, got: extra"),
            (["--stage", "8", "--upstream", "./gone"], "the folder ./gone holds no checkpoint"),
            (["--stage", "10"], "is not whole: run stage 9"),
            (["--stage", "11"], "valid.loss.ave.pth: run stage 10, or name another checkpoint"),
            (["--stage", "13"], "run stage"),
        ],
    )
    def test_options_are_refused_with_what_is_allowed(self, recipe, options, message):
        done = recipe.run(*options)
        assert done.returncode != 0
        assert message in done.stdout

    def test_an_unreadable_recording_is_named_and_what_is_made_stays(self, recipe):
        utt, path = next(iter(read_table(recipe.source / "data/test/wav.scp").items()))
        Path(path).write_bytes(b"RIFF, and then nothing")
        done = recipe.run("--stop_stage", "4")
        assert done.returncode != 0
        assert f"1 of {SETS['test']} recordings cannot be used" in done.stdout
        assert f"{utt} ({path})" in done.stdout
        assert len(read_table(recipe.folder / "dump/raw/org/train/wav.scp")) == SETS["train"]
        assert not (recipe.folder / "dump/raw/test/wav.scp").exists()

    def test_what_is_scored_stays_whole(self, recipe):
        """Short utterances go from a validation set, unless it is one of the test sets."""
        long = {}
        for name in SETS:
            paths = read_table(recipe.source / f"data/{name}/wav.scp").values()
            long[name] = sum(soundfile.info(path).duration > 0.93 for path in paths)
        assert all(long[name] < SETS[name] for name in SETS)
        for test_sets, valid in (("valid test", SETS["valid"]), ("test", long["valid"])):
            done = recipe.run("--stop_stage", "4", "--min_wav_duration", "0.93", "--test_sets", test_sets)
            assert done.returncode == 0, done.stdout
            sizes = {name: len(read_table(recipe.folder / f"dump/raw/{name}/wav.scp")) for name in SETS}
            assert sizes == {"train": long["train"], "valid": valid, "test": SETS["test"]}

    def test_odd_recordings_and_texts_are_mended_or_left_out(self, recipe):
        """Stereo, another rate, 50 ms, an empty text, a missing line of utt2prev and a text that is nowhere."""
        data = recipe.source / "data/train"
        wavs = read_table(data / "wav.scp")
        stereo, other_rate, short, silent, _, unlinked, dangling = list(wavs)[:7]
        sound, _ = soundfile.read(wavs[stereo])
        soundfile.write(wavs[stereo], np.stack([sound, sound], axis=1), FS)
        sound, _ = soundfile.read(wavs[other_rate])
        soundfile.write(wavs[other_rate], sound[::2], FS // 2)
        soundfile.write(wavs[short], np.zeros(FS // 20), FS)
        change(data / "text", **{silent: ""})
        change(data / "utt2prev", **{unlinked: None, dangling: "nobody"})
        done = recipe.run("--stop_stage", "6", "--context", "prev_text")
        assert done.returncode == 0, done.stdout
        for message in (
            "1 recordings have several channels; their mean is used",
            f"1 recordings resampled to {FS} Hz",
            f"removed 1 utterances (too short), the first is '{short}'",
            f"removed 1 utterances (empty text), the first is '{silent}'",
            f"no line for 1 utterances, the first is '{unlinked}'",
            f"'{dangling} nobody'",
        ):
            assert message in done.stdout
        dump = recipe.folder / "dump/raw/train"
        kept = read_table(dump / "wav.scp")
        assert kept.keys() == wavs.keys() - {short, silent}
        found = [soundfile.info(recipe.folder / path) for path in kept.values()]
        assert {(info.samplerate, info.channels) for info in found} == {(FS, 1)}
        # both still stand between the utterances around them
        assert read_table(dump / "prev_text") == {short: read_table(data / "text")[short], silent: ""}

    def test_a_cycle_of_previous_utterances_is_refused_in_stage_1(self, recipe):
        utts = list(read_table(recipe.source / "data/train/utt2prev"))
        change(recipe.source / "data/train/utt2prev", **{utts[0]: utts[1]})
        done = recipe.run("--stop_stage", "1")
        assert done.returncode != 0
        assert "data/train/utt2prev: cycle" in done.stdout

    def test_context_without_utt2prev_is_refused(self, recipe):
        (recipe.source / "data/train/utt2prev").unlink()
        done = recipe.run("--stop_stage", "6", "--context", "prev_text")
        assert done.returncode != 0
        assert "dump/raw/train/utt2prev is missing" in done.stdout

    def test_a_full_disk_leaves_a_state_that_the_next_run_finishes(self, recipe):
        """A file size limit stands for the full disk: writes fail in the same way."""
        (recipe.folder / "limited.sh").write_text('#!/usr/bin/env bash\nulimit -f 0\nexec "$@"\n')
        command = ["bash", "limited.sh", *recipe.command("--stop_stage", "4")]
        done = subprocess.run(command, cwd=recipe.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode != 0
        done = recipe.run("--stop_stage", "4")
        assert done.returncode == 0, done.stdout
        assert len(read_table(recipe.folder / "dump/raw/train/wav.scp")) == SETS["train"]

    def test_a_context_archive_of_another_width_is_refused_at_decoding(self, copy):
        options = ["--context", "prev_text", "--asr_tag", "prev_text"]
        done = copy.run(*options, "--stage", "6", "--stop_stage", "10")
        assert done.returncode == 0, done.stdout
        test = copy.folder / "dump/context/prev_text_n1_minilm_mean/test"
        narrow = {utt: np.ones((1, 100), np.float32) for utt in read_table(test / "context.scp")}
        kaldiio.save_ark(str(test / "narrow.ark"), narrow, scp=str(test / "context.scp"))
        done = copy.run(*options, "--stage", "11", "--stop_stage", "11")
        assert done.returncode != 0
        assert "100" in done.stdout
        assert "384" in done.stdout


def change(path, **entries) -> None:
    """Set entries of a table; None removes one."""
    table = {**read_table(path), **entries}
    write_table(path, {key: value for key, value in table.items() if value is not None})

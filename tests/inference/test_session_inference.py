"""The command for recordings, pipes and sets, with packs and with text as context."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
import soundfile

from espnet_ctx.bin import session_inference
from espnet_ctx.files import UserError, read_table, write_table
from espnet_ctx.inference.session import SessionRecognizer

RATE = 16000


@pytest.fixture
def wav(tmp_path, speech):
    """Five seconds of noise."""
    samples = np.concatenate([*speech, *speech, speech[0]])
    soundfile.write(tmp_path / "talk.wav", samples, RATE, subtype="FLOAT")
    return tmp_path / "talk.wav"


@pytest.fixture
def run(trained, tmp_path):
    """`run(*options, system=)`: the command on a model; returns the output's folder."""

    def get(*options, system="aware"):
        config, model = trained(system)
        out = ["--output_dir", str(tmp_path / "out")]
        session_inference.main(["--config", config, "--model", model, *out, *map(str, options)])
        return tmp_path / "out"

    return get


def pipe(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))


def raw(samples):
    return (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()


FIXED = ("--segmentation", "fixed", "--max_segment", "2")


class TestRecordings:
    def test_a_recording_gets_text_subtitles_and_word_times(self, run, wav):
        out = run(wav, *FIXED)
        assert {path.name for path in out.iterdir()} == {f"talk.{end}" for end in ("txt", "srt", "vtt", "ctm")}
        words = [line.split() for line in (out / "talk.ctm").read_text().splitlines()]
        assert [w for line in (out / "talk.txt").read_text().splitlines() for w in line.split()[2:]] == [w[4] for w in words]
        starts = [float(word[2]) for word in words]
        assert starts == sorted(starts) and 2.5 < starts[-1] < soundfile.info(wav).duration  # in a later piece
        assert (out / "talk.srt").read_text().startswith("1\n00:00:0") and (out / "talk.vtt").read_text().startswith("WEBVTT\n")

    def test_stereo_at_another_rate_is_taken(self, run, tmp_path, speech):
        soundfile.write(tmp_path / "talk.wav", np.stack([speech[0]] * 2, 1), 8000)
        assert (run(tmp_path / "talk.wav", *FIXED) / "talk.ctm").read_text()

    @pytest.mark.parametrize(
        "samples, message",
        [
            (np.zeros(0), "a recording without samples"),
            (np.array([0.1, np.nan] * 16000, np.float32), "talk at 0.0 s: .* samples are not finite numbers"),
        ],
    )
    def test_what_cannot_be_recognised_is_said_and_nothing_is_written(self, run, tmp_path, samples, message):
        soundfile.write(tmp_path / "talk.wav", samples, RATE, subtype="FLOAT")
        with pytest.raises(UserError, match=message):
            run(tmp_path / "talk.wav", *FIXED)
        assert not (tmp_path / "out").exists()

    def test_twenty_milliseconds_have_no_words(self, run, tmp_path):
        soundfile.write(tmp_path / "talk.wav", np.full(320, 0.1), RATE)
        assert (run(tmp_path / "talk.wav", *FIXED) / "talk.txt").read_text() == ""

    @pytest.mark.parametrize(
        "options, message",
        [
            ((), "name recordings"),
            (("a/talk.wav", "b/talk.wav", "--session", "x"), "--session names one session, and there are 2 recordings"),
            (("gone.wav",), "cannot read gone.wav: no such file"),
            (("-", "--pack", "x.zip"), "name the model by --pack, or by --config and --model"),
        ],
    )
    def test_options_that_do_not_go_together_are_refused(self, run, options, message):
        with pytest.raises(UserError, match=message):
            run(*options)


class TestPipe:
    def test_utterances_are_printed_as_they_end(self, run, monkeypatch, capsys, wav):
        samples, _ = soundfile.read(wav, dtype="float32")
        pipe(monkeypatch, raw(samples))
        out = run("-", *FIXED)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == 3 and printed[0].startswith("00:00:00.000 00:00:0")
        assert (out / "pipe.txt").read_text().splitlines() == printed

    def test_a_session_goes_on_from_its_state_and_no_other(self, run, monkeypatch, tmp_path, speech):
        state = tmp_path / "state.safetensors"
        pipe(monkeypatch, raw(speech[0]))
        run("-", *FIXED, "--session", "monday", "--save_state", state)
        pipe(monkeypatch, raw(speech[1]))
        run("-", *FIXED, "--session", "monday", "--load_state", state, "--save_state", state)
        pipe(monkeypatch, raw(speech[1]))
        with pytest.raises(UserError, match="unknown session 'tuesday'; begun: monday"):
            run("-", *FIXED, "--session", "tuesday", "--load_state", state)


class TestSets:
    @pytest.fixture
    def data(self, tmp_path, speech):
        for name, samples in zip(("a-1", "a-2", "b-1"), speech):
            soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
        names = {"a-1": "-", "a-2": "a-1", "b-1": "-"}
        write_table(tmp_path / "data/wav.scp", {name: str(tmp_path / f"{name}.wav") for name in names})
        write_table(tmp_path / "data/utt2prev", names)
        return tmp_path / "data"

    def test_sessions_of_a_set_are_decoded_side_by_side(self, run, data, trained):
        out = run("--data_dir", data)
        recognizer = SessionRecognizer.from_files(*trained("aware"))
        for utt, text in read_table(out / "text").items():
            samples, _ = soundfile.read(data.parent / f"{utt}.wav", dtype="float32")
            assert recognizer.recognize(samples, utt[0]).text == text.strip()
        assert (out / "ctm").exists() and len(read_table(out / "token_time")) == 3


class TestPack:
    @pytest.fixture(scope="class")
    def pack(self, trained, tmp_path_factory):
        from espnet2.main_funcs.pack_funcs import pack

        config, model = trained("aware")
        path = tmp_path_factory.mktemp("pack") / "asr_aware.zip"
        pack(files={"asr_model_file": model}, yaml_files={"asr_train_config": config}, outpath=str(path))
        return path

    def test_a_pack_says_what_its_training_says(self, pack, trained, speech):
        packed, unpacked = SessionRecognizer.from_pretrained(pack), SessionRecognizer.from_files(*trained("aware"))
        assert packed.recognize(speech[0]) == unpacked.recognize(speech[0])

    def test_a_pack_without_a_memory_takes_no_state_of_one(self, pack, trained, speech, tmp_path):
        remembering = SessionRecognizer.from_files(*trained("carry"))
        remembering.recognize(speech[0])
        remembering.save(tmp_path / "state")
        with pytest.raises(UserError, match="state holds the memory of model .*, and this model takes no state at all"):
            session_inference.main(
                ["--pack", str(pack), "--load_state", str(tmp_path / "state"), "--output_dir", str(tmp_path), "-"]
            )

    def test_what_is_no_pack_is_said(self, pack, tmp_path):
        with pytest.raises(UserError, match="no such pack: gone.zip"):
            SessionRecognizer.from_pretrained("gone.zip")
        (tmp_path / "a.zip").write_bytes(pack.read_bytes()[:1000])
        with pytest.raises(UserError, match="a.zip is not a model that ESPnet packed"):
            SessionRecognizer.from_pretrained(tmp_path / "a.zip")
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as z:
            z.writestr("notes.txt", "nothing")
        with pytest.raises(UserError, match="b.zip is not a model that ESPnet packed"):
            SessionRecognizer.from_pretrained(tmp_path / "b.zip")

    def test_the_pack_of_another_task_is_refused(self, trained, tmp_path):
        from espnet2.main_funcs.pack_funcs import pack

        config, model = trained("aware")
        files = {"files": {"classification_model_file": model}, "yaml_files": {"classification_train_config": config}}
        pack(**files, outpath=str(tmp_path / "cls.zip"))
        with pytest.raises(UserError, match="cls.zip holds .*classification_model_file.*: the model of an asr or slu task"):
            SessionRecognizer.from_pretrained(tmp_path / "cls.zip")


def test_a_model_that_is_fed_text_asks_how_that_was_made(trained):
    with pytest.raises(UserError, match="--context_json dump/context/<tag>/<training set>/context.json"):
        SessionRecognizer.from_files(*trained("prev_text"))


def test_a_record_of_something_else_is_refused(trained, tmp_path):
    (tmp_path / "context.json").write_text(json.dumps({"generation": {}}))
    with pytest.raises(UserError, match="is not the record of a whole context archive"):
        SessionRecognizer.from_files(*trained("prev_text"), context={"context_json": tmp_path / "context.json"})

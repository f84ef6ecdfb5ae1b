"""check_data, perturb_data, format_wav_scp, filter_data, make_token_list and merge_config."""

import logging
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import soundfile
import yaml

from espnet_ctx.bin import check_data, filter_data, format_wav_scp, make_token_list, merge_config, perturb_data
from espnet_ctx.context.sessions import histories
from espnet_ctx.data_dir import read_data_dir, write_data_dir
from espnet_ctx.files import UserError, read_table, write_table

FS = 16000
REAL_SPEECH = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL_SETS = (("slue-voxpopuli-sub", "ogg"), ("librispeech-dev-clean-mp3", "mp3"))


def tone(seconds: float, fs: int = FS, hertz: float = 440.0) -> np.ndarray:
    """(N,) samples."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * fs)) / fs)).astype(np.float32)


def pitch(samples: np.ndarray, fs: int) -> float:
    """The strongest frequency in Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * fs / len(samples))


@pytest.fixture
def data(tmp_path):
    """Three utterances of one session: 0.5, 1 and 1.5 s."""
    for i in (1, 2, 3):
        soundfile.write(tmp_path / f"u{i}.wav", tone(i / 2), FS)
    tables = {
        "wav.scp": {f"u{i}": str(tmp_path / f"u{i}.wav") for i in (1, 2, 3)},
        "text": {"u1": "one", "u2": "two words", "u3": "three"},
        "utt2spk": dict.fromkeys(("u1", "u2", "u3"), "spk"),
        "utt2prev": {"u1": "-", "u2": "u1", "u3": "u2"},
        "utt2topic": dict.fromkeys(("u1", "u2", "u3"), "baking"),
    }
    write_data_dir(tmp_path / "data", tables)
    return tmp_path / "data"


def change(path, **entries) -> None:
    """Set entries of a table; None removes one."""
    table = {**read_table(path), **entries}
    write_table(path, {key: value for key, value in table.items() if value is not None})


class TestCheckData:
    def test_a_sound_directory_passes_in_silence(self, data, caplog):
        check_data.check_data_dir(data)
        assert not caplog.records

    @pytest.mark.parametrize(
        "name, entries, message",
        [
            ("wav.scp", {"u2": None}, r"text has 1 utterances that .*wav.scp lacks, the first is 'u2'"),
            ("wav.scp", {"u4": "x.wav"}, r"wav.scp has 1 utterances that .*text lacks, the first is 'u4'"),
            ("utt2spk", {"u2": ""}, "utterance 'u2' needs one speaker"),
            ("utt2spk", {"u2": "s(1)"}, r"'u2 s\(1\)': '\(' may not stand in an id"),
            ("utt2prev", {"u1": "u3"}, "cycle"),
            ("utt2prev", {"x": "u1"}, "neither in text nor in prev_text, the first is 'x'"),
            ("spk2utt", {"spk": "u1 u2"}, "spk2utt does not follow from utt2spk"),
        ],
    )
    def test_says_what_is_wrong_and_where(self, data, name, entries, message):
        change(data / name, **entries)
        with pytest.raises(UserError, match=message):
            check_data.check_data_dir(data)

    def test_unsorted_missing_and_empty_files(self, data, tmp_path):
        (data / "text").write_text("u2 b\nu1 a\nu3 c\n")
        with pytest.raises(UserError, match="text is not sorted: 'u1' comes after 'u2'; mend it with: LC_ALL=C sort"):
            check_data.check_data_dir(data)
        (data / "text").write_text("")
        with pytest.raises(UserError, match="text is empty"):
            check_data.check_data_dir(data)
        (data / "text").unlink()
        with pytest.raises(UserError, match="no such file: .*text"):
            check_data.check_data_dir(data)
        with pytest.raises(UserError, match="no such data directory: .*nowhere"):
            check_data.main([str(tmp_path / "nowhere")])

    def test_gaps_in_utt2prev_and_empty_texts_are_warnings(self, data, caplog):
        change(data / "utt2prev", u2=None, u3="gone")
        change(data / "text", u1="")
        check_data.check_data_dir(data)
        said = " ".join(record.getMessage() for record in caplog.records)
        assert "no line for 1 utterances, the first is 'u2'" in said
        assert "'u3 gone'" in said
        assert "1 texts are empty, the first of 'u1'" in said

    def test_segments_must_name_recordings(self, data):
        write_table(data / "segments", {"u1": "rec 0 1", "u2": "rec 1 2", "u3": "other 0 1"})
        write_table(data / "wav.scp", {"rec": "rec.wav"})
        with pytest.raises(UserError, match="segments names recordings that wav.scp lacks, the first is 'other'"):
            check_data.check_data_dir(data)


class TestFormatWavScp:
    def format(self, data, *options):
        out = data.parent / "out"
        format_wav_scp.main(["--data_dir", str(data), "--out", str(out), *options])
        return out

    def test_files_that_are_right_stay_where_they_are(self, data):
        out = self.format(data, "--nj", "2")
        assert read_table(out / "wav.scp") == read_table(data / "wav.scp")
        assert read_table(out / "utt2num_samples") == {"u1": "8000", "u2": "16000", "u3": "24000"}
        assert not (out / "audio").exists()
        for name in ("text", "utt2spk", "spk2utt", "utt2prev", "utt2topic"):
            assert (out / name).read_text() == (data / name).read_text()
        check_data.check_data_dir(out)

    def test_another_rate_is_resampled(self, data, tmp_path):
        soundfile.write(tmp_path / "u1.wav", tone(0.5, 8000), 8000)
        soundfile.write(tmp_path / "u2.wav", tone(1, 44100), 44100)
        out = self.format(data)
        for utt, seconds in (("u1", 0.5), ("u2", 1.0)):
            samples, fs = soundfile.read(read_table(out / "wav.scp")[utt])
            assert fs == FS
            assert len(samples) == seconds * FS
            assert pitch(samples, fs) == pytest.approx(440, abs=3)
            assert np.abs(samples).max() == pytest.approx(0.5, abs=0.03)
        assert read_table(out / "wav.scp")["u3"] == str(tmp_path / "u3.wav")

    def test_stereo_becomes_the_mean_of_its_channels_with_a_warning(self, data, tmp_path, caplog):
        soundfile.write(tmp_path / "u1.wav", np.stack([tone(0.5), np.zeros(8000)], axis=1), FS)
        out = self.format(data)
        samples, _ = soundfile.read(read_table(out / "wav.scp")["u1"])
        np.testing.assert_allclose(samples, tone(0.5) / 2, atol=1e-4)
        assert "1 recordings have several channels; their mean is used" in caplog.text

    def test_other_formats_and_pipes_become_files(self, data, tmp_path):
        soundfile.write(tmp_path / "u1.ogg", tone(0.5), FS)
        change(data / "wav.scp", u1=str(tmp_path / "u1.ogg"), u2=f"cat {tmp_path}/u2.wav |")
        wavs = read_table(self.format(data, "--audio_format", "wav") / "wav.scp")
        assert [soundfile.info(wavs[utt]).format for utt in ("u1", "u2")] == ["WAV", "WAV"]
        np.testing.assert_allclose(soundfile.read(wavs["u2"])[0], tone(1), atol=1e-4)

    def test_segments_cut_recordings(self, data, tmp_path):
        write_table(data / "segments", {"u1": "rec 0 0.25", "u2": "rec 0.25 1.0", "u3": "rec 1.0 -1"})
        write_table(data / "wav.scp", {"rec": str(tmp_path / "u3.wav")})
        out = self.format(data)
        assert read_table(out / "utt2num_samples") == {"u1": "4000", "u2": "12000", "u3": "8000"}
        np.testing.assert_allclose(soundfile.read(read_table(out / "wav.scp")["u2"])[0], tone(1.5)[4000:16000], atol=1e-4)
        write_table(data / "segments", {"u1": "rec 0", "u2": "rec 0 1", "u3": "rec 0 1"})
        with pytest.raises(UserError, match="segments: 'u1 rec 0': expected"):
            self.format(data)

    def test_every_faulty_recording_is_named(self, data, tmp_path):
        (tmp_path / "u1.wav").write_bytes(b"no sound")
        soundfile.write(tmp_path / "u2.wav", np.zeros(0, np.float32), FS)
        change(data / "wav.scp", u3=str(tmp_path / "gone.wav"))
        with pytest.raises(UserError) as error:
            self.format(data)
        first, u1, u2, u3 = str(error.value).splitlines()
        assert first == "3 of 3 recordings cannot be used:"
        assert f"u1 ({tmp_path}/u1.wav)" in u1
        assert "it has no samples" in u2
        assert "No such file" in u3
        assert not (data.parent / "out/wav.scp").exists()

    def test_whole_files_are_kept_and_stale_ones_made_again(self, data, tmp_path):
        soundfile.write(tmp_path / "u1.wav", tone(0.5, 8000), 8000)
        made = read_table(self.format(data) / "wav.scp")["u1"]
        written = Path(made).stat().st_mtime_ns
        assert read_table(self.format(data) / "wav.scp")["u1"] == made
        assert Path(made).stat().st_mtime_ns == written
        soundfile.write(tmp_path / "u1.wav", tone(1, 8000), 8000)
        assert read_table(self.format(data) / "utt2num_samples")["u1"] == "16000"

    def test_real_recordings(self, data):
        found = [sorted((REAL_SPEECH / folder).rglob(f"*.{suffix}"))[:3] for folder, suffix in REAL_SETS]
        if not all(found):
            pytest.skip(f"no real recordings in {REAL_SPEECH}")
        wavs = {f"{i}-{path.stem}": str(path) for i, paths in enumerate(found) for path in paths}
        utts = {"text": dict.fromkeys(wavs, "a"), "utt2spk": dict.fromkeys(wavs, "s")}
        write_data_dir(data.parent / "real", {"wav.scp": wavs, **utts})
        format_wav_scp.main(["--data_dir", str(data.parent / "real"), "--out", str(data.parent / "out"), "--nj", "2"])
        num_samples = read_table(data.parent / "out/utt2num_samples")
        for utt, path in read_table(data.parent / "out/wav.scp").items():
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.frames) == (FS, 1, int(num_samples[utt]))
            assert info.duration == pytest.approx(soundfile.info(wavs[utt]).duration, abs=0.05)


class TestPerturbData:
    def perturb(self, data, factors):
        out = data.parent / "sp"
        perturb_data.main(["--data_dir", str(data), "--out", str(out), "--factors", factors])
        return out

    def test_copies_form_sessions_of_their_own(self, data):
        tables = read_data_dir(self.perturb(data, "0.9 1.0"))
        assert tables["text"]["sp0.9-u2"] == tables["text"]["u2"] == "two words"
        assert tables["utt2spk"] == {
            **dict.fromkeys(("u1", "u2", "u3"), "spk"),
            **dict.fromkeys(("sp0.9-u1", "sp0.9-u2", "sp0.9-u3"), "sp0.9-spk"),
        }
        assert tables["utt2prev"]["sp0.9-u2"] == "sp0.9-u1"
        assert tables["utt2prev"]["sp0.9-u1"] == "-"
        assert tables["utt2src"] == {utt: utt.removeprefix("sp0.9-") for utt in tables["text"]}
        assert tables["utt2topic"]["sp0.9-u3"] == "baking"
        check_data.check_data_dir(data.parent / "sp")

    def test_previous_texts_outside_the_set_are_shared(self, data):
        write_table(data / "prev_text", {"u0": "before"})
        change(data / "utt2prev", u1="u0")
        out = self.perturb(data, "0.9 1.0")
        assert histories(out, 2)["sp0.9-u2"] == ["before", "one"]

    @pytest.mark.parametrize("factor", [0.9, 1.1])
    def test_length_and_pitch_follow_the_factor(self, data, factor):
        sp = self.perturb(data, f"{factor}")
        out = data.parent / "out"
        format_wav_scp.main(["--data_dir", str(sp), "--out", str(out)])
        samples, fs = soundfile.read(read_table(out / "wav.scp")[f"sp{factor}-u2"])
        assert fs == FS
        assert len(samples) == pytest.approx(FS / factor, abs=1)
        assert pitch(samples, fs) == pytest.approx(440 * factor, abs=2)
        assert not (out / "utt2speed").exists()

    @pytest.mark.parametrize("factors", ["", "fast", "0.9 0.9", "0", "3"])
    def test_refuses_other_factors(self, data, factors):
        with pytest.raises(UserError, match="--speed_perturb_factors"):
            self.perturb(data, factors)


class TestFilterData:
    def filter(self, data, *options):
        write_table(data / "utt2num_samples", {"u1": "8000", "u2": "16000", "u3": "24000"})
        filter_data.main(["--data_dir", str(data), "--out", str(data.parent / "kept"), *options])
        return data.parent / "kept"

    def test_keeps_all_that_is_within_the_bounds(self, data):
        kept = self.filter(data)
        for name in ("wav.scp", "text", "utt2spk", "spk2utt", "utt2prev", "utt2topic", "utt2num_samples"):
            assert (kept / name).read_text() == (data / name).read_text()
        assert not (kept / "prev_text").exists()

    def test_the_text_of_a_removed_utterance_stays_in_the_history(self, data, caplog):
        before = histories(data, 3)
        kept = self.filter(data, "--min_wav_duration", "0.5", "--max_wav_duration", "3")
        assert list(read_table(kept / "wav.scp")) == ["u2", "u3"]
        assert read_table(kept / "prev_text") == {"u1": "one"}
        assert histories(kept, 3) == {utt: before[utt] for utt in ("u2", "u3")}
        check_data.check_data_dir(kept)
        assert "removed 1 utterances (too short), the first is 'u1'" in caplog.text

    def test_a_history_passes_through_several_removed_utterances(self, data):
        before = histories(data, 3)
        kept = self.filter(data, "--min_wav_duration", "1.2")
        assert histories(kept, 3) == {"u3": before["u3"]} == {"u3": ["one", "two words"]}
        check_data.check_data_dir(kept)

    def test_empty_texts_are_dropped_with_a_warning(self, data, caplog):
        change(data / "text", u2="")
        kept = self.filter(data)
        assert list(read_table(kept / "text")) == ["u1", "u3"]
        assert "removed 1 utterances (empty text), the first is 'u2'" in caplog.text
        with caplog.at_level(logging.ERROR):
            assert histories(kept, 2)["u3"] == ["one"]

    def test_nothing_left_is_an_error_that_names_the_options(self, data):
        with pytest.raises(UserError, match="no utterance .* is left: see --min_wav_duration"):
            self.filter(data, "--min_wav_duration", "9")

    def test_needs_the_lengths(self, data):
        with pytest.raises(UserError, match="no utt2num_samples: run stage 3"):
            filter_data.main(["--data_dir", str(data), "--out", str(data.parent / "kept")])


class TestMakeTokenList:
    def test_characters_by_frequency(self, data):
        make_token_list.main(["--text", str(data / "text"), "--token_type", "char", "--out", str(data.parent / "tokens")])
        tokens = (data.parent / "tokens/tokens.txt").read_text().split("\n")[:-1]
        assert tokens[:2] == ["<blank>", "<unk>"]
        assert tokens[2:6] == ["e", "o", "r", "t"]  # 3, 3, 2, 2 of them
        assert "<space>" in tokens
        assert tokens[-1] == "<sos/eos>"
        assert len(tokens) == len(set(tokens)) == 3 + len(set("onetwowordsthree")) + 1

    def test_pieces_of_a_sentencepiece_model(self, tmp_path):
        write_table(tmp_path / "text", {f"u{i}": "the flour of the mill and the flower of the garden" for i in range(20)})
        make_token_list.main(
            ["--text", str(tmp_path / "text"), "--token_type", "bpe", "--nbpe", "20", "--out", str(tmp_path / "tokens")]
        )
        tokens = (tmp_path / "tokens/tokens.txt").read_text().splitlines()
        processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokens/bpe.model"))
        assert set(processor.encode("the flower", out_type=str)) <= set(tokens)
        assert len(tokens) == 20  # <unk> <s> </s> give way to <blank> <unk> <sos/eos>

    def test_tags_are_one_piece_each(self, tmp_path):
        texts = {f"u{i}": "the flour of $ anna ] and the mill of % paris ]" for i in range(20)}
        write_table(tmp_path / "text", texts)
        options = ["--token_type", "bpe", "--nbpe", "28", "--tags", "combined"]
        make_token_list.main(["--text", str(tmp_path / "text"), *options, "--out", str(tmp_path / "tokens")])
        tokens = (tmp_path / "tokens/tokens.txt").read_text().splitlines()
        assert {f"▁{tag}" for tag in "!@#$%^&]"} <= set(tokens)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokens/bpe.model"))
        pieces = processor.encode(texts["u0"], out_type=str)
        assert [piece for piece in pieces if piece[1:] and piece[1:] in "$%]"] == ["▁$", "▁]", "▁%", "▁]"]
        assert processor.decode(pieces) == texts["u0"]

    def test_classes_are_words(self, tmp_path):
        write_table(tmp_path / "labels", {"a": "Positive", "b": "Negative", "c": "Positive", "d": "Neutral"})
        make_token_list.main(["--text", str(tmp_path / "labels"), "--token_type", "word", "--out", str(tmp_path / "tokens")])
        assert (tmp_path / "tokens/tokens.txt").read_text().splitlines() == ["Negative", "Neutral", "Positive", "<unk>"]

    def test_too_many_pieces_are_refused(self, data):
        with pytest.raises(UserError, match="cannot make 500 pieces"):
            make_token_list.main(
                ["--text", str(data / "text"), "--token_type", "bpe", "--nbpe", "500", "--out", str(data.parent / "tokens")]
            )
        assert not (data.parent / "tokens/tokens.txt").exists()


class TestMergeConfig:
    def test_a_mapping_marked_replace_is_not_merged(self, tmp_path):
        (tmp_path / "a.yaml").write_text("model_conf: {ctc_weight: 1.0, report_wer: false}\nmodel: a\n")
        (tmp_path / "b.yaml").write_text("model_conf: !replace {weights: [1, 2]}\n")
        (tmp_path / "c.yaml").write_text("model_conf: {alpha: 0.5}\n")
        files = [str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.yaml")]
        merge_config.main([*files, "--out", str(tmp_path / "out.yaml")])
        merged = yaml.safe_load((tmp_path / "out.yaml").read_text())
        assert merged == {"model": "a", "model_conf": {"weights": [1, 2], "alpha": 0.5}}
        merge_config.main([files[1], "--out", str(tmp_path / "out.yaml")])  # with nothing below it
        assert yaml.safe_load((tmp_path / "out.yaml").read_text()) == {"model_conf": {"weights": [1, 2]}}

    def test_nested_keys_merge_and_others_are_replaced(self, tmp_path):
        (tmp_path / "a.yaml").write_text(
            "encoder_conf: {upstream_conf: {layers: last}}\noptim_conf: {lr: 1.0e-3}\nbetas: [1, 2]\n"
        )
        (tmp_path / "b.yaml").write_text("encoder_conf: {injection_conf: {gate_init: 0.1}}\nbetas: [3]\nalpha: 0.5\n")
        (tmp_path / "none.yaml").write_text("# nothing\n")
        out = tmp_path / "out/train.yaml"
        merge_config.main([str(tmp_path / name) for name in ("a.yaml", "b.yaml", "none.yaml")] + ["--out", str(out)])
        assert yaml.safe_load(out.read_text()) == {
            "encoder_conf": {"upstream_conf": {"layers": "last"}, "injection_conf": {"gate_init": 0.1}},
            "optim_conf": {"lr": 1.0e-3},
            "betas": [3],
            "alpha": 0.5,
        }

    @pytest.mark.parametrize(
        "content, message", [(None, "no such configuration"), ("a: [", "not valid YAML"), ("- a", "got a list")]
    )
    def test_refuses_what_is_no_configuration(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "a.yaml").write_text(content)
        with pytest.raises(UserError, match=message):
            merge_config.main([str(tmp_path / "a.yaml"), "--out", str(tmp_path / "out.yaml")])
        assert not (tmp_path / "out.yaml").exists()

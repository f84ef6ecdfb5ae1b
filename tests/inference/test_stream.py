"""Recordings as streams, cut into utterances, and what is written about them."""

import io
import shutil
import subprocess
import wave

import numpy as np
import pytest
import soundfile

from espnet_ctx.files import UserError
from espnet_ctx.inference.ctc import Timed
from espnet_ctx.inference.segmentation import fixed, voice_activity
from espnet_ctx.inference.stream import read_file, read_pipe
from espnet_ctx.inference.subtitles import ctm, cues, srt, vtt

RATE = 16000


def tone(seconds, rate=RATE):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def joined(blocks):
    return np.concatenate(list(blocks))


class Drip(io.RawIOBase):
    """A pipe that gives a few bytes at a time and cannot be rewound."""

    def __init__(self, data):
        self.data = data

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), 1001, len(self.data))
        buffer[:size], self.data = self.data[:size], self.data[size:]
        return size


def wav_bytes(samples, rate=RATE, channels=1, width=2):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as f:
        f.setnchannels(channels)
        f.setsampwidth(width)
        f.setframerate(rate)
        f.writeframes((samples * (2 ** (8 * width - 1) - 1)).astype(f"<i{width}").tobytes())
    return stream.getvalue()


class TestFiles:
    def test_samples_come_as_they_are(self, tmp_path):
        soundfile.write(tmp_path / "a.flac", tone(1.3), RATE)
        seconds, blocks = read_file(tmp_path / "a.flac")
        assert seconds == pytest.approx(1.3) and np.abs(joined(blocks) - tone(1.3)).max() < 1e-4

    def test_stereo_at_8_khz_becomes_one_channel_at_16(self, tmp_path, caplog):
        stereo = np.stack([tone(2, 8000), np.zeros(16000, np.float32)], 1)
        soundfile.write(tmp_path / "a.wav", stereo, 8000)
        seconds, blocks = read_file(tmp_path / "a.wav")
        samples = joined(blocks)
        assert seconds == 2 and abs(len(samples) - 2 * RATE) <= 1
        assert np.abs(samples[1000:-1000] - tone(2)[1000 : len(samples) - 1000] / 2).max() < 0.01
        assert "a.wav has 2 channels; their mean is used" in caplog.text

    @pytest.mark.parametrize(
        "content, message", [(None, "no such file"), (b"", "an empty file"), (b"RIFF and nothing", "not a recording")]
    )
    def test_what_is_no_recording_is_named(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "a.wav").write_bytes(content)
        with pytest.raises(UserError, match=f"cannot read .*a.wav: {message}"):
            read_file(tmp_path / "a.wav")

    def test_a_file_without_samples_is_named(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
        with pytest.raises(UserError, match="a.wav: a recording without samples"):
            read_file(tmp_path / "a.wav")


class TestPipes:
    @pytest.mark.parametrize("width", [2, 4])
    def test_a_wav_says_its_own_rate_and_channels(self, width):
        stereo = np.stack([tone(1, 8000)] * 2, 1)
        samples = joined(read_pipe(io.BufferedReader(Drip(wav_bytes(stereo, 8000, 2, width))), fs=48000))
        assert abs(len(samples) - RATE) <= 1 and np.abs(samples[1000:-1000] - tone(1)[1000 : len(samples) - 1000]).max() < 0.01

    def test_a_wav_whose_header_was_written_before_its_end_is_read_to_its_end(self):
        data = bytearray(wav_bytes(tone(1)))
        data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
        assert np.abs(joined(read_pipe(io.BytesIO(bytes(data)), RATE)) - tone(1)).max() < 1e-3

    def test_raw_samples_have_the_rate_that_is_said_and_half_a_sample_is_dropped(self):
        raw = wav_bytes(tone(1, 8000), 8000)[44:]
        samples = joined(read_pipe(io.BufferedReader(Drip(raw + b"\x01")), fs=8000))
        assert abs(len(samples) - RATE) <= 1 and np.abs(samples[1000:-1000]).max() == pytest.approx(0.3, abs=0.01)

    def test_what_cannot_be_read_is_said(self):
        with pytest.raises(UserError, match="samples of 3 bytes; PCM of 8, 16 or 32 bits is needed"):
            list(read_pipe(io.BytesIO(wav_bytes(tone(1), width=2).replace(b"\x02\x00\x10\x00", b"\x03\x00\x18\x00")), RATE))
        with pytest.raises(UserError, match="cannot be read"):
            list(read_pipe(io.BytesIO(b"RIFF"), RATE))

    def test_an_empty_pipe_says_nothing(self):
        assert [len(block) for block in read_pipe(io.BytesIO(b""), RATE)] == []


def blocks_of(samples, size=5000):
    return (samples[i : i + size] for i in range(0, len(samples), size))


class TestSegmentation:
    def test_fixed_pieces_hold_everything_once_and_are_cut_where_it_is_quiet(self):
        sound = np.concatenate([tone(1.8), np.zeros(3200, np.float32), tone(3.3)])
        pieces = list(fixed(blocks_of(sound), longest=2.0))
        assert np.array_equal(np.concatenate([p.samples for p in pieces]), sound)
        assert 1.8 <= pieces[1].start <= 2.0  # in the pause
        assert all(len(p.samples) <= 2 * RATE for p in pieces)
        starts = np.cumsum([0, *(len(p.samples) for p in pieces[:-1])]) / RATE
        assert [p.start for p in pieces] == pytest.approx(list(starts))

    def test_three_hours_are_cut_without_being_held(self):
        hour = (np.zeros(60 * RATE, np.float32) for _ in range(180))
        count, longest = 0, 0
        for piece in fixed(hour, longest=20.0):
            count, longest = count + 1, max(longest, len(piece.samples))
        assert count >= 540 and longest <= 20 * RATE

    def test_a_length_below_a_second_is_refused(self):
        with pytest.raises(UserError, match="--max_segment is 0.5 s: must be at least 1"):
            list(fixed(iter([]), 0.5))

    @pytest.fixture(scope="class")
    def spoken(self, tmp_path_factory):
        """A sentence of espeak-ng at 16 kHz."""
        if shutil.which("espeak-ng") is None:
            pytest.skip("espeak-ng is not installed")
        wav = tmp_path_factory.mktemp("spoken") / "a.wav"
        subprocess.run(["espeak-ng", "-w", str(wav), "the captain sailed the old boat into the harbour"], check=True)
        return joined(read_file(wav)[1])

    def test_voice_is_found_between_silences(self, spoken):
        quiet = np.random.default_rng(0).normal(0, 1e-4, 2 * RATE).astype(np.float32)
        sound = np.concatenate([quiet, spoken, quiet, spoken, quiet])
        first, second = voice_activity(blocks_of(sound, 7001), longest=20.0)
        length = len(spoken) / RATE
        for segment, start in ((first, 2.0), (second, 4.0 + length)):
            end = segment.start + len(segment.samples) / RATE
            assert segment.start == pytest.approx(start, abs=0.4) and end == pytest.approx(start + length, abs=0.6)
            begin = round(segment.start * RATE)
            assert np.array_equal(sound[begin : begin + len(segment.samples)], segment.samples)

    def test_silence_has_no_utterance_and_long_speech_is_cut(self, spoken):
        assert list(voice_activity(blocks_of(np.zeros(5 * RATE, np.float32)), 20.0)) == []
        segments = list(voice_activity(blocks_of(np.concatenate([spoken] * 3)), longest=2.0))
        assert len(segments) >= 4 and all(len(s.samples) <= 2 * RATE for s in segments)
        ends = [s.start + len(s.samples) / RATE for s in segments]
        assert all(a <= b.start + 1e-9 for a, b in zip(ends, segments[1:]))


class TestSubtitles:
    words = [
        Timed("good", 0.5, 0.7, 0.9), Timed("morning", 0.8, 1.2, 0.8), Timed("<b>", 3600.5, 3601.25, 1.0),
    ]  # fmt: skip

    def test_a_pause_parts_them_and_they_linger_but_do_not_overlap(self):
        first, second = cues([self.words])
        assert first == (0.5, pytest.approx(1.7), "good morning") and second[:2] == (3600.5, pytest.approx(3601.75))
        near = cues([[Timed("a", 0.0, 0.1, 1.0), Timed("b", 1.2, 1.3, 1.0)]])
        assert near[0].end == pytest.approx(0.6) and near[1].start == 1.2

    def test_long_speech_is_parted_by_two_lines(self):
        words = [Timed("word", i / 4, i / 4 + 0.2, 1.0) for i in range(40)]
        found = cues([words[:7], [], words[7:]])
        assert all(len(line) <= 42 for cue in found for line in cue.text.split("\n"))
        assert all(cue.text.count("\n") <= 1 for cue in found)
        assert found[0].text == "word word word word word word word"  # another utterance is another subtitle
        assert " ".join(cue.text.replace("\n", " ") for cue in found).split() == ["word"] * 40
        assert all(a.end <= b.start for a, b in zip(found, found[1:]))

    def test_formats(self):
        assert srt(cues([self.words])) == (
            "1\n00:00:00,500 --> 00:00:01,700\ngood morning\n\n2\n01:00:00,500 --> 01:00:01,750\n<b>\n"
        )
        assert vtt(cues([self.words])) == (
            "WEBVTT\n\n00:00:00.500 --> 00:00:01.700\ngood morning\n\n01:00:00.500 --> 01:00:01.750\n&lt;b&gt;\n"
        )
        assert ctm("talk", self.words[:1]) == "talk 1 0.500 0.200 good 0.9000\n"
        assert srt([]) == "" and vtt([]) == "WEBVTT\n"

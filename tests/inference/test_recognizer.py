"""The recogniser: batches, precision, times, bad input; and the command that decodes a data directory."""

import numpy as np
import pytest
import soundfile
import torch

from espnet_ctx.bin import align_text, ctc_inference
from espnet_ctx.files import UserError, read_table, write_table
from espnet_ctx.inference.recognizer import CTCRecognizer


@pytest.fixture(scope="module")
def recognizer(trained):
    return CTCRecognizer(*trained("aware"))


def test_a_batch_equals_one_by_one(recognizer, speech):
    for together, samples in zip(recognizer(speech), speech, strict=True):
        [alone] = recognizer([samples])
        assert len(together.token_ids) > 5  # it says something
        assert together.token_ids == alone.token_ids and together.spans == alone.spans
        assert together.score == pytest.approx(alone.score, rel=1e-4)


def test_tokens_and_words_have_the_times_of_their_frames(recognizer, speech):
    [hypothesis] = recognizer(speech[:1])
    assert recognizer.seconds_per_frame == pytest.approx(0.02)
    tokens = recognizer.timed_tokens(hypothesis, offset=3.0)
    assert [t.text for t in tokens] == recognizer.text(hypothesis)[0]
    assert all(3 <= a.start < a.end <= b.start + 1e-9 for a, b in zip(tokens, tokens[1:])) and tokens[-1].end <= 4
    words = recognizer.timed_words(hypothesis, offset=3.0)
    assert " ".join(w.text for w in words) == " ".join(recognizer.text(hypothesis)[1].split())
    first = [t for t in tokens if t.text != "<space>"][0]
    assert words[0].start == first.start and words[0].confidence <= first.confidence


def test_aligning_what_was_recognised_gives_its_tokens(recognizer, speech):
    hypotheses = recognizer(speech)
    for log_probs, length, hypothesis in zip(*recognizer.log_probs(speech), hypotheses, strict=True):
        text = "".join(recognizer.text(hypothesis)[0]).replace("<space>", " ")
        if "<" in text:  # of a random model
            continue
        aligned = recognizer.align(log_probs, int(length), text)
        assert aligned.token_ids == hypothesis.token_ids and aligned.score >= hypothesis.score - 1e-2


@pytest.mark.parametrize("precision", [{"dtype": "bfloat16"}, {"quantize": True}])
def test_lower_precision_changes_probabilities_a_little(trained, recognizer, speech, precision):
    exact, lengths = recognizer.log_probs(speech)
    rough, rough_lengths = CTCRecognizer(*trained("aware"), **precision).log_probs(speech)
    assert rough.dtype == torch.float32 and rough_lengths.equal(lengths)
    inside = torch.arange(exact.size(1)) < lengths.unsqueeze(1)
    difference = (exact.exp() - rough.exp())[inside].abs()
    assert 0 < difference.mean() < 0.05


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dtype": "int4"}, "--dtype is 'int4': must be one of float32, bfloat16, float16"),
        ({"dtype": "float16"}, "--dtype float16 is for GPUs"),
        ({"dtype": "bfloat16", "quantize": True}, "--quantize_asr_model is for the CPU and --dtype float32"),
        ({"search": {"beam_size": 1}}, "--beam_size is 1"),
    ],
)
def test_bad_options_are_refused(trained, options, message):
    with pytest.raises(UserError, match=message):
        CTCRecognizer(*trained("aware"), **options)


class TestBadSpeech:
    def test_too_short_and_constant_speech_says_nothing_and_harms_no_neighbour(self, recognizer, speech):
        nothing = [np.zeros(0, np.float32), speech[0][:320], np.ones(16000, np.float32)]
        *empty, kept = recognizer([*nothing, speech[1]])
        assert [h.token_ids for h in empty] == [[], [], []]
        assert kept.token_ids == recognizer([speech[1]])[0].token_ids

    @pytest.mark.parametrize(
        "samples, message",
        [
            (np.zeros((16000, 2), np.float32), r"samples of shape \(16000, 2\); one channel"),
            (np.zeros(16000, np.int16), "samples are int16; floats in"),
            (np.full(16000, np.nan, np.float32), "16000 samples are not finite numbers, the first is number 0"),
            (np.zeros(3 * 3600 * 16000, np.float16), "10800 s; an utterance has at most 180 s"),
        ],
    )
    def test_what_cannot_be_decoded_is_refused(self, recognizer, samples, message):
        with pytest.raises(UserError, match=message):
            recognizer([samples])

    def test_clipped_speech_with_an_offset_is_decoded_with_finite_numbers(self, recognizer, speech):
        clipped = np.clip(speech[0] * 30 + 0.5, -1, 1)
        [hypothesis] = recognizer([clipped])
        assert np.isfinite(hypothesis.score) and np.isfinite(hypothesis.confidences).all()


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path, speech):
        names = ["a-1", "a-2", "b-1"]
        for name, samples in zip(names, speech):
            soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
        write_table(tmp_path / "data/wav.scp", {name: str(tmp_path / f"{name}.wav") for name in names})
        return tmp_path / "data"

    def run(self, trained, data, *options):
        config, model = trained("none")
        out = data.parent / "out"
        ctc_inference.main(
            ["--config", config, "--model", model, "--data_dir", str(data), "--output_dir", str(out), *options]
        )
        return out

    def test_tables_belong_together(self, trained, data):
        out = self.run(trained, data)
        tables = {name: read_table(out / name) for name in ("text", "token", "token_int", "token_time", "token_confidence")}
        for utt in ("a-1", "a-2", "b-1"):
            counts = {name: len(table[utt].split()) for name, table in tables.items() if name != "text"}
            assert len(set(counts.values())) == 1 and counts["token"] > 0
        rows = [line.split() for line in (out / "ctm").read_text().splitlines()]
        for utt, text in tables["text"].items():
            assert [row[4] for row in rows if row[0] == utt] == text.split()
        assert all(row[1] == "1" and 0 <= float(row[5]) <= 1 and len(row) == 6 for row in rows)

    def test_a_beam_finds_a_better_score_or_the_same(self, trained, data):
        greedy = {u: float(s) for u, s in read_table(self.run(trained, data) / "score").items()}
        beam = {u: float(s) for u, s in read_table(self.run(trained, data, "--beam_size", "5") / "score").items()}
        assert all(beam[utt] >= greedy[utt] - 1e-3 for utt in greedy)

    def test_an_ngram_without_a_beam_is_refused(self, trained, data):
        with pytest.raises(UserError, match="need a beam search: --beam_size above 1, such as 20; got 1"):
            self.run(trained, data, "--ngram_file", "4gram.arpa")

    def test_nan_samples_are_named(self, trained, data, speech):
        broken = speech[0].copy()
        broken[7] = np.nan
        soundfile.write(data.parent / "a-2.wav", broken, 16000, subtype="FLOAT")
        with pytest.raises(UserError, match="a-2.*: 1 samples are not finite numbers, the first is number 7"):
            self.run(trained, data)
        assert not (data.parent / "out").exists()

    def test_texts_are_aligned(self, trained, data):
        config, model = trained("none")
        texts = {"a-1": "a bad cab", "a-2": "", "b-1": "fed"}
        write_table(data / "text", texts)
        out = data.parent / "ref.ctm"
        options = ["--config", config, "--model", model, "--data_dir", str(data), "--out", str(out)]
        align_text.main(options)
        rows = [line.split() for line in out.read_text().splitlines()]
        assert [(row[0], row[4]) for row in rows] == [("a-1", "a"), ("a-1", "bad"), ("a-1", "cab"), ("b-1", "fed")]
        ends = [float(row[2]) + float(row[3]) for row in rows]
        assert 0 <= float(rows[0][2]) and ends[0] <= float(rows[1][2]) and ends[2] <= 1.0 and ends[3] <= 0.31
        write_table(data / "text", {**texts, "b-1": "fed" * 30})
        with pytest.raises(UserError, match="b-1: 90 tokens need at least 90 frames and the speech has 14: is this its text"):
            align_text.main(options)

    @pytest.mark.parametrize("channels, rate", [(1, 8000), (2, 16000)])
    def test_another_rate_and_several_channels_are_sent_to_stage_3(self, trained, data, channels, rate):
        soundfile.write(data.parent / "b-1.wav", np.zeros((rate, channels)), rate)
        message = f"b-1, .*: {rate} Hz and {channels} channel.*; 16000 Hz mono is needed: run stage 3"
        with pytest.raises(UserError, match=message):
            self.run(trained, data)

    def test_clipped_speech_is_decoded_and_it_is_said(self, trained, data, speech, caplog):
        soundfile.write(data.parent / "b-1.wav", np.clip(speech[0] * 30 + 0.5, -1, 1), 16000, subtype="FLOAT")
        assert read_table(self.run(trained, data) / "token")["b-1"]
        assert "b-1" in caplog.text and "% of the samples are clipped" in caplog.text

    def test_an_empty_file_is_named(self, trained, data):
        (data.parent / "b-1.wav").write_bytes(b"")
        with pytest.raises(UserError, match="cannot read the audio of b-1"):
            self.run(trained, data)

"""Sessions: side by side and alone, saved and restored, fed what they said; and what they refuse."""

import resource
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_ctx.files import UserError
from espnet_ctx.inference.recognizer import CTCRecognizer
from espnet_ctx.inference.session import SessionRecognizer
from tests.espnet.conftest import CONTEXT_DIM


class LengthContext:
    """Stands for an `OnlineContext`: the context depends on how long the previous texts were."""

    num_prev = 2

    def __init__(self):
        self.encoder = type("Encoder", (), {"dim": CONTEXT_DIM})
        self.seen = []

    def __call__(self, histories):
        self.seen.append([list(texts) for texts in histories])
        lengths = [sum(map(len, texts)) for texts in histories]
        return [(n > 0) * np.random.default_rng(n).normal(0, 1, (1, CONTEXT_DIM)).astype(np.float32) for n in lengths]


@pytest.fixture(scope="module")
def models(trained):
    """`models(system)`: a recogniser, loaded once."""
    made = {}

    def get(system):
        if system not in made:
            made[system] = CTCRecognizer(*trained(system))
        return made[system]

    return get


@pytest.fixture
def make(models):
    """`make(system, **options)`: a session recogniser without sessions."""

    def get(system, **options):
        context = LengthContext() if system == "prev_text" else None
        return SessionRecognizer(models(system), context, **options)

    return get


SYSTEMS = ["none", "aware", "prev_text", "carry", "carry_codebook"]
rng = np.random.default_rng(3)
TALKS = {name: [rng.normal(0, 0.1, n).astype(np.float32) for n in sizes] for name, sizes in
         {"a": (16000, 7000, 9000), "b": (5000, 12000), "c": (8000, 8000, 4000)}.items()}  # fmt: skip


def decode(recognizer, talks=TALKS):
    """One after the other: {session: texts}."""
    return {name: [recognizer.recognize(samples, name).text for samples in talk] for name, talk in talks.items()}


@pytest.mark.parametrize("system", SYSTEMS)
def test_side_by_side_is_as_alone(make, system):
    alone = decode(make(system))
    together = make(system)
    found = {name: [] for name in TALKS}
    for number in range(3):
        turn = {name: talk[number] for name, talk in TALKS.items() if number < len(talk)}
        for name, result in together.recognize_batch(turn).items():
            found[name].append(result.text)
    assert found == alone and all(len(text) > 3 for texts in alone.values() for text in texts)


@pytest.mark.parametrize("system", ["prev_text", "carry", "carry_codebook"])
def test_what_was_said_before_is_fed_until_it_is_forgotten(make, system):
    recognizer = make(system)
    first, _, third = (recognizer.recognize(samples, "a") for samples in TALKS["a"])
    recognizer.reset("a")
    fresh = recognizer.recognize(TALKS["a"][2], "a")
    assert fresh.hypothesis.score != third.hypothesis.score
    assert make(system).recognize(TALKS["a"][2]).hypothesis == fresh.hypothesis
    recognizer.reset()
    assert recognizer.sessions == [] and recognizer.recognize(TALKS["a"][0]).hypothesis == first.hypothesis


def test_the_text_context_holds_the_last_texts_oldest_first(make):
    recognizer = make("prev_text")
    texts = decode(recognizer)
    assert recognizer.context.seen[:4] == [[[]], [[texts["a"][0]]], [texts["a"][:2]], [[]]]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_restored_session_goes_on_identically(make, system, tmp_path):
    path = tmp_path / "state.safetensors"
    whole, begun = make(system), make(system)
    for name, talk in TALKS.items():
        assert whole.recognize(talk[0], name) == begun.recognize(talk[0], name)
    begun.save(path)
    restored = make(system)
    restored.load(path)
    assert restored.sessions == list(TALKS)
    for name, talk in TALKS.items():
        for samples in talk[1:]:
            assert restored.recognize(samples, name) == whole.recognize(samples, name)  # scores and confidences too


def test_a_state_is_saved_whole_or_not_at_all(make, tmp_path, monkeypatch):
    recognizer = make("carry")
    path = tmp_path / "state.safetensors"
    recognizer.save(path)  # without a session
    recognizer.recognize(TALKS["a"][0], "a")
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        recognizer.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_state_of_another_kind_is_refused_and_nothing_is_lost(make, tmp_path):
    carry, none = make("carry"), make("none")
    for recognizer in (carry, none):
        recognizer.recognize(TALKS["b"][0], "b")
    carry.save(tmp_path / "carry")
    with pytest.raises(UserError, match="holds the memory of model .*, and this model takes no state at all"):
        none.load(tmp_path / "carry")
    data = (tmp_path / "carry").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    for name, message in (("cut", "cut is damaged or not the state"), ("gone", "no such file: .*gone")):
        with pytest.raises(UserError, match=message):
            carry.load(tmp_path / name)
    assert none.sessions == carry.sessions == ["b"]


def test_an_unknown_session_is_named_with_those_that_began(make):
    recognizer = make("none")
    decode(recognizer)
    with pytest.raises(UserError, match="unknown session 'd'; begun: a, b, c"):
        recognizer.reset("d")


@pytest.mark.parametrize("system", ["prev_text", "carry", "carry_codebook"])
def test_what_is_unsure_or_silent_is_not_remembered(make, system):
    recognizer = make(system, min_confidence=1.0)
    recognizer.recognize(TALKS["a"][0])
    forgetful = recognizer.recognize(TALKS["a"][1]).hypothesis
    assert forgetful == make(system).recognize(TALKS["a"][1]).hypothesis
    recognizer, undisturbed = make(system), make(system)
    for samples in TALKS["a"]:
        for noise in (np.zeros(16000, np.float32), 0.3 + 1e-3 * np.random.default_rng(0).normal(size=16000)):
            silence = recognizer.recognize(noise)
            assert silence.text == "" and silence.confidence == 0 and silence.tokens == silence.words == []
        assert recognizer.recognize(samples) == undisturbed.recognize(samples)


def test_bad_speech_leaves_the_session_as_it_was(make):
    recognizer = make("carry")
    recognizer.recognize(TALKS["a"][0])
    with pytest.raises(UserError, match="not finite"):
        recognizer.recognize(np.full(16000, np.nan, np.float32))
    expected = make("carry")
    expected.recognize(TALKS["a"][0])
    after, wanted = (r.recognize(TALKS["a"][1]).hypothesis for r in (recognizer, expected))
    assert after == wanted
    with pytest.raises(UserError, match="not finite"):
        recognizer.recognize(np.full(16000, np.nan, np.float32), "new")
    assert "new" not in recognizer.sessions


def test_another_rate_is_converted(make):
    tone = np.sin(2 * np.pi * 300 * np.arange(8000) / 8000).astype(np.float32)
    result = make("none").recognize(tone, rate=8000)
    assert max(token.end for token in result.tokens) > 0.5  # of one second, not of half a one


def test_a_system_that_remembers_nothing_decodes_a_recording_at_once(make):
    recognizer = make("none")
    at_once = [result.text for result in recognizer.recognize_all(TALKS["a"], "a")]
    assert at_once == decode(make("none"))["a"] and recognizer.sessions == ["a"]
    assert [r.text for r in make("carry").recognize_all(TALKS["a"], "a")] == decode(make("carry"))["a"]


def test_context_and_model_must_fit(models):
    with pytest.raises(UserError, match="fed the text of the previous utterances: .*--context_json"):
        SessionRecognizer(models("prev_text"))
    with pytest.raises(UserError, match="this model is fed no text"):
        SessionRecognizer(models("aware"), LengthContext())
    wide = LengthContext()
    wide.encoder = type("Encoder", (), {"dim": 384})
    with pytest.raises(UserError, match=f"vectors of width 384, the model takes {CONTEXT_DIM}"):
        SessionRecognizer(models("prev_text"), wide)
    with pytest.raises(UserError, match="--min_confidence is 2"):
        SessionRecognizer(models("none"), min_confidence=2)


def test_a_thousand_sessions_stay_flat_in_memory(make):
    recognizer = make("carry")
    turn = {f"s{i}": TALKS["c"][2][: 1000 + i % 7] for i in range(1000)}
    resident = []
    for _ in range(6):
        recognizer.recognize_batch(turn)
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    assert max(resident[3:]) - max(resident[:3]) < 10e6  # of 6,000 utterances, after the allocator has what it wants
    sizes = {tensor.untyped_storage().nbytes() for session in recognizer._sessions.values() for tensor in session.memory}
    assert max(sizes) <= 4 * CONTEXT_DIM  # each keeps its own numbers, not the batch that they came from
    assert recognizer._sessions["s0"].texts == deque([], maxlen=0)


@pytest.mark.parametrize("system", ["carry", "carry_codebook"])
@pytest.mark.parametrize("precision", [{"quantize": True}, {"dtype": "bfloat16"}])
def test_models_of_low_precision_keep_their_sessions(models, trained, system, precision):
    sessions = SessionRecognizer(CTCRecognizer(*trained(system), **precision))
    first, second = (sessions.recognize(samples) for samples in TALKS["b"])
    state = sessions._sessions["default"].memory
    assert state.values.abs().sum() > 0 and state.values.dtype == state.weight.dtype == torch.float32
    sessions.reset()
    assert sessions.recognize(TALKS["b"][1]).hypothesis.score != second.hypothesis.score
    exact = SessionRecognizer(models(system))
    for samples in TALKS["b"]:
        exact.recognize(samples)
    expected = exact._sessions["default"].memory.values
    assert (state.values - expected).norm() < 0.1 * expected.norm()


def test_a_codebook_memory_is_folded_and_recognises_as_it_does_unfolded(models, trained):
    folded, unfolded = SessionRecognizer(models("carry_codebook")), SessionRecognizer(CTCRecognizer(*trained("carry_codebook")))
    assert folded.recognizer.model.encoder.injection.folded is not None
    unfolded.recognizer.model.encoder.injection.folded = None
    assert decode(folded) == decode(unfolded)
    for name, session in folded._sessions.items():
        assert torch.allclose(session.memory.values, unfolded._sessions[name].memory.values, atol=1e-4)

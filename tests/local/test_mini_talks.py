"""mini_talks: what its texts promise, and that its homophones sound the same."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "local" / "mini_talks"))

import generate  # noqa: E402
import voice  # noqa: E402

from espnet_ctx.files import UserError, read_table  # noqa: E402

SPLITS = ("train", "valid", "test")
ENTITY_TYPES = {"PERSON", "GPE", "ORG", "DATE", "CARDINAL", "MONEY", "LOC", "TIME"}


@pytest.fixture(scope="module")
def talks():
    return {split: generate.write_talks(split) for split in SPLITS}


@pytest.fixture(scope="module")
def homophones():
    return {word for pair in generate.homophone_pairs() for word in pair}


def counts(utterances):
    return Counter(word for u in utterances for word in u.text.split())


def phonemes(text):
    command = ["espeak-ng", "-v", "en-us", "-q", "--ipa", text]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")


def test_splits_share_no_talk_and_no_voice(talks):
    assert not set(generate.voices_of("unlabelled")) & (set(generate.voices_of("valid")) | set(generate.voices_of("test")))
    for key in (lambda u: u.spk, lambda u: u.utt.split("-")[1], lambda u: u.utt):
        sets = [{key(u) for u in talks[split]} for split in SPLITS]
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_size(talks, homophones):
    assert {split: len(talks[split]) for split in SPLITS} == {"train": 1050, "valid": 90, "test": 1004}
    vocabulary = set().union(*(counts(talks[split]) for split in SPLITS))
    assert 400 <= len(vocabulary) <= 800
    assert sum(counts(talks["test"])[word] for word in homophones) >= 1500
    assert min(counts(talks["train"])[word] for word in generate.topic_words()) >= generate.RAREST_TOPIC_WORD
    assert len(generate.homophone_pairs()) == 23


def test_too_few_talks_are_refused():
    with pytest.raises(UserError, match="less than 20 occurrences"):
        generate.check_counts(generate.write_talks("train", 20))


def test_a_topic_word_is_said_in_its_topic_only(talks, homophones):
    topics = generate.load_yaml("topics.yaml")
    owner = {word: topic for topic, slots in topics.items() for words in slots.values() for word in words}
    assert len(owner) == sum(len(words) for slots in topics.values() for words in slots.values())
    for u in (u for split in SPLITS for u in talks[split]):
        assert {owner[w] for w in u.text.split() if w in owner} <= {u.topic}
        assert not set(topics) & set(u.text.split()), f"{u.utt} names its topic"
    for first, second in generate.homophone_pairs():
        assert owner[first] != owner[second]
    assert homophones == {word for slots in topics.values() for word in slots["homophone"]}


def test_half_of_the_sentences_are_sparse(talks, homophones):
    plain = generate.topic_words() - homophones
    rich = sum(bool(plain & set(u.text.split())) for u in talks["test"]) / len(talks["test"])
    sparse = sum(bool(homophones & set(u.text.split())) for u in talks["test"]) / len(talks["test"]) - rich
    assert rich == pytest.approx(0.467, abs=0.02) and sparse == pytest.approx(0.467, abs=0.02)


def test_entities_and_sentiment(talks):
    names = generate.load_yaml("names.yaml")
    types, moods = Counter(), Counter()
    for u in talks["train"]:
        moods[u.sentiment] += 1
        assert set(u.text) <= set("abcdefghijklmnopqrstuvwxyz ") and "  " not in u.text
        for kind, start, length in u.entities:
            types[kind] += 1
            span = u.text[start : start + length]
            assert (" " + u.text + " ")[start] == " " and (u.text + " ")[start + length] == " "
            if kind == "PERSON":
                assert span.split()[0] in names["first"]
            elif kind in ("GPE", "ORG"):
                assert span in names[kind.lower()]
            elif kind in ("LOC", "TIME"):
                assert names["homophone"][span] == kind
            elif kind == "DATE":
                assert span.split()[-1] in names["weekday"] + names["month"]
        words = [u.text[start : start + length] for _, start, length in u.entities]
        assert all(words.count(word) == u.text.split().count(word) for word in names["homophone"])
    assert set(types) == ENTITY_TYPES and min(types.values()) > 20
    assert min(moods[m] for m in ("Positive", "Negative", "Neutral")) > 100


def test_sentiment_is_the_balance_of_the_words(talks, homophones):
    names = generate.load_yaml("names.yaml")
    moods = names["homophone_mood"]
    assert set(moods) < homophones and set(moods.values()) == {1, -1}
    label = {(u.text): u.sentiment for u in talks["test"]}
    for text, sentiment in label.items():
        words = text.split()
        pleases = sum(w in names["positive"] or moods.get(w) == 1 for w in words)
        displeases = sum(w in names["negative"] or moods.get(w) == -1 for w in words)
        expected = "Positive" if pleases > displeases else "Negative" if displeases > pleases else "Neutral"
        assert sentiment == expected, text


def test_previous_utterances_form_one_chain_per_talk(talks):
    for before, u in zip(talks["valid"], talks["valid"][1:]):
        assert u.prev == (before.utt if u.utt.split("-")[1] == before.utt.split("-")[1] else "-")
    assert talks["valid"][0].prev == "-"


def test_a_seed_decides_everything():
    assert generate.write_talks("valid", seed=1) == generate.write_talks("valid", seed=1)
    assert [u.text for u in generate.write_talks("valid", seed=1)] != [u.text for u in generate.write_talks("valid", seed=2)]


def test_datadir_is_sorted_and_complete(tmp_path, talks):
    generate.write_datadir(talks["valid"], tmp_path, Path("wavs"))
    for name in ("wav.scp", "text", "utt2spk", "utt2prev", "utt2topic", "utt2ner", "utt2sentiment", "utt2voice"):
        keys = list(read_table(tmp_path / name))
        assert keys == sorted(u.utt for u in talks["valid"])
    assert sum(len(utts.split()) for utts in read_table(tmp_path / "spk2utt").values()) == len(talks["valid"])
    assert all(isinstance(json.loads(spans), list) for spans in read_table(tmp_path / "utt2ner").values())


def test_unlabelled_needs_a_number_of_talks(tmp_path):
    with pytest.raises(UserError, match="needs --talks"):
        generate.main(["--split", "unlabelled", "--datadir", str(tmp_path), "--wavdir", "wavs"])


def test_homophones_sound_the_same_and_no_other_words_do(talks):
    pairs = generate.homophone_pairs()
    # One call: a process for each of 400 words would take a minute.
    words = sorted(counts(talks["train"]) | counts(talks["test"]))
    spoken = [line.strip(" ˈˌ") for line in phonemes("\n\n".join(words)) if line.strip()]
    assert len(spoken) == len(words)
    sound = dict(zip(words, (s.replace("ˈ", "").replace("ˌ", "") for s in spoken)))
    for first, second in pairs:
        assert phonemes(f"then we saw the {first} in it") == phonemes(f"then we saw the {second} in it")
    # Apart from unstressed function words, twins are the listed ones.
    same = {frozenset(w for w in words if sound[w] == s) for s in set(sound.values())}
    assert {group for group in same if len(group) > 1} == {frozenset(pair) for pair in pairs}


def test_recordings_depend_on_the_utterance_alone(tmp_path, talks):
    utterances = talks["valid"][:2]
    for folder in ("one", "two"):
        generate.write_datadir(utterances, tmp_path / folder / "data", tmp_path / folder / "wav")
        voice.main(["--nj", "1", str(tmp_path / folder / "data")])
    for u in utterances:
        one, two = (soundfile.read(tmp_path / folder / "wav" / f"{u.utt}.wav") for folder in ("one", "two"))
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1] == voice.RATE and one[0].ndim == 1 and 1.5 < len(one[0]) / voice.RATE < 10
    kept = (tmp_path / "one" / "wav" / f"{utterances[0].utt}.wav").stat().st_mtime_ns
    voice.main(["--nj", "1", str(tmp_path / "one" / "data")])
    assert (tmp_path / "one" / "wav" / f"{utterances[0].utt}.wav").stat().st_mtime_ns == kept


@pytest.mark.parametrize("snr_db", [10.0, 25.0])
def test_noise_is_added_at_the_asked_ratio_and_level(snr_db):
    rng = np.random.default_rng(0)
    clean = 0.1 * np.sin(np.arange(voice.RATE) / 7)
    mixed = voice.add_noise(clean, voice.draw_noise(rng, voice.RATE), snr_db, -26.0)
    gain = np.dot(mixed, clean) / np.dot(clean, clean)
    measured = 10 * np.log10(np.mean((gain * clean) ** 2) / np.mean((mixed - gain * clean) ** 2))
    assert measured == pytest.approx(snr_db, abs=0.5)
    assert 20 * np.log10(np.sqrt(np.mean(mixed**2))) == pytest.approx(-26.0, abs=0.1)


def test_a_voice_that_says_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(voice.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, b"", b"no such voice"))
    with pytest.raises(RuntimeError, match="no such voice"):
        voice.speak("hello", "nobody", 50, 160)

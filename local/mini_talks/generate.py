#!/usr/bin/env python3
"""Write the text side of mini_talks: talks on one topic each, as Kaldi data directories.

Every sentence fills the slots of a frame (frames.yaml) with words of the talk's topic (topics.yaml) and with names,
dates and numbers (names.yaml). Half of the sentences are rich in words of the topic, half are sparse: their homophone
is resolved by the talk's topic only. Words are drawn least used first, so that all of them occur equally often.

Example:
    local/mini_talks/generate.py --split train --datadir data/train --wavdir downloads/mini_talks/train
"""

import argparse
import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from espnet_ctx.files import UserError, run_main, whole_file

HERE = Path(__file__).resolve().parent
TALKS = {"train": 70, "valid": 6, "test": 67}
UTTERANCES_PER_TALK = (12, 13, 14, 15, 16, 17, 18)
WORDS_PER_MINUTE = (150, 180)
SEED = 20261120
RAREST_TOPIC_WORD = 20
SLOT = re.compile(r"\{(\w+?)(\d?)\}")
MOODS = {"positive": 2, "negative": 2, "neutral": 1}  # how often words of each are drawn


@dataclass(frozen=True)
class Voice:
    """How a talk is spoken: an espeak-ng variant, its pitch (0-99) and its rate (words per minute)."""

    variant: str
    pitch: int
    speed: int


@dataclass(frozen=True)
class Utterance:
    """One sentence of a talk. `entities` are (type, start character, length in characters) spans of `text`."""

    utt: str
    spk: str
    prev: str
    text: str
    topic: str
    entities: tuple[tuple[str, int, int], ...]
    sentiment: str
    voice: Voice


def load_yaml(name: str) -> dict:
    """Read one of the corpus' own tables, which lie beside this file."""
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


def homophone_pairs() -> list[tuple[str, str]]:
    """The pairs of words that sound the same and belong to two topics."""
    return [tuple(line.split()) for line in (HERE / "homophones.txt").read_text(encoding="utf-8").splitlines()]


def voices_of(split: str) -> list[str]:
    """The variants that speak in a split; pre-training hears the training voices and the extra ones."""
    voices = load_yaml("voices.yaml")
    return [str(v) for v in (voices["train"] + voices["extra"] if split == "unlabelled" else voices[split])]


class TalkWriter:
    """Draws sentences; keeps the counts that balance its draws over all talks of a split."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.topics, self.names, self.frames = map(load_yaml, ("topics.yaml", "names.yaml", "frames.yaml"))
        self.used: Counter[tuple[str, str]] = Counter()

    def draw(self, pool: str, choices: list[str], without: tuple[str, ...] = ()) -> str:
        """The least used of the choices, by lot among equals."""
        allowed = [c for c in choices if c not in without]
        least = min(self.used[pool, c] for c in allowed)
        choice = self.rng.choice([c for c in allowed if self.used[pool, c] == least])
        self.used[pool, choice] += 1
        return choice

    def fill(self, slot: str, topic: str, said: tuple[str, ...]) -> tuple[str, str | None, int]:
        """Words for a slot, their entity type (None: no entity), and the characters before the entity starts."""
        if slot in self.topics[topic]:
            word = self.draw(topic, self.topics[topic][slot], said)
            return word, self.names["homophone"].get(word), 0
        if slot == "mood":
            return self.draw("mood", self.names[self.rng.choices(list(MOODS), MOODS.values())[0]], said), None, 0
        if slot == "person":
            first = self.draw("first", self.names["first"], said)
            full = self.rng.random() < 0.4
            return (f"{first} {self.draw('last', self.names['last'])}" if full else first), "PERSON", 0
        if slot == "date":
            before, pool = self.rng.choice([("on", "weekday"), ("last", "weekday"), ("in", "month"), ("last", "month")])
            text = f"{before} {self.draw(pool, self.names[pool])}"
            return text, "DATE", 0 if before == "last" else len(before) + 1
        if slot == "money":
            return f"{self.draw('cardinal', self.names['cardinal'], said)} dollars", "MONEY", 0
        kind = {"gpe": "GPE", "org": "ORG", "weekday": "DATE", "cardinal": "CARDINAL"}[slot]
        return self.draw(slot, self.names[slot], said), kind, 0

    def sentence(self, kind: str, topic: str) -> tuple[str, tuple[tuple[str, int, int], ...], str]:
        """One sentence of a kind (`opening`, `sparse`, `rich`): its text, its entities, its sentiment."""
        frame = self.draw(f"{kind} {topic}", self.frames[kind])
        text, entities, said = "", [], ()
        for token in frame.split():
            slot = SLOT.fullmatch(token)
            words, entity, offset = self.fill(slot[1], topic, said) if slot else (token, None, 0)
            if text.endswith(" a ") and words[0] in "aeio":
                text = text[:-1] + "n "
            if entity:
                entities.append((entity, len(text) + offset, len(words) - offset))
            if slot:
                said += tuple(words.split())
            text += words + " "
        return text.rstrip(), tuple(entities), self.sentiment(said)

    def sentiment(self, said: tuple[str, ...]) -> str:
        """Positive when more of the words please than displease, Negative when fewer do, else Neutral."""
        moods = self.names["homophone_mood"]
        balance = sum((w in self.names["positive"]) - (w in self.names["negative"]) + moods.get(w, 0) for w in said)
        return ("Neutral", "Positive", "Negative")[(balance > 0) - (balance < 0)]

    def talk(self, talk: str, topic: str, voice: Voice, length: int) -> list[Utterance]:
        """An opening, then as many rich as sparse sentences, one of each in every two."""
        spk = voice.variant.lower()
        kinds = ["opening"]
        while len(kinds) < length:
            kinds += self.rng.sample(["rich", "sparse"], 2)
        utterances: list[Utterance] = []
        for number, kind in enumerate(kinds[:length]):
            text, entities, sentiment = self.sentence(kind, topic)
            prev = utterances[-1].utt if utterances else "-"
            utt = f"{spk}-{talk}-{number:03d}"
            utterances.append(Utterance(utt, spk, prev, text, topic, entities, sentiment, voice))
        return utterances


def write_talks(split: str, talks: int | None = None, seed: int = SEED) -> list[Utterance]:
    """All utterances of a split in the order of speech. Topics and voices take turns; topics talk equally long."""
    rng = random.Random(f"{seed}-{split}")
    writer = TalkWriter(rng)
    topics, variants = sorted(writer.topics), voices_of(split)
    lengths: dict[str, list[int]] = {topic: [] for topic in topics}
    utterances = []
    for number in range(TALKS[split] if talks is None else talks):
        if number % len(topics) == 0:
            rng.shuffle(topics)
        if number % len(variants) == 0:
            rng.shuffle(variants)
        voice = Voice(variants[number % len(variants)], rng.randint(35, 65), rng.randint(*WORDS_PER_MINUTE))
        topic = topics[number % len(topics)]
        if not lengths[topic]:
            lengths[topic] = rng.sample(UTTERANCES_PER_TALK, len(UTTERANCES_PER_TALK))
        utterances += writer.talk(f"{split}{number:04d}", topic, voice, lengths[topic].pop())
    return utterances


def topic_words() -> set[str]:
    """All words that belong to a topic."""
    return {word for slots in load_yaml("topics.yaml").values() for words in slots.values() for word in words}


def check_counts(utterances: list[Utterance]) -> None:
    """See to it that a model can learn every topic word.

    Raises:
        UserError: a topic word occurs less than 20 times.
    """
    count = Counter(word for u in utterances for word in u.text.split())
    rare = {word: count[word] for word in sorted(topic_words()) if count[word] < RAREST_TOPIC_WORD}
    if rare:
        raise UserError(f"topic words with less than {RAREST_TOPIC_WORD} occurrences: {rare}; more talks or fewer words")


def write_datadir(utterances: list[Utterance], datadir: Path, wavdir: Path) -> None:
    """Write the Kaldi files and `utt2voice`; all sorted as `LC_ALL=C sort` does, each whole or not at all."""
    utterances = sorted(utterances, key=lambda u: u.utt)
    speakers = sorted({u.spk for u in utterances})
    tables = {
        "wav.scp": [f"{u.utt} {wavdir / u.utt}.wav" for u in utterances],
        "text": [f"{u.utt} {u.text}" for u in utterances],
        "utt2spk": [f"{u.utt} {u.spk}" for u in utterances],
        "spk2utt": [" ".join([s, *(u.utt for u in utterances if u.spk == s)]) for s in speakers],
        "utt2prev": [f"{u.utt} {u.prev}" for u in utterances],
        "utt2topic": [f"{u.utt} {u.topic}" for u in utterances],
        "utt2ner": [f"{u.utt} {json.dumps(u.entities)}" for u in utterances],
        "utt2sentiment": [f"{u.utt} {u.sentiment}" for u in utterances],
        "utt2voice": [f"{u.utt} {u.voice.variant} {u.voice.pitch} {u.voice.speed}" for u in utterances],
    }
    for name, lines in tables.items():
        with whole_file(datadir / name) as f:
            f.write("\n".join(lines) + "\n")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", required=True, choices=[*TALKS, "unlabelled"], help="unlabelled: for pre-training")
    parser.add_argument("--talks", type=int, help=f"number of talks (default: {TALKS}; must be given for unlabelled)")
    parser.add_argument("--datadir", required=True, type=Path, help="the data directory to write")
    parser.add_argument("--wavdir", required=True, type=Path, help="where voice.py will put the recordings")
    parser.add_argument("--seed", type=int, default=SEED)
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    if args.talks is None and args.split not in TALKS:
        raise UserError(f"--split {args.split} needs --talks: there is no default number")
    if args.talks is not None and args.talks < 1:
        raise UserError(f"--talks is {args.talks}: must be at least 1")
    utterances = write_talks(args.split, args.talks, args.seed)
    if args.split == "train" and args.talks is None:
        check_counts(utterances)
    write_datadir(utterances, args.datadir, args.wavdir)
    words = sum(len(u.text.split()) for u in utterances)
    print(f"{args.datadir}: {len({u.topic for u in utterances})} topics, {len(utterances)} utterances, {words} words")


if __name__ == "__main__":
    run_main(main)

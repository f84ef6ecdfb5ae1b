"""previous texts -> context_text, by an LLM or by joining them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_ctx.context.generations import Generations, Setting, only_one
from espnet_ctx.context.llm import LLM, Decoding
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import read_section, sha256_of_files, write_section
from espnet_ctx.context.segments import split_segments
from espnet_ctx.context.sessions import Histories
from espnet_ctx.files import write_table

SECTION = "generation"
PREVIOUS = "previous"  # stands for a prompt where no LLM is asked: the previous texts themselves
STORE_ONLY = "store"  # stands for a backend where the store has all answers and no LLM is asked


def is_made(out: Path, options: Mapping[str, Any]) -> bool:
    """Whether `out` holds a whole context_text that was made with these options."""
    section = read_section(out, SECTION)
    path = out / "context_text"
    return section.get("options") == options and path.is_file() and section.get("context_text") == sha256_of_files([path])


def write_context_text(
    out: Path,
    texts: Mapping[str, str],
    options: Mapping[str, Any],
    made_with: Mapping[str, str],
    counts: Callable[[], Mapping[str, int]] = dict,
) -> None:
    """Write context_text (`<utt> <text>`, the text may be empty), then its section of context.json.

    `counts` is asked when the texts are written.
    """
    write_section(out, SECTION, None)
    write_table(out / "context_text", texts)
    content = {
        "options": options,
        "context_text": sha256_of_files([out / "context_text"]),
        "made_with": made_with,
        "counts": counts(),
    }
    write_section(out, SECTION, content)


def ask(
    said_before: Histories,
    prompt: Prompt,
    decoding: Decoding,
    setting: Setting,
    store: Generations,
    load: Callable[[], LLM],
    name: str = "",
    shard: tuple[int, int] = (1, 1),
    known: Generations | None = None,
) -> int:
    """Have every different history answered that the store has no answer for.

    Requests go out the longest first, in an order that depends on the histories alone; each is kept as soon
    as it is answered: a run that was killed goes on with the batches it would have had. Of several processes
    that ask the same of one store, one works and the others wait, and then find everything done.

    Args:
        said_before: utterance -> previous texts; an utterance without them is not asked about.
        prompt: what is asked.
        decoding: how answers are drawn.
        setting: what stands in the store for model, prompt and decoding.
        store: where answers are kept.
        load: builds the LLM; called only when something is missing.
        name: what the user calls the model, for the record.
        shard: (number from 1, of how many) shares of the requests; this share is asked.
        known: another store whose answers need not be asked again.

    Returns:
        How many requests the LLM was asked.
    """
    with only_one(store.path, setting.sha256):
        missing = _missing(said_before, setting, store, shard, known)
        if not missing:
            return 0
        logging.info(f"{store.path}: {len(missing)} histories to ask about")
        llm = load()
        made_with = {"llm": name, **llm.made_with()}
        # texts are made when they are asked about: there may be very many
        answered = llm.answer(prompt, (said_before.joined(utt) for utt in missing), decoding)
        with closing(answered), tqdm(total=len(missing), desc=prompt.name, unit="history") as progress:
            begin = time.monotonic()
            for group in answered:
                store.add(setting, made_with, group, time.monotonic() - begin)
                progress.update(len(group))
                begin = time.monotonic()
        return len(missing)


def _missing(
    said_before: Histories, setting: Setting, store: Generations, shard: tuple[int, int], known: Generations | None
) -> list[str]:
    """One utterance for each history to ask about, the longest first."""
    found: list[tuple[int, bytes, str]] = []
    seen: set[bytes] = set()
    for utt in said_before:
        text = said_before.joined(utt)
        if not text:
            continue
        key = setting.key(text)
        short = bytes.fromhex(key)[:16]
        if short in seen:
            continue
        seen.add(short)
        if int(key[:15], 16) % shard[1] == shard[0] - 1 and not store.has(key) and not (known and known.has(key)):
            found.append((-len(text), short, utt))
    found.sort()
    return [utt for _, _, utt in found]


class CleanAnswers(Mapping[str, str]):
    """Utterance -> cleaned answer, empty without history; read from the store when asked for.

    Counts what went by, see `counts`: utterances without history (`first`), with an answer (`answered`), of
    those empty after cleaning (`empty`), refused, cut off by the token limit (`truncated`), going round in
    circles (`repeated`); tokens read and written, each utterance by itself.
    """

    def __init__(self, said_before: Histories, prompt: Prompt, setting: Setting, store: Generations):
        self._said_before, self._prompt, self._setting, self._store = said_before, prompt, setting, store
        names = ("first", "answered", "empty", "refused", "truncated", "repeated", "tokens_in", "tokens_out")
        self.counts = dict.fromkeys(names, 0)

    def __getitem__(self, utt: str) -> str:
        text = self._said_before.joined(utt)
        if not text:
            self.counts["first"] += 1
            return ""
        answer = self._store.get(self._setting.key(text))
        cleaned = self._prompt.clean(answer.text)
        self.counts["answered"] += 1
        self.counts["empty"] += not cleaned
        self.counts["refused"] += self._prompt.is_refused(answer.text)
        self.counts["truncated"] += answer.truncated
        self.counts["repeated"] += any(is_repetitive(segment) for segment in split_segments(cleaned))
        self.counts["tokens_in"] += answer.tokens_in
        self.counts["tokens_out"] += answer.tokens_out
        return cleaned

    def __iter__(self) -> Iterator[str]:
        return iter(self._said_before)

    def __len__(self) -> int:
        return len(self._said_before)


def is_repetitive(text: str) -> bool:
    """Whether a text goes round in circles: of eight words or more, less than half are different."""
    words = text.lower().split()
    return len(words) >= 8 and len(set(words)) < len(words) / 2

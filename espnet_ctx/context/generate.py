"""previous texts -> context_text, by an LLM or by joining them."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_ctx.context.llm import LLM, Decoding
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import read_section, sha256_of, sha256_of_files, write_section
from espnet_ctx.files import write_table

SECTION = "generation"


def is_made(out: Path, options: Mapping[str, Any]) -> bool:
    """Whether `out` holds a whole context_text that was made with these options."""
    section = read_section(out, SECTION)
    path = out / "context_text"
    return section.get("options") == options and path.is_file() and section.get("context_text") == sha256_of_files([path])


def write_context_text(out: Path, texts: Mapping[str, str], options: Mapping[str, Any], made_with: Mapping[str, str]) -> None:
    """Write context_text (`<utt> <text>`, the text may be empty), then its section of context.json."""
    write_section(out, SECTION, None)
    write_table(out / "context_text", texts)
    content = {
        "options": options,
        "context_text": sha256_of_files([out / "context_text"]),
        "made_with": made_with,
    }
    write_section(out, SECTION, content)


def answers(
    histories: Mapping[str, Sequence[str]],
    prompt: Prompt,
    load: Callable[[], LLM],
    decoding: Decoding,
    batch_size: int,
    part: "PartFile",
) -> tuple[dict[str, str], dict[str, str]]:
    """Answer `prompt` for each utterance from its history.

    Equal histories are answered once; an utterance without history gets an empty text, and the LLM is not
    asked. Batches hold histories of similar length, the longest first, and depend on the histories alone: a
    run that was killed goes on with the batches it would have had.

    Args:
        histories: utterance -> previous texts, oldest first (see `sessions.histories`).
        prompt: what is asked.
        load: builds the LLM; called only when something is missing in `part`.
        decoding: how answers are drawn; each batch gets a seed of its own.
        batch_size: histories per batch.
        part: what earlier runs answered; grows with every batch.

    Returns:
        Cleaned answer per utterance, and what the LLM says of itself (see `LLM.made_with`; empty when it was
        not loaded).
    """
    joined = {utt: "\n".join(texts) for utt, texts in histories.items()}
    unique = sorted({text for text in joined.values() if text}, key=lambda text: (-len(text), text))
    batches = [unique[i : i + batch_size] for i in range(0, len(unique), batch_size)]
    done = part.read()
    missing = [[text for text in batch if sha256_of(text) not in done] for batch in batches]
    made_with: dict[str, str] = {}
    if any(missing):
        llm = load()
        made_with = llm.made_with()
        count = sum(map(len, missing))
        with tqdm(total=len(unique), initial=len(unique) - count, desc=prompt.name, unit="history") as progress:
            for number, batch in enumerate(missing):
                if not batch:
                    continue
                seed = int(sha256_of([decoding.seed, number])[:8], 16)
                raw = llm.answer(prompt, batch, replace(decoding, seed=seed))
                new = {sha256_of(text): prompt.clean(answer) for text, answer in zip(batch, raw, strict=True)}
                part.append(new)
                done.update(new)
                progress.update(len(batch))
    return {utt: done[sha256_of(text)] if text else "" for utt, text in joined.items()}, made_with


class PartFile:
    """Answers of an unfinished run: a header line with the options, then one line of JSON per batch.

    What was made with other options, and a line that a kill cut in two, is dropped.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]):
        self.path = path
        self.header = json.dumps({"options": options}, sort_keys=True) + "\n"

    def read(self) -> dict[str, str]:
        """Hash of the joined history -> answer; the file is ready to be appended to."""
        done: dict[str, str] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole.startswith(self.header.encode()):
            os.truncate(self.path, len(whole))
            for line in whole.decode().split("\n")[1:-1]:
                done.update(json.loads(line))
        else:
            self.path.write_text(self.header, encoding="utf-8")
        if done:
            logging.info(f"{self.path}: {len(done)} answers of an earlier run are kept")
        return done

    def append(self, new: Mapping[str, str]) -> None:
        """Add a batch; it is on the disk when this returns."""
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(new, ensure_ascii=False) + "\n")
            f.flush()
            os.fsync(f.fileno())

    def remove(self) -> None:
        """Drop the file, once its answers stand in context_text."""
        self.path.unlink(missing_ok=True)

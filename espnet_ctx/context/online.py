"""What was said so far in a session, as the context of its next utterance, while the session goes on."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ctx.context import generate, store
from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.generations import Generations, Setting
from espnet_ctx.context.llm import BACKENDS, LLM, Decoding, identify, load_llm
from espnet_ctx.context.prompts import Prompt, load_prompt, prompt_names
from espnet_ctx.context.sessions import last_tokens
from espnet_ctx.context.text_encoder import TextEncoder
from espnet_ctx.files import UserError

MAX_PREV_TOKENS = 1024


class Answers:
    """What an LLM says about previous texts, cleaned; every different request is answered once and kept.

    Args:
        prompt: what is asked.
        decoding: how answers are drawn.
        setting: what stands in the store for model, prompt and decoding.
        kept: where answers are kept.
        load: builds the LLM; called when the store lacks an answer.
        name: what the user calls the model, for the record.
    """

    def __init__(
        self, prompt: Prompt, decoding: Decoding, setting: Setting, kept: Generations, load: Callable[[], LLM], name: str
    ):
        self._prompt, self._decoding, self._setting, self._kept, self._load = prompt, decoding, setting, kept, load
        self._name = name
        self._llm: LLM | None = None

    def __call__(self, previous: Sequence[str]) -> list[str]:
        """The answer to each of the previous texts; empty where these are."""
        key = self._setting.key
        missing = [text for text in dict.fromkeys(previous) if text and not self._kept.has(key(text))]
        if missing:
            self._llm = self._llm or self._load()
            made_with = {"llm": self._name, **self._llm.made_with()}
            begin = time.monotonic()
            for group in self._llm.answer(self._prompt, missing, self._decoding):
                self._kept.add(self._setting, made_with, group, time.monotonic() - begin)
                begin = time.monotonic()
        return [self._prompt.clean(self._kept.get(key(text)).text) if text else "" for text in previous]


class OnlineContext:
    """From the texts that were recognised in a session to what a model is fed with its next utterance.

    Args:
        encoder: embeds the texts.
        num_prev: how many utterances are looked back on.
        answers: asks the LLM (system generated); None: the previous texts themselves (system prev_text).
    """

    def __init__(self, encoder: TextEncoder, num_prev: int, answers: Answers | None = None):
        self.encoder, self.num_prev, self.answers = encoder, num_prev, answers

    @classmethod
    def like(
        cls,
        context_json: Path,
        llm: str | None = None,
        llm_backend: str = "transformers",
        llm_conf: Mapping[str, Any] = {},
        kept: Path | None = None,
    ) -> "OnlineContext":
        """Context made in the way in which a context archive was made.

        Args:
            context_json: the archive's record, `dump/context/<tag>/<set>/context.json`.
            llm: folder, hub id or server's name of the LLM (default: where the record says it was).
            llm_backend: what runs it, see `espnet_ctx.context.llm.BACKENDS`; "store": nothing, the store has all answers.
            llm_conf: options of the backend.
            kept: the store of answers (default: the record's).

        Raises:
            UserError: no such record, or a model or prompt that is not the recorded one.
        """
        record = _read_record(context_json)
        made, embedded = record[generate.SECTION], record[store.SECTION]
        name, revision = (embedded["made_with"][key] for key in ("text_encoder", "text_encoder_revision"))
        folder, version = find_checkpoint(name, revision)
        if version != embedded["options"]["text_encoder_version"]:
            raise UserError(f"{context_json} was made by another version of the text encoder {name}: {version} is here")
        encoder = TextEncoder(folder, embedded["options"]["pooling"], embedded["options"]["max_tokens"])
        options = made["options"]
        if options["prompt"] == generate.PREVIOUS:
            return cls(encoder, options["num_prev"])
        prompt = _recorded_prompt(context_json, options)
        decoding = Decoding(**options["decoding"])
        opened = Generations(kept or Path(made["made_with"]["store"]))
        llm = llm or made["made_with"]["llm"]
        if llm_backend == generate.STORE_ONLY:
            setting = Setting.of(options["llm"], prompt, decoding)
            return cls(encoder, options["num_prev"], Answers(prompt, decoding, setting, opened, _refuse, llm))
        where, identity = identify(llm_backend, llm, made["made_with"]["llm_revision"], llm_conf)
        if BACKENDS[llm_backend].needs_files and identity != options["llm"]:
            raise UserError(f"{context_json} was made by the LLM {options['llm']}, and {llm} is {identity} (option --llm)")
        setting = Setting.of(identity, prompt, decoding)
        answers = Answers(prompt, decoding, setting, opened, lambda: load_llm(llm_backend, where, llm_conf), llm)
        return cls(encoder, options["num_prev"], answers)

    def __call__(self, histories: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The context (L, C) of an utterance after each of the histories (texts, oldest first); absent: a row of zeros."""
        between = " " if self.answers is None else "\n"
        texts = [last_tokens(between.join(texts), MAX_PREV_TOKENS) for texts in histories]
        if self.answers is not None:
            texts = self.answers(texts)
        different = sorted(set(texts) - {""})
        encode = self.encoder.encode
        embedded = dict(store.embed_segments(different, lambda portion: encode(portion, len(portion) or 1, progress=False)))
        return [embedded.get(text, np.zeros((1, self.encoder.dim), np.float32)) for text in texts]


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        record[generate.SECTION]["options"]["num_prev"], record[store.SECTION]["made_with"]
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (--context_json): what stages 6 and 7 write beside context.scp") from None
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path} is not the record of a whole context archive ({e!r}): run stages 6 and 7") from None
    return record


def _recorded_prompt(path: Path, options: Mapping[str, Any]) -> Prompt:
    """The prompt with as many examples as it was asked with."""
    if options["prompt"] not in prompt_names():
        raise UserError(f"{path}: the prompt '{options['prompt']}' is none of the package's: {', '.join(prompt_names())}")
    prompt = load_prompt(options["prompt"])
    for number in range(len(prompt.examples) + 1):
        if prompt.with_examples(number).sha256 == options["prompt_sha256"]:
            return prompt.with_examples(number)
    raise UserError(f"{path} was made with another version of the prompt '{prompt.name}'")


def _refuse() -> LLM:
    raise UserError(
        f"the store (--store) lacks the answer to what was just said and --llm_backend {generate.STORE_ONLY} asks no LLM: "
        f"choose one of {', '.join(BACKENDS)}"
    )

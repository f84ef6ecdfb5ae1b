"""LLM backends: text in, text out. `BACKENDS` is the table of them; `load_llm` builds one."""

import importlib
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import sha256_of
from espnet_ctx.files import UserError


class Backend(NamedTuple):
    """A row of the table.

    Attributes:
        where: module and class; it is imported when used, for it may need seconds or an optional package.
        needs_files: whether the model's files must be on this machine.
        decides: options of the class that decide what is answered, and so belong to the model's identity.
    """

    where: str
    needs_files: bool
    decides: tuple[str, ...] = ()


BACKENDS = {
    "transformers": Backend("espnet_ctx.context.transformers_llm:TransformersLLM", True, ("quantization",)),
    "vllm": Backend("espnet_ctx.context.vllm_llm:VllmLLM", True, ("quantization",)),
    "openai": Backend("espnet_ctx.context.openai_llm:OpenAILLM", False, ("api",)),
}


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn: greedily at temperature 0 (the default), else from the `top_p` nucleus."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise UserError(f"--max_new_tokens is {self.max_new_tokens}: must be at least 1")
        if self.temperature < 0:
            raise UserError(f"--temperature is {self.temperature}: must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top_p is {self.top_p}: must be in (0, 1]")

    def as_dict(self) -> dict[str, Any]:
        """What decides the answers: a greedy search uses neither seed nor nucleus."""
        if self.temperature:
            return asdict(self)
        return {"max_new_tokens": self.max_new_tokens, "temperature": 0.0}

    def seed_of(self, previous: str) -> int:
        """The seed of one request: what is sampled does not depend on its neighbours."""
        return int(sha256_of([self.seed, previous])[:8], 16)


@dataclass(frozen=True)
class Answer:
    """What the LLM said: its text up to the first stop text, whether the token limit cut it off, tokens read
    and written."""

    text: str
    truncated: bool
    tokens_in: int
    tokens_out: int


class LLM(ABC):
    """A language model that answers a prompt about previous texts.

    A backend is a class with a constructor `(model, **options)`: `model` is the folder of the model, or its
    name where the backend needs no files; the options are what `--llm_conf` may set.
    """

    @abstractmethod
    def answer(self, prompt: Prompt, previous: Iterable[str], decoding: Decoding) -> Iterator[list[tuple[str, Answer]]]:
        """Answer many requests.

        Args:
            prompt: what is asked.
            previous: the previous texts of each request, oldest first, one a line; each different from the
                others. They are taken as they are needed: there may be very many.
            decoding: how answers are drawn; sampling follows `decoding.seed_of` of each request.

        Yields:
            What was finished together: request and answer, in any order. One that is too long for the model's
            window was answered without its beginning.

        Raises:
            UserError: the window cannot hold the prompt and the answer even without previous text, or the
                model cannot be reached; what was finished before has been yielded.
        """

    @abstractmethod
    def made_with(self) -> dict[str, str]:
        """Device, precision and versions, for the record."""


def identify(backend: str, name: str, revision: str | None, conf: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What to load, and the model's identity: equal identities give equal answers, whatever runs them.

    Args:
        backend: a name in `BACKENDS`.
        name: hub id, folder, or the name that a server knows.
        revision: branch, tag or commit of a hub id; of a server's model what one wants to call its version.
        conf: options of the backend.

    Returns:
        Folder or name for `load_llm`; and `model` and `revision` (hub id and commit, or hash of a folder's
        files and nothing), with those options that decide what is answered.

    Raises:
        UserError: there is no such model.
    """
    decides = {key: conf[key] for key in BACKENDS[backend].decides if key in conf}
    if not BACKENDS[backend].needs_files:
        return name, {"model": name, "revision": revision or "", **decides}
    folder, version = find_checkpoint(name, revision)
    if version.startswith("sha256:"):
        return str(folder), {"model": version, "revision": "", **decides}
    return str(folder), {"model": name, "revision": version, **decides}


def load_llm(backend: str, model: str, conf: Mapping[str, Any] = {}) -> LLM:
    """Load a model (folder, or name on a server) with a backend of `BACKENDS`.

    Raises:
        UserError: unknown backend or option, a package that it needs and that is missing, or files that it
            cannot load.
    """
    if backend not in BACKENDS:
        raise UserError(f"--llm_backend is '{backend}': must be one of {', '.join(BACKENDS)}")
    module, name = BACKENDS[backend].where.split(":")
    kind = getattr(importlib.import_module(module), name)
    allowed = list(inspect.signature(kind).parameters)[1:]
    for option in conf:
        if option not in allowed:
            raise UserError(f"--llm_conf {option}: --llm_backend {backend} has the options {', '.join(allowed)}")
    try:
        llm = kind(model, **conf)
    except (OSError, ValueError, ImportError) as e:
        if isinstance(e, UserError):
            raise
        raise UserError(f"{backend} cannot load a causal language model from {model}: {e}") from e
    logging.info(f"loaded {model}: {llm.made_with()}")
    return llm


def until_stop(text: str, stop: Iterable[str]) -> str:
    """The text before the first stop text; one before the answer's first word does not count."""
    return text[: find_stop(text, stop)]


def find_stop(text: str, stop: Iterable[str]) -> int | None:
    """Where the first stop text after the answer's first letter begins; None: there is none."""
    begin = len(text) - len(text.lstrip())
    found = [i for i in (text.find(s, begin) for s in stop) if i >= 0]
    return min(found, default=None)

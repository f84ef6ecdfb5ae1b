"""LLM backends: text in, text out. `BACKENDS` is the table of them; `load_llm` builds one."""

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from espnet_ctx.context.prompts import Prompt
from espnet_ctx.files import UserError

# name -> module and class; a module is imported when used: it may need seconds or an optional package
BACKENDS = {"transformers": "espnet_ctx.context.transformers_llm:TransformersLLM"}


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


class LLM(ABC):
    """A language model that answers a prompt about previous texts."""

    @abstractmethod
    def __init__(self, folder: Path):
        """Load the model in `folder`."""

    @abstractmethod
    def answer(self, prompt: Prompt, previous: Sequence[str], decoding: Decoding) -> list[str]:
        """Answer one batch.

        Args:
            prompt: what is asked.
            previous: the previous texts of each request, oldest first, one a line. One that is too long for
                the model's window loses its beginning, by whole words.
            decoding: how answers are drawn; sampling depends on the seed, not on what was drawn before.

        Returns:
            The raw answer to each request, up to the first stop text of the prompt.

        Raises:
            UserError: the window cannot hold the prompt and the answer even without previous text.
        """

    @abstractmethod
    def made_with(self) -> dict[str, str]:
        """Device, precision and versions, for the record."""


def load_llm(backend: str, folder: Path) -> LLM:
    """Load the model in `folder` with a backend of `BACKENDS`.

    Raises:
        UserError: unknown backend, or files that the backend cannot load.
    """
    if backend not in BACKENDS:
        raise UserError(f"--llm_backend is '{backend}': must be one of {', '.join(BACKENDS)}")
    module, name = BACKENDS[backend].split(":")
    try:
        llm = getattr(importlib.import_module(module), name)(folder)
    except (OSError, ValueError) as e:
        raise UserError(f"{backend} cannot load a causal language model from {folder}: {e}") from e
    logging.info(f"loaded {folder}: {llm.made_with()}")
    return llm

"""Prompts: what the LLM is asked about the previous texts, and how its answer is cleaned.

A prompt is one YAML file. Those beside this module (`prompts/*.yaml`) are known by name; a path to one's own
file works in the same way. Its keys:

    base:            the form for completion models
      template: text with `{previous}` in it: the previous texts, oldest first, one a line
      stop: texts that end the answer
    instruct:        the same two keys, for models with a chat template; ours is then the user's turn
    max_new_tokens:  limit of the answer in tokens
    post:
      labels: what models write before their answer ("topic", "the title is"), case ignored
      max_words: limit of the answer in words
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_ctx.files import UserError

FOLDER = Path(__file__).with_name("prompts")
SLOT = "{previous}"
# "Sure, here is a title:", "Certainly!", "Here's what could come next:"
PREAMBLE = re.compile(
    r"^(?:(?:sure|certainly|of course|okay)(?:[!.]|,\s*(?=here))\s*)?"
    r"(?:here(?:'s|’s| is| are)\b[^:\n]*:\s*)?",
    re.IGNORECASE,
)
MARKS = " \t\"'`“”‘’«»*_#"


@dataclass(frozen=True)
class Form:
    """How a prompt is put to one kind of model."""

    template: str
    stop: tuple[str, ...]

    def render(self, previous: str) -> str:
        """The template with the previous texts in their place."""
        return self.template.replace(SLOT, previous)


@dataclass(frozen=True)
class Prompt:
    """A prompt; see the module's docstring for its fields."""

    name: str
    base: Form
    instruct: Form
    max_new_tokens: int
    labels: tuple[str, ...]
    max_words: int

    @property
    def sha256(self) -> str:
        """Hash of everything in the prompt but its name."""
        content = {k: v for k, v in asdict(self).items() if k != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def clean(self, answer: str) -> str:
        """The answer itself, on one line: no preamble, label, quotes or markdown, first line, at most
        `max_words` words.

        Returns an empty string when nothing is left.
        """
        text = PREAMBLE.sub("", answer.strip()).strip()
        marks = f"[{re.escape(MARKS)}]*"
        for label in sorted(self.labels, key=len, reverse=True):
            text = re.sub(rf"^{marks}{re.escape(label)}{marks}:{marks}", "", text, count=1, flags=re.IGNORECASE)
        first_line = text.strip().split("\n", 1)[0]
        return " ".join(first_line.strip(MARKS).split()[: self.max_words])


def prompt_names() -> list[str]:
    """The names that `load_prompt` knows."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_prompt(name_or_path: str) -> Prompt:
    """Load a prompt by its name (see `prompt_names`) or from one's own YAML file.

    Raises:
        UserError: unknown name, or a file with a missing, unknown or malformed key.
    """
    path = Path(name_or_path)
    if name_or_path in prompt_names():
        path = FOLDER / f"{name_or_path}.yaml"
    elif not path.is_file():
        allowed = ", ".join(prompt_names())
        raise UserError(f"--prompt is '{name_or_path}': neither a known name ({allowed}) nor a YAML file")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path} is not YAML: {e}") from None
    fields = _keys(path, "the file", tree, {"base": dict, "instruct": dict, "max_new_tokens": int, "post": dict})
    post = _keys(path, "post", fields["post"], {"labels": list, "max_words": int})
    for key, value in (("max_new_tokens", fields["max_new_tokens"]), ("max_words", post["max_words"])):
        if value < 1:
            raise UserError(f"{path}: {key} is {value}: must be at least 1")
    forms = {key: _form(path, key, fields[key]) for key in ("base", "instruct")}
    return Prompt(
        path.stem,
        **forms,
        max_new_tokens=fields["max_new_tokens"],
        labels=tuple(map(str, post["labels"])),
        max_words=post["max_words"],
    )


def _form(path: Path, name: str, tree: Any) -> Form:
    tree = _keys(path, name, tree, {"template": str, "stop": list})
    if tree["template"].count(SLOT) != 1:
        raise UserError(f"{path}: the template of '{name}' must contain {SLOT} once")
    if not all(isinstance(s, str) and s for s in tree["stop"]):
        raise UserError(f"{path}: stop of '{name}' is {tree['stop']}: must be a list of texts, none of them empty")
    return Form(tree["template"], tuple(tree["stop"]))


def _keys(path: Path, where: str, tree: Any, types: dict[str, type]) -> dict[str, Any]:
    """`tree` itself when it is a mapping with exactly these keys of these types."""
    if not isinstance(tree, dict) or set(tree) != set(types):
        got = ", ".join(map(str, tree)) if isinstance(tree, dict) else repr(tree)
        raise UserError(f"{path}: {where} must have exactly the keys {', '.join(types)}; it has {got}")
    for key, kind in types.items():
        if not isinstance(tree[key], kind):
            raise UserError(f"{path}: {key} is {tree[key]!r}: must be of type {kind.__name__}")
    return tree

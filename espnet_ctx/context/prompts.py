"""Prompts: what the LLM is asked about the previous texts, and how its answer is cleaned.

A prompt is one YAML file. Those beside this module (`prompts/*.yaml`) are known by name; a path to one's own
file works in the same way. Its keys:

    base:            the form for completion models
      template: text with `{previous}` in it: the previous texts, oldest first, one a line
      stop: texts that end the answer
    instruct:        the same two keys, for models with a chat template; ours is then the user's turn
    examples:        questions with answers that the base form shows first (may be left out)
      - previous: previous texts
        answer: what to answer
    max_new_tokens:  limit of the answer in tokens
    post:
      labels: what models write before their answer ("topic", "the title is"), case ignored
      max_words: limit of the answer in words (of each item)
      items: how many items of a list are kept, as segments (default: 1, no list)
      language: of the answers (default: en): its preambles and refusals are taken out, other letters are no answer
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from espnet_ctx.context.languages import LANGUAGES
from espnet_ctx.context.provenance import sha256_of
from espnet_ctx.context.segments import join_segments
from espnet_ctx.files import UserError

FOLDER = Path(__file__).with_name("prompts")
SLOT = "{previous}"
BETWEEN_EXAMPLES = "\n\n\n"
# Reasoning models say what they think first.
THOUGHTS = re.compile(r"^\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
BULLET = re.compile(r"^(?:[-*•]\s+|\(?\d{1,2}[.):]\s+)")
BETWEEN_ITEMS = " / "  # of a list on one line
MARKS = " \t\"'`“”‘’«»*_#"


@dataclass(frozen=True)
class Form:
    """How a prompt is put to one kind of model."""

    template: str
    stop: tuple[str, ...]

    def render(self, previous: str, examples: "Sequence[Example]" = ()) -> str:
        """The template with the previous texts in their place, after answered examples."""
        shown = [self.template.replace(SLOT, e.previous) + f" {e.answer}" for e in examples]
        return BETWEEN_EXAMPLES.join([*shown, self.template.replace(SLOT, previous)])


@dataclass(frozen=True)
class Example:
    """A question and its answer, for models that only complete texts."""

    previous: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """A prompt; see the module's docstring for its fields."""

    name: str
    base: Form
    instruct: Form
    max_new_tokens: int
    labels: tuple[str, ...]
    max_words: int
    items: int = 1
    language: str = "en"
    examples: tuple[Example, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of everything in the prompt but its name."""
        return sha256_of({k: v for k, v in asdict(self).items() if k != "name"})

    @property
    def asked_sha256(self) -> str:
        """Hash of what the LLM is asked; how its answers are cleaned does not count."""
        return sha256_of({key: asdict(self)[key] for key in ("base", "instruct", "examples")})

    def with_examples(self, number: int | None) -> "Prompt":
        """The prompt with its first examples only; None: all of them.

        Raises:
            UserError: it has fewer.
        """
        if number is not None and not 0 <= number <= len(self.examples):
            raise UserError(f"--num_shots is {number}: prompt '{self.name}' has examples for 0 to {len(self.examples)}")
        return replace(self, examples=self.examples[:number])

    def clean(self, answer: str) -> str:
        """The answer itself, on one line: no thoughts, preamble, label, bullets, quotes or markdown, first
        line, at most `max_words` words; of a list the first `items` items, as segments.

        Returns an empty string when nothing is left, for a refusal, and for an answer in another script.
        """
        text = LANGUAGES[self.language].preamble.sub("", THOUGHTS.sub("", answer).strip()).strip()
        marks = f"[{re.escape(MARKS)}]*"
        for label in sorted(self.labels, key=len, reverse=True):
            text = re.sub(rf"^{marks}{re.escape(label)}{marks}:{marks}", "", text, count=1, flags=re.IGNORECASE)
        if self.is_refused(text):
            return ""
        lines = [line for line in text.strip().split("\n") if line.strip()]
        if self.items > 1 and len(lines) == 1:
            lines = lines[0].split(BETWEEN_ITEMS)
        return join_segments([self._clean_line(line) for line in lines[: self.items]])

    def is_refused(self, answer: str) -> bool:
        """Whether an answer is none: the model says that it cannot or that it is a model."""
        return LANGUAGES[self.language].refusal.search(THOUGHTS.sub("", answer).strip()) is not None

    def _clean_line(self, line: str) -> str:
        line = BULLET.sub("", line.strip()).strip(MARKS)
        return " ".join(line.split()[: self.max_words]) if LANGUAGES[self.language].is_written(line) else ""


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
    types = {"base": dict, "instruct": dict, "max_new_tokens": int, "post": dict}
    fields = _keys(path, "the file", tree, types, {"examples": []})
    post = _keys(path, "post", fields["post"], {"labels": list, "max_words": int}, {"items": 1, "language": "en"})
    limits = {"max_new_tokens": fields["max_new_tokens"], "max_words": post["max_words"], "items": post["items"]}
    for key, value in limits.items():
        if value < 1:
            raise UserError(f"{path}: {key} is {value}: must be at least 1")
    if post["language"] not in LANGUAGES:
        raise UserError(f"{path}: language is '{post['language']}': must be one of {', '.join(LANGUAGES)}")
    forms = {key: _form(path, key, fields[key]) for key in ("base", "instruct")}
    examples = [_keys(path, "an example", e, {"previous": str, "answer": str}) for e in fields["examples"]]
    return Prompt(
        path.stem,
        **forms,
        **limits,
        labels=tuple(map(str, post["labels"])),
        language=post["language"],
        examples=tuple(Example(**example) for example in examples),
    )


def _form(path: Path, name: str, tree: Any) -> Form:
    tree = _keys(path, name, tree, {"template": str, "stop": list})
    if tree["template"].count(SLOT) != 1:
        raise UserError(f"{path}: the template of '{name}' must contain {SLOT} once")
    if not all(isinstance(s, str) and s for s in tree["stop"]):
        raise UserError(f"{path}: stop of '{name}' is {tree['stop']}: must be a list of texts, none of them empty")
    return Form(tree["template"], tuple(tree["stop"]))


def _keys(path: Path, where: str, tree: Any, types: dict[str, type], defaults: dict[str, Any] = {}) -> dict[str, Any]:
    """`tree` with the defaults filled in, when it is a mapping with exactly these keys of these types."""
    if not isinstance(tree, dict) or set(tree) - set(defaults) != set(types):
        got = ", ".join(map(str, tree)) if isinstance(tree, dict) else repr(tree)
        optional = f" (and may have {', '.join(defaults)})" if defaults else ""
        raise UserError(f"{path}: {where} must have exactly the keys {', '.join(types)}{optional}; it has {got}")
    tree = {**defaults, **tree}
    for key, kind in (types | {key: type(value) for key, value in defaults.items()}).items():
        if not isinstance(tree[key], kind):
            raise UserError(f"{path}: {key} is {tree[key]!r}: must be of type {kind.__name__}")
    return tree

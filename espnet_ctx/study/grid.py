"""The grid of a study: which systems a YAML file asks for, and where each of them lies.

Keys of the YAML file, all but the first six optional:

    run:        command that takes the options of ctx.sh, such as local/ctx.sh or ./run.sh
    train_set, valid_set, test_sets:  as for ctx.sh
    llms:       name -> llm (hub id, folder or name on a server; default: the name), make (command that makes the LLM; it
                gets --out <expdir>/llm/<name> and --data data/<train_set>), options (further options of ctx.sh),
                parameters (their number, where no file tells)
    grid:       axis -> list of values; the axes are those of `AXES`
    task:       asr (default), slu or cls
    finetune:   options of ctx.sh for the systems, which the base does not get
    bases:      seed -> folder of a context-free base to start from, trained on the whole training set (default: the study
                trains one for every seed, and for every share of the data)
    text_encoder:  default minilm
    ngpu:       GPUs of a job (default: 0)
    expdir, dumpdir:  default exp/study and dump
    minutes:    kind of job -> how long one takes, for the estimate before the first of a kind is done
"""

import itertools
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from espnet_ctx.files import UserError

# axis -> default values, type, allowed values (None: any)
AXES: dict[str, tuple[list, type, tuple | None]] = {
    "system": (["generated", "aware"], str, ("none", "prev_text", "generated", "aware")),
    "prompt": (["topic"], str, None),
    "llm": ([], str, None),
    "pooling": (["mean"], str, ("tokens", "cls", "mean")),
    "num_prev": ([1], int, None),
    "alpha": ([0.5], float, None),
    "data": ([1.0], float, None),
    "seed": ([1], int, None),
}
KINDS = ("data", "llm", "subset", "context", "quality", "base", "system")
REQUIRED = {"run": str, "train_set": str, "valid_set": str, "test_sets": str, "llms": dict, "grid": dict}
OPTIONAL: dict[str, Any] = {
    "task": "asr",
    "finetune": "",
    "bases": {},
    "text_encoder": "minilm",
    "ngpu": 0,
    "expdir": "exp/study",
    "dumpdir": "dump",
    "minutes": {},
}
LLM_KEYS = {"llm": str, "make": str, "options": str, "parameters": int}
# which axes make a difference to a system; the others are None in its points
MATTERS = {
    "none": (),
    "prev_text": ("pooling", "num_prev"),
    "generated": ("prompt", "llm", "pooling", "num_prev"),
    "aware": ("prompt", "llm", "pooling", "num_prev", "alpha"),
}


@dataclass(frozen=True)
class Point:
    """One system to train: a value of each axis, None where it makes no difference.

    Attributes:
        system: none, prev_text, generated or aware.
        prompt: name, or a YAML file.
        llm: name in `Study.llms`.
        pooling: of the text encoder.
        num_prev: previous utterances.
        alpha: weight of the distillation.
        data: share of the training set, 0 < data <= 1.
        seed: of training.
    """

    system: str
    prompt: str | None
    llm: str | None
    pooling: str | None
    num_prev: int | None
    alpha: float | None
    data: float
    seed: int

    @property
    def name(self) -> str:
        """The system's name, the same for every seed and share of the data: `asr_tag` of ctx.sh."""
        prompt = Path(self.prompt).stem if self.prompt else None
        num_prev = None if self.num_prev is None else f"n{self.num_prev}"
        alpha = None if self.alpha is None else f"a{self.alpha:g}"
        return "_".join(part for part in (self.system, prompt, num_prev, self.llm, self.pooling, alpha) if part)

    @property
    def folder(self) -> str:
        """Where the systems of the same seed and share of the data lie, with the base that all start from."""
        return f"seed{self.seed}{share_suffix(self.data)}"


@dataclass(frozen=True)
class Study:
    """What a YAML file says; see the module."""

    file: Path
    run: tuple[str, ...]
    train_set: str
    valid_set: str
    test_sets: str
    llms: dict[str, dict[str, Any]]
    points: tuple[Point, ...]
    task: str
    finetune: tuple[str, ...]
    bases: dict[int, str]
    text_encoder: str
    ngpu: int
    expdir: Path
    dumpdir: Path
    minutes: dict[str, float]

    def llm_folder(self, name: str) -> str:
        """What --llm is for an LLM of the study."""
        llm = self.llms[name]
        return str(self.expdir / "llm" / name) if "make" in llm else llm.get("llm", name)

    def context_tag(self, point: Point) -> str:
        """The folder of the point's context below <dumpdir>/context, as ctx.sh calls it."""
        kind = f"prev_text_n{point.num_prev}"
        if point.system != "prev_text":
            kind = f"{Path(point.prompt).stem}_n{point.num_prev}_{Path(self.llm_folder(point.llm)).name}"
        return f"{kind}_{Path(self.text_encoder).name}_{point.pooling}"

    def subset(self, point: Point) -> str:
        """Name of the training set with the point's share of the data."""
        return f"{self.train_set}{share_suffix(point.data)}"


def share_suffix(share: float) -> str:
    """What names get for a share of the training set; nothing for all of it."""
    return "" if share == 1 else f"_data{100 * share:g}"


def read_study(path) -> Study:
    """Read a study's YAML file.

    Raises:
        UserError: no such file, or an unknown, missing or malformed key.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (option --config)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path} is not YAML: {e}") from None
    known = {**REQUIRED, **{key: type(value) for key, value in OPTIONAL.items()}}
    _check_keys(path, "the file", tree, known, REQUIRED)
    _check_keys(path, "minutes", tree.get("minutes", {}), dict.fromkeys(KINDS, (int, float)))
    for name, llm in tree["llms"].items():
        _check_keys(path, f"llms: {name}", llm, LLM_KEYS)
        if "/" in name or ("make" in llm and "llm" in llm):
            raise UserError(f"{path}: llms: {name}: a name without '/', with either llm or make")
    tree = {**OPTIONAL, **tree}
    values = _read_axes(path, tree.pop("grid"), list(tree["llms"]))
    _check_keys(path, "bases", tree["bases"], dict.fromkeys(values["seed"], str))
    for key in ("run", "finetune"):
        tree[key] = tuple(shlex.split(tree[key]))
    for key in ("expdir", "dumpdir"):
        tree[key] = Path(tree[key])
    return Study(file=path, points=tuple(_points(values)), **tree)


def _check_keys(path: Path, where: str, tree: Any, types: dict[str, Any], required=()) -> None:
    if not isinstance(tree, dict):
        raise UserError(f"{path}: {where} must be a mapping, got {tree!r}")
    for key in (*required, *tree):
        if key not in types:
            raise UserError(f"{path}: {where} has the unknown key '{key}'; allowed: {', '.join(map(str, types))}")
        if not isinstance(tree.get(key), types[key]):
            raise UserError(f"{path}: {key} is {tree.get(key)!r}: must be of type {getattr(types[key], '__name__', 'number')}")


def _read_axes(path: Path, grid: dict, llms: list[str]) -> dict[str, list]:
    _check_keys(path, "grid", grid, dict.fromkeys(AXES, list))
    values = {}
    for axis, (default, kind, allowed) in AXES.items():
        values[axis] = [float(v) if kind is float and type(v) is int else v for v in grid.get(axis, default)]
        allowed = tuple(llms) if axis == "llm" else allowed
        for value in values[axis]:
            if type(value) is not kind or (allowed is not None and value not in allowed):
                choice = f"one of {', '.join(allowed)}" if allowed is not None else f"of type {kind.__name__}"
                raise UserError(f"{path}: grid: {axis} has {value!r}: must be {choice}")
        if len(set(values[axis])) < len(values[axis]):
            raise UserError(f"{path}: grid: {axis} is {values[axis]}: a value occurs twice")
    for axis, fits, what in (
        ("data", lambda v: 0 < v <= 1, "shares of the training set, above 0 and at most 1"),
        ("alpha", lambda v: 0 <= v <= 1, "from 0 to 1"),
        ("num_prev", lambda v: v >= 1, "at least 1"),
    ):
        if not all(map(fits, values[axis])):
            raise UserError(f"{path}: grid: {axis} is {values[axis]}: must be {what}")
    needed = {"system", "data", "seed"}.union(*(MATTERS[system] for system in values["system"]))
    for axis in AXES:
        if axis in needed and not values[axis]:
            raise UserError(f"{path}: grid: {axis} has no value")
    return values


def _points(values: dict[str, list]) -> list[Point]:
    """Every combination once; `none`, which all are compared with, comes with every seed and share of the data."""
    found: dict[Point, None] = {}
    for data, seed in itertools.product(values["data"], values["seed"]):
        none = Point("none", None, None, None, None, None, data, seed)
        found[none] = None
        for system in values["system"]:
            axes = MATTERS[system]
            for combination in itertools.product(*(values[axis] for axis in axes)):
                found[replace(none, system=system, **dict(zip(axes, combination, strict=True)))] = None
    return list(found)

"""What a study found: one table of its systems, and figures of the error rate against what was varied."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from espnet_ctx.files import read_table, whole_file
from espnet_ctx.scoring.report import Run, compare_with_base, find_runs, new_figure, save_figure, seed_table, spread, verdict
from espnet_ctx.scoring.tables import markdown_table
from espnet_ctx.study.grid import Point, Study
from espnet_ctx.study.jobs import Job, job_name, quality_folder

INTRODUCTION = """Figures in percent, mean ± standard deviation over the seeds. The last column: test against `none` of the same
seed and data (MAPSSWE for word error rates, else a paired permutation test), the largest p over the seeds. AUC: how often the
context is nearer to what is said next than to another utterance (`context report` on the validation set; 0.5 is chance).
"""


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        point: the system, of any of its seeds.
        dataset: `<decoding>/<set>`.
        runs: its runs, one a seed.
        auc: of its contexts; None: unknown, or it has none.
        parameters: of its LLM, likewise.
        utterances: of its training set.
    """

    point: Point
    dataset: str
    runs: tuple[Run, ...]
    auc: float | None
    parameters: int | None
    utterances: int

    def headline(self) -> list[float]:
        """The first figure of each run, percent."""
        return [next(iter(run.rates().values())) for run in self.runs]


def write_results(study: Study, finished: Sequence[Job]) -> Path | None:
    """Write `<expdir>/report/study.md` and its figures over the systems that are finished.

    Returns:
        The report's file; None: nothing is finished.
    """
    names = {job.name for job in finished}
    points = {(p.folder, p.name): p for p in study.points if job_name(p) in names}
    if not points:
        return None
    runs = [run for run in find_runs(study.expdir, study.task) if (run.seed, run.system) in points and not run.test_context]
    comparisons = compare_with_base(runs, "none")
    rows = _rows(study, runs, points)
    out = study.expdir / "report"
    waiting = len(study.points) - len(points)
    text = f"# Study {study.expdir}\n\n{INTRODUCTION}\n"
    text += f"{waiting} of {len(study.points)} systems are not finished.\n\n" if waiting else ""
    text += _table(study, rows, comparisons) + "\n"
    for name, draw in FIGURES.items():
        for dataset in dict.fromkeys(row.dataset for row in rows):
            path = out / f"{name}_{dataset.replace('/', '_')}.png"
            if draw([row for row in rows if row.dataset == dataset], path):
                text += f"![{name.replace('_', ' ')}]({path.name})\n\n"
    text += "## Every seed\n\n" + seed_table(runs, comparisons, "none")
    with whole_file(out / "study.md") as f:
        f.write(text)
    return out / "study.md"


def _rows(study: Study, runs: Sequence[Run], points: Mapping[tuple[str, str], Point]) -> list[Row]:
    groups: dict[tuple[Point, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((replace(points[run.seed, run.system], seed=0), run.dataset), []).append(run)
    auc = _auc(quality_folder(study) / "report.json")
    utterances = {}
    for point, _ in groups:
        utterances[point.data] = len(read_table(study.dumpdir / "raw" / study.subset(point) / "text"))
    parameters = {name: count_parameters(study, name) for name in study.llms}
    order = list(dict.fromkeys(replace(point, seed=0) for point in study.points))
    return [
        Row(
            point,
            dataset,
            tuple(groups[point, dataset]),
            None if point.system == "none" else auc.get(study.context_tag(point)),
            parameters.get(point.llm),
            utterances[point.data],
        )
        for point, dataset in sorted(groups, key=lambda key: (key[1], order.index(key[0])))
    ]


def _auc(report: Path) -> dict[str, float]:
    try:
        rows = json.loads(report.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {row["context"]: row["auc"] for row in rows if math.isfinite(row["auc"])}


def count_parameters(study: Study, llm: str) -> int | None:
    """Of an LLM: what the study says, else what its files hold; None: neither tells."""
    if "parameters" in study.llms[llm]:
        return study.llms[llm]["parameters"]
    total = 0
    for path in sorted(Path(study.llm_folder(llm)).glob("*.safetensors")):
        with open(path, "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


def _table(study: Study, rows: Sequence[Row], comparisons: Mapping[Run, Any]) -> str:
    """One row a system and share of the data; what is the same for all is said once."""
    cells: dict[str, Callable[[Row], Any]] = {
        "dataset": lambda row: row.dataset,
        "system": lambda row: row.point.system,
        "prompt": lambda row: row.point.prompt,
        "LLM": lambda row: row.point.llm,
        "parameters": lambda row: row.parameters,
        "pooling": lambda row: row.point.pooling,
        "num_prev": lambda row: row.point.num_prev,
        "alpha": lambda row: row.point.alpha,
        "training utterances": lambda row: row.utterances,
        "AUC": lambda row: None if row.auc is None else f"{row.auc:.3f}",
    }
    values = {name: [cell(row) for row in rows] for name, cell in cells.items()}
    known = {name: {value for value in column if value is not None} for name, column in values.items()}
    same = [f"{name} {found.pop()}" for name, found in known.items() if name != "system" and len(found) == 1]
    shown = [name for name in cells if name == "system" or known[name]]
    shown = [name for name in shown if name == "system" or len(set(values[name]) - {None}) > 1]
    rates = {run: run.rates() for row in rows for run in row.runs}
    columns = list(dict.fromkeys(name for found in rates.values() for name in found))
    lines = []
    for number, row in enumerate(rows):
        axes = ["-" if values[name][number] is None else values[name][number] for name in shown]
        figures = [spread([rates[run][name] for run in row.runs if name in rates[run]]) for name in columns]
        tests = [comparisons[run] for run in row.runs if run in comparisons]
        lines.append([*axes, len(row.runs), *figures, verdict(tests)])
    table = markdown_table([*shown, "seeds", *columns, "against none"], lines)
    return table + (f"\nThe same for all: {', '.join(same)}.\n" if same else "")


def _label(point: Point, without: Sequence[str], rows: Sequence[Row]) -> str:
    """What tells a line of a figure from the others: its values of the axes that vary, but some."""
    names = [field.name for field in fields(Point) if field.name not in (*without, "seed")]
    varying = [name for name in names if len({getattr(row.point, name) for row in rows} - {None}) > 1]
    values = [getattr(point, name) for name in names if name == "system" or name in varying]
    return " ".join(str(value) for value in values if value is not None)


def _lines(rows: Sequence[Row], axis: str, x: Callable[[Row], float | None], label: str, path: Path, log: bool) -> bool:
    """Draw the headline against `x`, a line for each system that has several values of an axis."""
    lines: dict[Point, list[Row]] = {}
    for row in rows:
        if x(row) is not None and getattr(row.point, axis) is not None:
            lines.setdefault(replace(row.point, **{axis: None}), []).append(row)
    lines = {point: line for point, line in lines.items() if len(line) > 1}
    if not lines:
        return False
    figure, [axes] = new_figure(1)
    for point, line in lines.items():
        line = sorted(line, key=x)
        heights = [mean(row.headline()) for row in line]
        spreads = [stdev(row.headline()) if len(row.runs) > 1 else 0.0 for row in line]
        look = {"marker": "o", "ls": "--" if point.system == "aware" else "-", "capsize": 3}
        axes.errorbar([x(row) for row in line], heights, spreads, **look, label=_label(point, [axis], rows))
    if axis != "data":
        _draw_none(axes, rows)
    if log:
        axes.set_xscale("log")
    _finish(figure, axes, rows, label, path)
    return True


def _draw_none(axes, rows: Sequence[Row]) -> None:
    none = [row for row in rows if row.point.system == "none" and row.point.data == 1]
    if none:
        axes.axhline(mean(none[0].headline()), color="black", ls=":", label="none")


def _finish(figure, axes, rows: Sequence[Row], label: str, path: Path) -> None:
    axes.set(xlabel=label, ylabel=f"{next(iter(rows[0].runs[0].rates()))} (%)")
    axes.legend(fontsize=7)
    save_figure(figure, path)


def _draw_llm_size(rows: Sequence[Row], path: Path) -> bool:
    return _lines(rows, "llm", lambda row: row.parameters, "parameters of the LLM", path, log=True)


def _draw_data_size(rows: Sequence[Row], path: Path) -> bool:
    return _lines(rows, "data", lambda row: row.utterances, "training utterances", path, log=True)


def _draw_quality(rows: Sequence[Row], path: Path) -> bool:
    """A point for each context and system."""
    judged = [row for row in rows if row.auc is not None]
    if len({row.auc for row in judged}) < 2:
        return False
    figure, [axes] = new_figure(1)
    for system in dict.fromkeys(row.point.system for row in judged):
        own = [row for row in judged if row.point.system == system]
        axes.plot([row.auc for row in own], [mean(row.headline()) for row in own], "o", label=system)
        for row in own:
            text = _label(row.point, ["system", "alpha"], rows)
            axes.annotate(text, (row.auc, mean(row.headline())), fontsize=6, xytext=(3, 3), textcoords="offset points")
    _draw_none(axes, rows)
    _finish(figure, axes, rows, "AUC of the context", path)
    return True


FIGURES = {"llm_size": _draw_llm_size, "data_size": _draw_data_size, "context_quality": _draw_quality}

"""One report over all systems and seeds of an experiment folder: a table and figures.

Reads only what scoring and training left: `<system>/<decoding>/<set>/score_*` and ESPnet's `train.log`.
"""

import json
import math
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Mapping, NamedTuple, Sequence

from espnet_ctx.files import UserError, whole_file
from espnet_ctx.scoring.homophones import HomophoneCounts
from espnet_ctx.scoring.sclite import read_summary
from espnet_ctx.scoring.significance import Comparison, format_p, mapsswe
from espnet_ctx.scoring.tables import find_results, markdown_table
from espnet_ctx.scoring.understanding import Verdict, compare_folders, read_rates

_EPOCH = re.compile(r"(?P<epoch>\d+)epoch results: .*?\[valid\] (?P<stats>.*?)(?:, \[|$)", re.MULTILINE)
_STAT = re.compile(r"(\w+)=([-+.\deE]+|nan|inf|-inf)(?=,|$)")
_TEST_CONTEXT = re.compile(r"(?P<decoding>.+_model_.+)_(?P<context>gold|hypothesis|generated|shuffled|none)")

# a scored set's report, by task
SCORES = {"asr": "score_wer/result.txt", "slu": "score_ner/result.json", "cls": "score_sentiment/result.json"}


class Run(NamedTuple):
    """A decoded set of one system and seed.

    Attributes:
        system: name of the model's folder without `asr_` (or another task).
        seed: its parent folder below exp (`seed2`), "" for the default seed.
        dataset: `<decoding>/<set>`, without the test context.
        folder: where `score_wer` (or `score_ner`, `score_sentiment`) and its neighbours are.
        test_context: what was fed at decoding (`--test_context`), "" for what the system was trained with.
    """

    system: str
    seed: str
    dataset: str
    folder: Path
    test_context: str = ""

    @property
    def label(self) -> str:
        """Name in figures."""
        return f"{self.system}\n({self.test_context})" if self.test_context else self.system

    def error_rate(self, score: str) -> float | None:
        """Read sclite's error rate for "wer", "cer" or "ter", percent; None: not scored."""
        result = self.folder / f"score_{score}" / "result.txt"
        return read_summary(result).errors if result.exists() else None

    def homophones(self) -> HomophoneCounts | None:
        """Read what `local/score.sh` counted; None: the corpus has no list of homophones."""
        result = self.folder / "score_homophones" / "result.json"
        if not result.exists():
            return None
        counts = json.loads(result.read_text(encoding="utf-8"))
        return HomophoneCounts(*(counts[name] for name in HomophoneCounts._fields))

    def rates(self) -> dict[str, float]:
        """Collect the figures of the report's columns, percent, the headline first; those not scored are left out."""
        if understood := read_rates(self.folder):
            return understood
        counts = self.homophones()
        rates = {"WER": self.error_rate("wer"), "CER": self.error_rate("cer")}
        if counts is not None:
            rates["homophone WER"] = counts.homophone_wer
            rates["wrong twin"] = counts.wrong_twin_rate
            rates["WER of other words"] = counts.other_wer
        return {name: rate for name, rate in rates.items() if rate is not None}


def find_runs(exp, task: str = "asr") -> list[Run]:
    """Find every decoded and scored set of a task ("asr", "slu" or "cls") in `exp` and in its folders seed*.

    What lies deeper or elsewhere is another experiment's: a study's, or a training that was moved aside.

    Raises:
        UserError: there is none.
    """
    exp = Path(exp)
    runs = []
    for system, results in find_results(exp).items():
        seed = str(system.parent.relative_to(exp)).removeprefix(".")
        if not system.name.startswith(f"{task}_") or (seed and not (seed.startswith("seed") and "/" not in seed)):
            continue
        for folder in sorted({result.parent.parent for result in results}):
            decoding, test_context = split_decoding(folder.parent.name)
            dataset = str(folder.parent.with_name(decoding).relative_to(system) / folder.name)
            runs.append(Run(system.name.removeprefix(f"{task}_"), seed, dataset, folder, test_context))
    if not runs:
        raise UserError(f"no {task}_*/<decoding>/<set>/{SCORES[task]} below {exp}: stages 11 and 12 first")
    return runs


def split_decoding(name: str) -> tuple[str, str]:
    """Take the test context off the name of a decoding folder, as ctx.sh puts it there; "" where there is none."""
    match = _TEST_CONTEXT.fullmatch(name)
    return (match["decoding"], match["context"]) if match else (name, "")


def is_base(system: str, base: str) -> bool:
    """Tell whether a system is the one to compare with: `none`, or `<config>_none`."""
    return system == base or system.endswith(f"_{base}")


def compare_with_base(runs: Sequence[Run], base: str) -> dict[Run, Comparison | Verdict]:
    """Test every run against the base's run of the same seed and dataset, by its headline figure."""
    bases = {(run.seed, run.dataset): run for run in runs if is_base(run.system, base) and not run.test_context}
    comparisons = {}
    for run in runs:
        other = bases.get((run.seed, run.dataset))
        if other is not None and other != run:
            if (run.folder / "score_wer").exists():
                comparisons[run] = mapsswe(other.folder / "score_wer", run.folder / "score_wer")
            else:
                comparisons[run] = compare_folders(other.folder, run.folder)
    return comparisons


def summary_table(runs: Sequence[Run], comparisons: Mapping[Run, Comparison | Verdict], base: str) -> str:
    """Write a row per system and dataset: mean and standard deviation over the seeds."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.dataset, not is_base(run.system, base), run.system, run.test_context)):
        groups.setdefault((run.system, *_fed(run, runs), run.dataset), []).append(run)
    rates = {run: run.rates() for run in runs}
    columns = list(dict.fromkeys(name for run in runs for name in rates[run]))
    rows = []
    for names, group in groups.items():
        cells = [spread([rates[run][name] for run in group if name in rates[run]]) for name in columns]
        tests = [comparisons[run] for run in group if run in comparisons]
        rows.append([*names, len(group), *cells, verdict(tests)])
    return markdown_table(["system", *_fed(None, runs), "dataset", "seeds", *columns, f"against {base}"], rows)


def _fed(run: Run | None, runs: Sequence[Run]) -> list[str]:
    """A run's cell for what was fed at decoding (None: the column's head); nothing when no run has a test context."""
    if not any(other.test_context for other in runs):
        return []
    return ["test context" if run is None else run.test_context or "-"]


def seed_table(runs: Sequence[Run], comparisons: Mapping[Run, Comparison | Verdict], base: str) -> str:
    """Write a row per run."""
    columns = list(dict.fromkeys(name for run in runs for name in run.rates()))
    rows = []
    for run in sorted(runs, key=lambda run: (run.dataset, run.system, run.test_context, run.seed)):
        rates = run.rates()
        cells = [spread([rates[name]] if name in rates else []) for name in columns]
        tests = [comparisons[run]] if run in comparisons else []
        rows.append([run.system, *_fed(run, runs), run.seed or "default", run.dataset, *cells, verdict(tests)])
    return markdown_table(["system", *_fed(None, runs), "seed", "dataset", *columns, f"against {base}"], rows)


def spread(values: Sequence[float]) -> str:
    """Print mean and standard deviation; "-" without values."""
    if not values:
        return "-"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def verdict(tests: Sequence[Comparison | Verdict]) -> str:
    """Better or worse only where every seed says so; p is the largest over the seeds."""
    if not tests:
        return "-"
    verdicts = {test.better for test in tests}
    common = {"system": "better", "base": "worse"}.get(verdicts.pop()) if len(verdicts) == 1 else None
    p = format_p(max(test.p for test in tests))
    return f"{common or 'same'}, p {p if p.startswith('<') else '= ' + p}"


def read_learning_curve(system) -> dict[int, dict[str, float]]:
    """Read the validation statistics of each epoch from a model folder's train.log.

    ESPnet renames the log of an earlier start to train.1.log, train.2.log, ...; newer logs win.

    Returns:
        `{epoch: {statistic: value}}`, e.g. `{1: {"loss": 3.2, "cer_ctc": 0.4}}`; empty without a log.
    """
    curve: dict[int, dict[str, float]] = {}
    for log in sorted(Path(system).glob("train*.log"), key=lambda log: log.stat().st_mtime):
        for match in _EPOCH.finditer(log.read_text(encoding="utf-8", errors="replace")):
            stats = ((name, float(value)) for name, value in _STAT.findall(match["stats"]))
            curve[int(match["epoch"])] = {name: value for name, value in stats if math.isfinite(value)}
    return dict(sorted(curve.items()))


def plot_error_rates(runs: Sequence[Run], path) -> None:
    """Draw the word error rates, or F1, of one dataset's systems as bars, with the spread over the seeds."""
    figure, axes = new_figure(1)
    systems = list(dict.fromkeys(run.label for run in runs))
    rates = {run: run.rates() for run in runs}
    names = [name for name in rates[runs[0]] if all(name in rates[run] for run in runs)]
    names = [name for name in names if "F1" in name] or [name for name in names if "WER" in name]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        values = [[rates[run][name] for run in runs if run.label == s] for s in systems]
        positions = [x + (i - (len(names) - 1) / 2) * width for x in range(len(systems))]
        heights = [mean(v) for v in values]
        spreads = [stdev(v) if len(v) > 1 else 0.0 for v in values]
        bars = axes[0].bar(positions, heights, width, yerr=spreads, capsize=3, label=name)
        axes[0].bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes[0].set_xticks(range(len(systems)), systems)
    axes[0].set_ylabel("F1 (%)" if "F1" in names[0] else "error rate (%)")
    axes[0].set_title(runs[0].dataset, fontsize=9)
    axes[0].legend()
    save_figure(figure, path)


def plot_learning_curves(curves: Mapping[str, Mapping[int, Mapping[str, float]]], path) -> None:
    """Draw validation loss and character error rate or accuracy over the epochs, a line per model folder."""
    known = {name for curve in curves.values() for stats in curve.values() for name in stats}
    second = ("acc", "validation accuracy") if "cer_ctc" not in known else ("cer_ctc", "validation CER (greedy CTC)")
    panels = [("loss", "validation loss"), second]
    figure, axes = new_figure(len(panels))
    for axis, (name, label) in zip(axes, panels, strict=True):
        for system, curve in curves.items():
            points = {epoch: stats[name] for epoch, stats in curve.items() if name in stats}
            if points:
                axis.plot(list(points), list(points.values()), marker=".", label=system)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        if axis.lines:
            axis.legend(fontsize=8)
    save_figure(figure, path)


def new_figure(panels: int):
    """Make a figure with panels in a row; returns it and its axes."""
    from matplotlib.figure import Figure  # only when drawing; needs no display

    figure = Figure(figsize=(6 * panels, 4), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def save_figure(figure, path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path, "wb") as f:
        figure.savefig(f, format="png", dpi=150)


def write_report(exp, out, base: str = "none", task: str = "asr") -> Path:
    """Write `out/report.md` and its figures over everything of a task scored below `exp`.

    Args:
        exp: experiment folder with `asr_*` and `seed*/asr_*`.
        out: folder of the report.
        base: the system that the others are tested against (default: "none").
        task: "asr" (default), "slu" or "cls"; the folders begin with it.

    Returns:
        The report's file.
    """
    exp, out = Path(exp), Path(out)
    runs = find_runs(exp, task)
    comparisons = compare_with_base(runs, base)
    text = f"# Systems below {exp}\n\n"
    figures, test = ("Error rates in percent by sclite", "matched-pairs test (MAPSSWE)")
    if task != "asr":
        figures, test = ("Figures in percent", f"paired permutation test of {next(iter(runs[0].rates()))}")
    text += f"{figures}, mean ± standard deviation over the seeds; the last column is\n"
    text += f"the {test}, the largest p over the seeds.\n"
    if any(run.test_context for run in runs):
        text += "Test context: what was fed at decoding; -: what the system was trained with.\n"
    text += "\n"
    text += summary_table(runs, comparisons, base) + "\n"
    if len({run.seed for run in runs}) > 1:
        text += "## Every seed\n\n" + seed_table(runs, comparisons, base) + "\n"
    for dataset in dict.fromkeys(run.dataset for run in runs):
        figure = f"{'wer' if task == 'asr' else 'f1'}_{dataset.replace('/', '_')}.png"
        plot_error_rates([run for run in runs if run.dataset == dataset], out / figure)
        text += f"![{'error rates' if task == 'asr' else 'F1'}]({figure})\n\n"
    folders = {system.parent for system in exp.rglob("train.log") if system.parent.name.startswith(f"{task}_")}
    curves = {str(folder.relative_to(exp)): read_learning_curve(folder) for folder in sorted(folders)}
    if any(curves.values()):
        plot_learning_curves(curves, out / "learning_curves.png")
        text += "![learning curves](learning_curves.png)\n"
    report = out / "report.md"
    with whole_file(report) as f:
        f.write(text)
    return report

"""RESULTS.md as ESPnet's show_asr_result.sh prints it."""

import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Iterable, Sequence

from espnet_ctx.files import UserError
from espnet_ctx.scoring.context_words import ContextCounts
from espnet_ctx.scoring.sclite import UNITS, read_summary
from espnet_ctx.scoring.understanding import KINDS, read_rates, read_scores
from espnet_ctx.version import __version__

CONTEXT_RESULT = "score_context/result.json"
HEADER = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Write a table in Markdown; every line ends with a newline."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"|{'|'.join(map(str, line))}|\n" for line in lines)


def find_results(exp) -> dict[Path, list[Path]]:
    """Find the reports `<system>/<decoding>/<set>/score_*/result.{txt,json}` below `exp`: `{system: reports}`."""
    systems: dict[Path, list[Path]] = {}
    for result in sorted(Path(exp).rglob("score_*/result.*")):
        folders = result.parent.parents
        reports = {"result.txt": UNITS, "result.json": KINDS}.get(result.name, ())
        if result.parent.name.removeprefix("score_") in reports and len(folders) > 3:
            systems.setdefault(folders[2], []).append(result)
    return systems


def results_markdown(exp) -> str:
    """Make the text of RESULTS.md for every system below `exp`.

    The date is that of the newest result, so that the same results give the same text.

    Raises:
        UserError: nothing below `exp` is scored.
    """
    systems = find_results(exp)
    if not systems:
        raise UserError(f"no score_wer/result.txt below {exp}: decode and score first (stages 11 and 12)")
    newest = max(result.stat().st_mtime for results in systems.values() for result in results)
    text = "# RESULTS\n" + environment(newest)
    for system, results in systems.items():
        text += f"## {system}\n"
        for kind in KINDS:
            scored = [result.parent.parent for result in results if result.parent.name == f"score_{kind}"]
            if scored:
                text += f"### {kind.upper()}\n\n" + _understanding_table(system, scored) + "\n"
        texts = [result for result in results if result.name == "result.txt"]
        for score in UNITS if texts else ():
            rows = [_row(system, result) for result in texts if result.parent.name == f"score_{score}"]
            text += f"### {score.upper()}\n\n" + markdown_table(HEADER, rows) + "\n"
        folders = sorted({result.parent.parent for result in texts if (result.parent.parent / CONTEXT_RESULT).exists()})
        if folders:
            text += "### Words of the context\n\n" + _context_table(system, folders) + "\n"
    return text


def environment(seconds: float) -> str:
    """List date, versions and commit, as ESPnet's script does; `seconds` since the epoch."""
    date = time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(seconds))
    python = sys.version.replace("\n", " ")
    lines = [f"- date: `{date}`", f"- python version: `{python}`"]
    versions = {"espnet": _version("espnet"), "espnet_ctx": __version__, "pytorch": _version("torch")}
    lines += [f"- {name} version: `{name} {number}`" for name, number in versions.items()]
    lines.append(f"- Git hash: `{_git('rev-parse', 'HEAD')}`")
    lines.append(f"  - Commit date: `{_git('log', '-1', '--format=%cd')}`")
    return "## Environments\n" + "\n".join(lines) + "\n\n"


def _row(system: Path, result: Path) -> list[str]:
    summary = read_summary(result)
    rates = [f"{rate:.1f}" for rate in summary[2:]]
    dataset = result.parent.parent.relative_to(system)
    return [str(dataset), str(summary.sentences), str(summary.words), *rates]


def _context_table(system: Path, folders: Sequence[Path]) -> str:
    """A row per decoded set: errors on words inside and outside the context, and words copied from it, in percent."""
    rows = []
    for folder in folders:
        counts = ContextCounts(**json.loads((folder / CONTEXT_RESULT).read_text(encoding="utf-8")))
        rates = (counts.inside_wer, counts.outside_wer, counts.false_insertion_rate)
        inside, outside, copied = (f"{rate:.1f}" for rate in rates)
        rows.append([folder.relative_to(system), counts.inside, inside, counts.outside, outside, copied])
    return markdown_table(["dataset", "in context", "WER", "not in context", "WER", "false insertions"], rows)


def _understanding_table(system: Path, folders: Sequence[Path]) -> str:
    """A row per decoded set, in percent, with the 95% bootstrap interval of the headline."""
    rows = []
    for folder in folders:
        _, scores = read_scores(folder)
        rates = read_rates(folder)
        low, high = next(iter(scores["interval"].values()))
        cells = [f"{rate:.1f}" for rate in rates.values()]
        rows.append([folder.relative_to(system), scores["utterances"], *cells, f"{low:.1f} to {high:.1f}"])
    return markdown_table(["dataset", "Snt", *rates, f"95% interval of {next(iter(rates))}"], rows)


def classes_markdown(exp, tag_set: str = "combined", criterion: str = "standard") -> str:
    """Make a table of precision, recall and F1 of every tag or sentiment class in a system's decoded sets, in percent.

    Args:
        exp: the system's folder.
        tag_set: of named entities, "combined" or "raw".
        criterion: of named entities, "standard" (F1) or "label" (label-F1).

    Raises:
        UserError: nothing is scored in this way, or the texts have no such tags.
    """
    rows = []
    for folder in sorted(path.parent.parent for kind in KINDS for path in Path(exp).glob(f"*/*/score_{kind}/result.json")):
        kind, scores = read_scores(folder)
        for name, rates in kind.classes(scores, tag_set, criterion).items():
            rows.append([folder.relative_to(exp), name, *(f"{rate:.1f}" for rate in rates)])
    if not rows:
        raise UserError(f"no score_{{{','.join(KINDS)}}}/result.json below {exp}: decode and score first (stages 11 and 12)")
    return markdown_table(["dataset", "class", "precision", "recall", "F1"], rows)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "none"

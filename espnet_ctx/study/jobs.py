"""The jobs of a study: what must be run for its grid, in which order, and what is done already."""

import json
import shlex
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_ctx.context.provenance import sha256_of, sha256_of_files
from espnet_ctx.files import UserError, whole_file
from espnet_ctx.study.grid import KINDS, Point, Study

BASE_MODEL = "valid.loss.ave.pth"
SETTINGS = ("conf", "local")  # folders of a recipe whose files decide what comes out
TABLES = ("wav.scp", "text", "utt2prev", "prev_text")


@dataclass(frozen=True)
class Job:
    """A command that is run at once.

    Attributes:
        kind: one of `KINDS`.
        name: unique in the study.
        command: program and arguments.
        needs: names of the jobs that come before.
        outputs: files that are there when it is done.
        inputs: files that decide what comes out, beside the data and what the jobs before make.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...] = ()


def make_jobs(study: Study) -> list[Job]:
    """All jobs of a study, each after those that it needs.

    Shared are the data, the LLMs, the contexts (by all systems that ask the same) and the base (by all systems of a
    seed and share of the data).

    Raises:
        UserError: a base that the study names is not there.
    """
    maker = _Maker(study)
    for point in study.points:
        maker.add_system(point)
    maker.add_quality()
    return sorted(maker.jobs.values(), key=lambda job: KINDS.index(job.kind))


class _Maker:
    def __init__(self, study: Study):
        self.study = study
        self.raw = study.dumpdir / "raw"
        self.jobs: dict[str, Job] = {}
        sets = dict.fromkeys([study.train_set, study.valid_set, *study.test_sets.split()])
        self.data = self._add("data", "data", self._ctx("none", 1, 8), (), [self.raw / name / "wav.scp" for name in sets])
        self.valid_contexts: dict[Path, str] = {}  # -> job

    def _add(self, kind: str, name: str, command: Iterable[str], needs: Iterable[str], outputs: Iterable[Path], inputs=()) -> str:
        self.jobs.setdefault(name, Job(kind, name, tuple(command), tuple(needs), tuple(outputs), tuple(inputs)))
        return name

    def _ctx(self, context: str, first: int, last: int, *options: str, folder: str = "", train_set: str = "") -> list[str]:
        study = self.study
        fixed = {
            "task": study.task,
            "train_set": train_set or study.train_set,
            "valid_set": study.valid_set,
            "test_sets": study.test_sets,
            "context": context,
            "expdir": study.expdir / folder,
            "dumpdir": study.dumpdir,
            "ngpu": study.ngpu,
            "stage": first,
            "stop_stage": last,
        }
        return [*study.run, *(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *options]

    def _add_subset(self, point: Point) -> str:
        if point.data == 1:
            return self.data
        out = self.raw / self.study.subset(point)
        command = ["python3", "-m", "espnet_ctx.bin.subset_data", "--data_dir", str(self.raw / self.study.train_set)]
        command += ["--share", f"{point.data:g}", "--out", str(out)]
        return self._add("subset", out.name, command, [self.data], [out / "wav.scp"])

    def _add_llm(self, name: str) -> list[str]:
        """The job that makes an LLM; none for those that are there."""
        make = self.study.llms[name].get("make")
        if make is None:
            return []
        out = self.study.llm_folder(name)
        command = ["bash", "-c", f'{make} "$@"', "make", "--out", out, "--data", f"data/{self.study.train_set}"]
        return [self._add("llm", f"llm_{name}", command, [self.data], [Path(out) / "config.json"])]

    def _context_options(self, point: Point) -> list[str]:
        study = self.study
        options = ["--num_prev", str(point.num_prev), "--pooling", point.pooling, "--text_encoder", study.text_encoder]
        if point.llm is not None:
            options += ["--prompt", point.prompt, "--llm", study.llm_folder(point.llm)]
            options += shlex.split(study.llms[point.llm].get("options", ""))
        return options

    def _add_context(self, point: Point) -> str:
        study = self.study
        # `generated` needs what `aware` needs, and the test sets' contexts too
        tag = study.context_tag(point)
        fed = {p.system for p in study.points if p.system != "none" and study.context_tag(p) == tag}
        context = point.system if point.system != "aware" or "generated" not in fed else "generated"
        folder = study.dumpdir / "context" / tag
        sets = [study.subset(point), study.valid_set, *([] if context == "aware" else study.test_sets.split())]
        command = self._ctx(context, 6, 7, *self._context_options(point), train_set=study.subset(point))
        needs = [self._add_subset(point), *(self._add_llm(point.llm) if point.llm else [])]
        name = f"context_{folder.name}{study.subset(point).removeprefix(study.train_set)}"
        job = self._add("context", name, command, needs, [folder / dset / "context.scp" for dset in sets])
        self.valid_contexts.setdefault(folder / study.valid_set, job)
        return job

    def _add_base(self, point: Point) -> str:
        study = self.study
        out = study.expdir / point.folder / f"{study.task}_base"
        options = ("--asr_tag", "base", "--seed", str(point.seed))
        command = self._ctx("none", 9, 10, *options, folder=point.folder, train_set=study.subset(point))
        return self._add("base", f"{point.folder}.base", command, [self._add_subset(point)], [out / BASE_MODEL])

    def add_system(self, point: Point) -> None:
        study = self.study
        given = study.bases.get(point.seed) if point.data == 1 else None
        if given is None:
            needs = [self._add_base(point)]
            [start] = self.jobs[needs[0]].outputs
        else:
            needs, start = [self.data], Path(given) / BASE_MODEL
            if not start.is_file():
                raise UserError(f"no such file: {start} (key 'bases' of the study, seed {point.seed})")
        options = ["--asr_tag", point.name, "--seed", str(point.seed), *study.finetune, "--init_param", str(start)]
        if point.system != "none":
            options += self._context_options(point)
            needs.append(self._add_context(point))
        if point.alpha is not None:
            args = options[options.index("--asr_args") + 1] if "--asr_args" in options else ""
            options += ["--asr_args", f"{args} --model_conf alpha={point.alpha:g}".strip()]
        command = self._ctx(point.system, 9, 12, *options, folder=point.folder, train_set=study.subset(point))
        result = study.expdir / point.folder / f"{study.task}_{point.name}" / "RESULTS.md"
        self._add("system", job_name(point), command, needs, [result], [start] if given else [])

    def add_quality(self) -> None:
        if not self.valid_contexts:
            return
        study, out = self.study, quality_folder(self.study)
        command = ["python3", "-m", "espnet_ctx.bin.context", "report", "--data_dir", str(self.raw / study.valid_set)]
        command += ["--train_text", str(self.raw / study.train_set / "text"), "--out", str(out)]
        command += ["--context", *map(str, self.valid_contexts)]
        self._add("quality", "quality", command, self.valid_contexts.values(), [out / "report.json"])


def job_name(point: Point) -> str:
    """Name of the job that trains and scores a system."""
    return f"{point.folder}.{point.name}"


def quality_folder(study: Study) -> Path:
    """Where `context report` writes."""
    return study.expdir / "contexts"


class Ledger:
    """What is done: a file per job with the key under which it was done, and how long that took.

    A key is the hash of the command, of the recipe's settings, of the data, of the job's inputs and of the keys of the jobs
    before. A job whose key is another one is given to ctx.sh again, which keeps what is whole and redoes what is not.

    Args:
        study: whose jobs they are.
    """

    def __init__(self, study: Study):
        self.folder = study.expdir / "jobs"
        self._raw = study.dumpdir / "raw"
        self._study = study
        settings = sorted(path for name in SETTINGS for path in Path(name).rglob("*") if path.suffix != ".pyc" and path.is_file())
        # what the study's own file says is in the commands: a grid that has grown redoes nothing
        self._settings = sha256_of_files(path for path in settings if not path.samefile(study.file))

    def log(self, job: Job) -> Path:
        return self.folder / f"{job.name}.log"

    def keys(self, jobs: Iterable[Job]) -> dict[str, str]:
        """The key of each job as things are now; jobs come after those that they need."""
        keys: dict[str, str] = {}
        sets = (self._study.train_set, self._study.valid_set, *self._study.test_sets.split())
        tables = [self._raw / dset / table for dset in sets for table in TABLES]
        data = sha256_of_files(path for path in tables if path.is_file())
        for job in jobs:
            before = [keys[name] for name in job.needs] or [self._settings]
            keys[job.name] = sha256_of([job.command, data if job.needs else "", sha256_of_files(job.inputs), before])
        return keys

    def is_done(self, job: Job, key: str) -> bool:
        return self._entry(job).get("key") == key and all(path.is_file() for path in job.outputs)

    def write(self, job: Job, key: str, seconds: float) -> None:
        """Note that a job is done; a run that found everything fresh does not shorten its time."""
        missing = [str(path) for path in job.outputs if not path.is_file()]
        if missing:
            raise UserError(f"{job.name} ended well without {missing[0]}: see {self.log(job)}, and 'run' in the study's YAML")
        with whole_file(self.folder / f"{job.name}.json") as f:
            json.dump({"key": key, "seconds": max(seconds, self._entry(job).get("seconds", 0.0))}, f)

    def minutes(self, jobs: Iterable[Job], assumed: Mapping[str, float]) -> dict[str, float]:
        """How long a job of each kind takes: the median of those done, else what is assumed."""
        seconds: dict[str, list[float]] = {}
        for job in jobs:
            if entry := self._entry(job):
                seconds.setdefault(job.kind, []).append(entry["seconds"])
        return {**assumed, **{kind: statistics.median(values) / 60 for kind, values in seconds.items()}}

    def _entry(self, job: Job) -> dict:
        try:
            return json.loads((self.folder / f"{job.name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

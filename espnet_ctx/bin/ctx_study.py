"""Run a study: a grid of systems from one YAML file, and its table and figures.

For every seed and share of the training data one context-free base is trained; every system trains on from it with
the same budget. Systems that ask an LLM the same share its contexts. What is done is skipped; a study that was stopped
or killed goes on by the same command. The report compares every system with `none` of the same seed; Ctrl-C leaves
that of what is finished.

--dry_run shows what would be run and how long that may take. Jobs are started by cmd.sh ($train_cmd, with GPUs
$cuda_cmd). Run it in a recipe's directory; the keys of the YAML file are in espnet_ctx/study/grid.py.

Example:
    . ./path.sh
    python -m espnet_ctx.bin.ctx_study --config conf/study.yaml --dry_run
    python -m espnet_ctx.bin.ctx_study --config conf/study.yaml --nj 2
"""

import argparse
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from espnet_ctx.files import UserError, run_main
from espnet_ctx.scoring.tables import markdown_table
from espnet_ctx.study.grid import KINDS, Study, read_study
from espnet_ctx.study.jobs import Job, Ledger, make_jobs
from espnet_ctx.study.results import write_results
from espnet_ctx.study.runner import run_jobs

ON_GPU = ("context", "base", "system")  # kinds of jobs


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the study's YAML file")
    parser.add_argument("--nj", type=int, default=os.cpu_count(), help="jobs side by side (default: the number of cores)")
    parser.add_argument("--dry_run", action="store_true", help="show the plan and an estimate, run nothing")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    if args.nj < 1:
        raise UserError(f"--nj is {args.nj}: must be at least 1")
    study = read_study(args.config)
    jobs = make_jobs(study)
    ledger = Ledger(study)
    plan = _Plan(study, jobs, ledger, args.nj)
    if args.dry_run:
        plan.show()
        return
    with _only_one(study), _sigterm_exits():
        try:
            failed = plan.run()
        finally:  # of a study that is interrupted too
            report = write_results(study, [job for job in jobs if job.kind == "system" and plan.is_done(job)])
    if report is not None:
        print(report.read_text(encoding="utf-8"), end="")
    if failed:
        logs = ", ".join(str(ledger.log(job)) for job in failed)
        raise UserError(f"{len(failed)} jobs failed; their logs: {logs}. What needs them was not run")


class _Plan:
    """The jobs of a study, and which of them are done."""

    def __init__(self, study: Study, jobs: Sequence[Job], ledger: Ledger, side_by_side: int):
        self.study, self.jobs, self.ledger, self.side_by_side = study, jobs, ledger, side_by_side
        self.left = self._left()

    def _left(self) -> list[Job]:
        keys = self.ledger.keys(self.jobs)
        return [job for job in self.jobs if not self.ledger.is_done(job, keys[job.name])]

    def is_done(self, job: Job) -> bool:
        return job not in self.left

    def run(self) -> list[Job]:
        """Run what is left; returns what failed."""
        print(self._left_to_do(), flush=True)
        if any(job.kind == "data" for job in self.left):
            # what else is done depends on what the data are
            first = [job for job in self.left if job.kind == "data"]
            if failed := run_jobs(first, 1, self._start, self._finished):
                return failed
            self.left = self._left()
        return run_jobs(self.left, self.side_by_side, self._start, self._finished)

    def _start(self, job: Job) -> subprocess.Popen:
        on_gpu = self.study.ngpu > 0 and job.kind in ON_GPU
        launch = [*_runner("cuda_cmd" if on_gpu else "train_cmd"), "--num-threads", os.environ.get("OMP_NUM_THREADS", "1")]
        if on_gpu:
            launch += ["--gpu", str(self.study.ngpu)]
        log = self.ledger.log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"{time.strftime('%H:%M:%S')} {job.name} started... log: '{log}'", flush=True)
        # what ctx.sh starts inside the job runs where the job runs
        return subprocess.Popen([*launch, str(log), "env", "cmd_backend=local", *job.command])

    def _finished(self, job: Job, seconds: float) -> None:
        self.ledger.write(job, self.ledger.keys(self.jobs)[job.name], seconds)
        self.left = [other for other in self.left if other != job]
        print(f"{time.strftime('%H:%M:%S')} {job.name} is done, {seconds / 60:.1f} min; {self._left_to_do()}", flush=True)

    def _left_to_do(self) -> str:
        hours = self._hours(self.left)
        takes = "" if hours is None else f", about {hours / self.side_by_side:.1f} h with {self.side_by_side} side by side"
        return f"{len(self.left)} of {len(self.jobs)} jobs to do{takes}"

    def _hours(self, jobs: Sequence[Job]) -> float | None:
        """Of one job at a time; None when nothing says how long one of them takes."""
        minutes = self.ledger.minutes(self.jobs, self.study.minutes)
        if any(job.kind not in minutes for job in jobs):
            return None
        return sum(minutes[job.kind] for job in jobs) / 60

    def show(self) -> None:
        """Print every job, then a table by kind."""
        for job in self.jobs:
            print(f"{'done ' if self.is_done(job) else 'to do'} {job.name}")
        minutes = self.ledger.minutes(self.jobs, self.study.minutes)
        rows = []
        for kind in KINDS:
            of_kind = [job for job in self.jobs if job.kind == kind]
            left = [job for job in of_kind if not self.is_done(job)]
            if of_kind:
                each = f"{minutes[kind]:.1f}" if kind in minutes else "?"
                hours = self._hours(left)
                rows.append([kind, len(of_kind), len(left), each, "?" if hours is None else f"{hours:.1f}"])
        print(f"\n{markdown_table(['jobs', 'number', 'to do', 'minutes each', 'hours'], rows)}\n{self._left_to_do()}")


def _runner(name: str) -> list[str]:
    """What starts jobs: a variable of cmd.sh."""
    done = subprocess.run(["bash", "-c", f'. ./cmd.sh && echo "${name}"'], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"cmd.sh of this directory gives no {name}: {done.stderr.strip()}; run this in a recipe's directory")
    return shlex.split(done.stdout)


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """SIGTERM leaves by way of `finally`, so that the jobs that are running end too."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:  # a handler that stayed would be inherited by whatever the caller forks, and keep it from being ended
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _only_one(study: Study) -> Iterator[None]:
    """Refuse to work on a study that another process works on."""
    study.expdir.mkdir(parents=True, exist_ok=True)
    with open(study.expdir / ".lock", "a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another ctx_study is working on {study.expdir}") from None
        yield


if __name__ == "__main__":
    run_main(main)

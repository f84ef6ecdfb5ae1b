"""Run jobs side by side, each after those that it needs."""

import subprocess
import time
from collections.abc import Callable, Sequence

from espnet_ctx.study.jobs import Job

POLL = 0.1  # seconds


def run_jobs(
    jobs: Sequence[Job],
    side_by_side: int,
    start: Callable[[Job], subprocess.Popen],
    finished: Callable[[Job, float], None],
) -> list[Job]:
    """Run jobs until no more can be run.

    When a job fails, those that need it are left out and the others go on. When this is interrupted, the jobs that
    are running are terminated.

    Args:
        jobs: in an order in which each comes after those that it needs; needed jobs that are not among them are done.
        side_by_side: how many run at once.
        start: starts a job.
        finished: called with a job that ended well and the seconds that it took.

    Returns:
        The jobs that failed.
    """
    waiting = list(jobs)
    unfinished = {job.name for job in jobs}
    running: dict[str, tuple[Job, subprocess.Popen, float]] = {}
    failed = []
    try:
        while True:
            for job in [job for job in waiting if unfinished.isdisjoint(job.needs)][: side_by_side - len(running)]:
                waiting.remove(job)
                running[job.name] = (job, start(job), time.monotonic())
            if not running:
                return failed
            for job, process, begin in list(running.values()):
                if process.poll() is None:
                    continue
                del running[job.name]
                if process.returncode == 0:
                    finished(job, time.monotonic() - begin)
                    unfinished.remove(job.name)
                else:
                    failed.append(job)
            time.sleep(POLL)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.wait()

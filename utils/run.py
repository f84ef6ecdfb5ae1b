#!/usr/bin/env python3
"""Runs jobs on this machine with the interface of Kaldi's run.pl.

    run.py [--max-jobs-run N] [JOB=1:N] <log> <command> [argument]...

Every `JOB` in the log's name and in the command becomes the job's number. Each log gets the command, the times and the
exit status. When a job fails, the end of its log is printed and the exit status is 1. Jobs end with this program, even
when it is killed. --gpu, --num-threads, --mem, --time, --name and --config are for schedulers and have no effect here.
"""

import argparse
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

PR_SET_PDEATHSIG = 1
TAIL_LINES = 30


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Job:
    """One started command and its log."""

    def __init__(self, log: Path, command: list[str]):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.file = open(log, "w", encoding="utf-8")
        self.begin = time.time()
        self._note(shlex.join(command), f"Started at {time.ctime()}", "")
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.file,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        except OSError as e:
            self.process = None
            self._note(f"cannot start: {e}")

    def _note(self, *lines: str) -> None:
        self.file.writelines(f"# {line}\n" for line in lines)
        self.file.flush()

    def wait(self) -> int:
        """Wait for the end; returns the exit status."""
        status = self.process.wait() if self.process else 127
        elapsed = round(time.time() - self.begin)
        self._note(f"Ended (code {status}) at {time.ctime()}, elapsed time {elapsed} seconds")
        self.file.close()
        return status


def show_failure(job: Job, status: int) -> None:
    with open(job.log, encoding="utf-8", errors="replace") as f:
        tail = deque(f, TAIL_LINES)
    print(f"run.py: job failed with status {status}, log in {job.log}; its end:", file=sys.stderr)
    sys.stderr.writelines(f"    {line}" for line in tail)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--max-jobs-run", type=int, default=None, help="jobs at a time (default: all)")
    for name in ("--gpu", "--num-threads", "--mem", "--time", "--name", "--config"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="[JOB=1:N] <log> <command>")
    return parser


def main() -> int:
    args = get_parser().parse_args()
    words = args.command
    name, first, last = None, 1, 1
    if words and (match := re.fullmatch(r"(\w+)=(\d+)(?::(\d+))?", words[0])):
        name, first = match[1], int(match[2])
        last = int(match[3] or first)
        words = words[1:]
    if len(words) < 2 or last < first:
        print("run.py: error: expected [JOB=1:N] <log> <command>...; got:", *args.command, file=sys.stderr)
        return 2

    def on_signal(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_signal)
    die_with_parent()
    at_a_time = args.max_jobs_run or last - first + 1
    started: list[Job] = []
    failed = 0

    def finish(job: Job) -> None:
        nonlocal failed
        if status := job.wait():
            failed += 1
            show_failure(job, status)

    try:
        for number in range(first, last + 1):
            if len(started) >= at_a_time:
                finish(started[len(started) - at_a_time])
            log, *command = (word.replace(name, str(number)) if name else word for word in words)
            started.append(Job(Path(log), command))
        for job in started[-at_a_time:]:
            finish(job)
    except KeyboardInterrupt:
        for job in started:
            if job.process and job.process.poll() is None:
                job.process.terminate()
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

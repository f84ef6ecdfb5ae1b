#!/usr/bin/env python3
"""Reads ESPnet's training log from standard input and prints how far training is, with an estimate of what is left."""

import re
import sys
import time

EVERY_SECONDS = 10
BATCHES = re.compile(r"\[train\] Batch sampler: \w+\(N-batch=(\d+)")
EPOCH = re.compile(r"(\d+)/(\d+)epoch started")
PART = re.compile(r"(\d+)epoch:train:\d+-(\d+)batch: (.*)")
RESULTS = re.compile(r"(\d+)epoch results: \[train\] (.*?), \[valid\] (.*)")
FIGURE = re.compile(r"\b(loss|loss_ctc|loss_context|acc|cer_ctc|context_cosine)=([-+.\deE]+)")


def figures(text: str) -> str:
    return " ".join(f"{name} {float(value):.3f}" for name, value in FIGURE.findall(text))


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def main() -> None:
    batches = epochs = 0
    first_done: float | None = None  # epochs done when this run began
    begin = shown = 0.0

    def left(done: float) -> str:
        gained = done - first_done
        return duration((time.monotonic() - begin) / gained * (epochs - done)) if gained > 0 else "?"

    for line in sys.stdin:
        if match := BATCHES.search(line):
            batches = int(match[1])
        elif match := EPOCH.search(line):
            epochs = int(match[2])
            if first_done is None:
                first_done, begin = int(match[1]) - 1, time.monotonic()
        elif first_done is None:
            continue
        elif (match := PART.search(line)) and batches:
            if time.monotonic() - shown < EVERY_SECONDS:
                continue
            shown = time.monotonic()
            fraction = min(int(match[2]) / batches, 1)
            done = int(match[1]) - 1 + fraction
            print(f"epoch {match[1]}/{epochs} {fraction:4.0%}: {figures(match[3])}; {left(done)} left", flush=True)
        elif match := RESULTS.search(line):
            train, valid = figures(match[2]), figures(match[3])
            done = left(int(match[1]))
            print(f"epoch {match[1]}/{epochs} done: train {train}; valid {valid}; {done} left", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Speak the data directories of mini_talks: espeak-ng, 16 kHz, one mono 16-bit wav per utterance, with noise.

The recording of an utterance depends on its id, its text and its voice alone, so that a run that was stopped goes on
where it was, and any order or number of processes gives the same files.

Example:
    local/mini_talks/voice.py --nj 2 data/train data/valid data/test
"""

import argparse
import os
import shutil
import subprocess
import zlib
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from espnet_ctx.files import UserError, read_table, run_main

RATE = 16000
SNR_DB = (10.0, 25.0)
LEVEL_DB = (-32.0, -20.0)


def speak(text: str, variant: str, pitch: int, speed: int) -> np.ndarray:
    """Clean speech of one sentence, shape (samples,), 16 kHz, float32 in [-1, 1].

    Raises:
        RuntimeError: espeak-ng failed or said nothing.
    """
    command = ["espeak-ng", "-v", f"en-us+{variant}", "-p", str(pitch), "-s", str(speed), "--stdout", text]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or len(done.stdout) < 1000:
        raise RuntimeError(f"espeak-ng failed ({done.returncode}): {' '.join(command)}\n{done.stderr.decode()}")
    # espeak-ng streams: its header holds no true length, so the samples are read raw after it.
    samples = np.frombuffer(done.stdout[44:], dtype="<i2").astype(np.float32) / 32768
    rate = int.from_bytes(done.stdout[24:28], "little")
    return soxr.resample(samples, rate, RATE).astype(np.float32)


def coloured(rng: np.random.Generator, length: int, slope: float) -> np.ndarray:
    """Noise whose power falls with frequency as 1 / f ** slope (0: white, 1: pink), shape (length,), unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length), 1e-3)
    noise = np.fft.irfft(spectrum * frequency ** (-slope / 2), length)
    return noise / np.sqrt(np.mean(noise**2))


def babble(rng: np.random.Generator, length: int) -> np.ndarray:
    """Noise with the slope and the 2-6 Hz loudness of several talkers, shape (length,), unit power."""
    time = np.arange(length) / RATE
    total = np.zeros(length)
    for _ in range(4):
        rate, phase = rng.uniform(2, 6), rng.uniform(0, 2 * np.pi)
        total += coloured(rng, length, 1.5) * (0.3 + np.sin(np.pi * rate * time + phase) ** 2)
    return total / np.sqrt(np.mean(total**2))


def draw_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """White, pink or babble noise by lot, shape (length,), unit power."""
    kind = rng.integers(3)
    return babble(rng, length) if kind == 2 else coloured(rng, length, float(kind))


def add_noise(clean: np.ndarray, noise: np.ndarray, snr_db: float, level_db: float) -> np.ndarray:
    """Mix speech and noise (both (samples,)) at a signal-to-noise ratio and scale the sum to a level (dB of full scale)."""
    power = np.mean(clean**2)
    mixed = clean + noise * np.sqrt(power / np.mean(noise**2) / 10 ** (snr_db / 10))
    gain = 10 ** (level_db / 20) / np.sqrt(np.mean(mixed**2))
    return np.clip(mixed * min(gain, 0.99 / np.abs(mixed).max()), -1, 1).astype(np.float32)


def record(job: tuple[str, Path, str, str, int, int]) -> None:
    """Make one recording unless it is there; the file appears whole or not at all."""
    utt, path, text, variant, pitch, speed = job
    if path.exists():
        return
    rng = np.random.default_rng(zlib.crc32(f"{utt} {text}".encode()))
    clean = speak(text, variant, pitch, speed)
    noisy = add_noise(clean, draw_noise(rng, len(clean)), rng.uniform(*SNR_DB), rng.uniform(*LEVEL_DB))
    # Not `whole_file`: to wait for the disk after each of thousands of small files would take minutes.
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    soundfile.write(beside, noisy, RATE, format="WAV", subtype="PCM_16")
    os.replace(beside, path)


def jobs_of(datadir: Path) -> list[tuple[str, Path, str, str, int, int]]:
    """The recordings that a data directory names."""
    wavs, texts, voices = (read_table(datadir / name) for name in ("wav.scp", "text", "utt2voice"))
    jobs = []
    for utt, wav in wavs.items():
        variant, pitch, speed = voices[utt].split()
        jobs.append((utt, Path(wav), texts[utt], variant, int(pitch), int(speed)))
    return jobs


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nj", type=int, default=os.cpu_count(), help="processes (default: one per CPU)")
    parser.add_argument("datadir", nargs="+", type=Path, help="data directories written by generate.py")
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    if not shutil.which("espeak-ng"):
        raise UserError("espeak-ng is not installed: apt-get install espeak-ng")
    jobs = [job for datadir in args.datadir for job in jobs_of(datadir)]
    for folder in {path.parent for _, path, *_ in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    with Pool(args.nj) as pool:
        for _ in tqdm(pool.imap_unordered(record, jobs, chunksize=8), total=len(jobs), desc="voice", unit="utt"):
            pass


if __name__ == "__main__":
    run_main(main)

#!/usr/bin/env python3
"""Gather the audio of the pre-training: mini_talks spoken without noise, real speech when given, a bank of noise.

Voices of mini_talks' valid and test sets never speak here, nor do SLUE's dev and test sets, nor the speakers that the
LibriSpeech recipe keeps for its dev and test sets (all but the first 14 in the order of their names).

Example:
    local/prepare_audio.py --out exp/audio --talks 230 --slue_dir ../shared/data/slue-voxpopuli-sub --nj 2
"""

import argparse
import os
import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from espnet_ctx.files import UserError, run_main

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "local" / "mini_talks"))

import generate  # noqa: E402
import voice  # noqa: E402
from audio_store import REAL, SYNTHETIC, write_store  # noqa: E402
from hubert import FRAME_SHIFT, RATE  # noqa: E402

LIBRISPEECH_SPEAKERS = 14
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 7.5
NOISE_SECONDS = 10


def speak(utterance: generate.Utterance) -> np.ndarray:
    """One clean sentence, int16 (samples,)."""
    v = utterance.voice
    return to_int16(voice.speak(utterance.text, v.variant, v.pitch, v.speed))


def read(path: Path) -> np.ndarray:
    """One real recording at 16 kHz, mono, int16 (samples,)."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return to_int16(soxr.resample(samples.mean(1), rate, RATE))


def to_int16(speech: np.ndarray) -> np.ndarray:
    """Float speech in [-1, 1] scaled to a peak of 0.7."""
    return np.round(speech * (0.7 * 32767 / max(np.abs(speech).max(), 1e-4))).astype(np.int16)


def cut(recording: np.ndarray) -> list[np.ndarray]:
    """Equal pieces of at most LONGEST_SECONDS that start at whole frames."""
    count = -(-len(recording) // int(LONGEST_SECONDS * RATE))
    size = -(-len(recording) // count // FRAME_SHIFT) * FRAME_SHIFT
    pieces = [recording[start : start + size] for start in range(0, len(recording), size)]
    return [piece for piece in pieces if len(piece) >= SHORTEST_SECONDS * RATE]


def real_recordings(slue_dir: Path | None, librispeech_dir: Path | None) -> list[Path]:
    """The recordings that may be heard.

    Raises:
        UserError: a folder was given in which there is no audio of the expected layout.
    """
    paths = []
    if slue_dir:
        paths += sorted(slue_dir.rglob("fine-tune/*.ogg"))
        if not paths:
            raise UserError(f"--slue_dir {slue_dir}: no fine-tune/*.ogg in it")
    if librispeech_dir:
        files = [p for p in librispeech_dir.rglob("*") if p.suffix in (".flac", ".mp3", ".wav")]
        speakers = sorted({p.name.split("-")[0] for p in files})[:LIBRISPEECH_SPEAKERS]
        if not files:
            raise UserError(f"--librispeech_dir {librispeech_dir}: no .flac, .mp3 or .wav in it")
        paths += sorted(p for p in files if p.name.split("-")[0] in speakers)
    return paths


def noise_bank(rows: int) -> np.ndarray:
    """Noise of the kinds of mini_talks, unit power, (rows, samples)."""
    rng = np.random.default_rng(generate.SEED)
    return np.stack([voice.draw_noise(rng, NOISE_SECONDS * RATE) for _ in range(rows)])


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder of the audio store")
    parser.add_argument("--talks", required=True, type=int, help="talks of mini_talks (about one minute each)")
    parser.add_argument("--slue_dir", type=Path, help="SLUE-VoxPopuli (only its fine-tune set is read)")
    parser.add_argument("--librispeech_dir", type=Path, help="LibriSpeech dev-clean or the like")
    parser.add_argument("--noise_rows", type=int, default=120, help="rows of 10 s in the bank of noise")
    parser.add_argument("--nj", type=int, default=os.cpu_count(), help="processes (default: one per CPU)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    if (args.out / "index.npy").exists():
        print(f"{args.out} is complete: kept")
        return
    paths = real_recordings(args.slue_dir, args.librispeech_dir)
    utterances = generate.write_talks("unlabelled", args.talks)
    with Pool(args.nj) as pool:
        spoken = list(tqdm(pool.imap(speak, utterances, chunksize=8), total=len(utterances), desc="mini_talks"))
        heard = list(tqdm(pool.imap(read, paths, chunksize=8), total=len(paths), desc="real speech"))
    pieces = spoken + [piece for recording in heard for piece in cut(recording)]
    sources = [SYNTHETIC] * len(spoken) + [REAL] * (len(pieces) - len(spoken))
    write_store(args.out, pieces, sources, noise_bank(args.noise_rows))
    for name, source in (("mini_talks", SYNTHETIC), ("real speech", REAL)):
        lengths = [len(p) for p, s in zip(pieces, sources) if s == source]
        print(f"{args.out}: {name}: {len(lengths)} pieces, {sum(lengths) / RATE / 3600:.2f} h")


if __name__ == "__main__":
    run_main(main)

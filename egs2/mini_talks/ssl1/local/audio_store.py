"""All recordings of the pre-training in one memory-mapped file, and the batches made of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hubert import FRAME_SHIFT, RATE, normalise, num_frames

from espnet_ctx.files import whole_file

SYNTHETIC, REAL = 0, 1
CROP_STEP = RATE // 2


def cropped(samples: int) -> int:
    """A length rounded down to half seconds: few shapes of batches, for which the CPU's kernels are prepared once."""
    return max(int(samples) // CROP_STEP, 1) * CROP_STEP


def write_store(folder: Path, pieces: list[np.ndarray], sources: list[int], noise: np.ndarray) -> None:
    """Write clean speech (int16 pieces of 16 kHz), the source of each piece and a bank of noise (rows, samples)."""
    with whole_file(folder / "speech.i16", "wb") as f:
        for piece in pieces:
            f.write(piece.astype("<i2").tobytes())
    with whole_file(folder / "noise.npy", "wb") as f:
        np.save(f, noise.astype(np.float16))
    # Last: its presence says that the store is complete.
    with whole_file(folder / "index.npy", "wb") as f:
        np.save(f, np.array([[len(p) for p in pieces], sources], dtype=np.int64))


@dataclass
class AudioStore:
    """Reads a folder written by `write_store`; `labels` are per frame, all pieces one after the other."""

    folder: Path

    def __post_init__(self) -> None:
        self.lengths, self.sources = np.load(self.folder / "index.npy")
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.frames = np.array([num_frames(n) for n in self.lengths])
        self.frame_starts = np.concatenate([[0], np.cumsum(self.frames)])
        self.speech = np.memmap(self.folder / "speech.i16", dtype="<i2", mode="r")
        self.noise = np.load(self.folder / "noise.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.lengths)

    def piece(self, index: int) -> np.ndarray:
        """One clean piece, float32 (samples,) in [-1, 1]."""
        return self.speech[self.starts[index] : self.starts[index + 1]].astype(np.float32) / 32768

    def epoch(self, seed: int, epoch: int, batch_seconds: float, real_share: float, processes: int) -> list[list[np.ndarray]]:
        """The updates of an epoch, a function of seed and epoch alone: one batch a process, all of pieces of like length.

        All synthetic pieces occur once; of the real ones a new random part, such that they are `real_share` of the
        seconds (or all of them, when they are fewer).
        """
        rng = np.random.default_rng([seed, epoch])
        synthetic, real = (np.flatnonzero(self.sources == s) for s in (SYNTHETIC, REAL))
        wanted = self.lengths[synthetic].sum() * real_share / (1 - real_share) if len(synthetic) else np.inf
        real = rng.permutation(real)
        chosen = np.concatenate([synthetic, real[np.cumsum(self.lengths[real]) <= wanted]])
        # A little jitter, so that the same pieces do not meet in every epoch.
        chosen = chosen[np.argsort(self.lengths[chosen] * rng.uniform(0.95, 1.05, len(chosen)))]
        batches = []
        while len(chosen):
            size = max(1, int(batch_seconds * RATE) // cropped(self.lengths[chosen[0]]))
            batches.append(chosen[:size])
            chosen = chosen[size:]
        # Processes wait for each other: the batches of an update are neighbours in length.
        updates = [batches[i : i + processes] for i in range(0, len(batches) - processes + 1, processes)]
        return [updates[i] for i in rng.permutation(len(updates))]

    def load(
        self, rng: np.random.Generator, batch: np.ndarray, labels: np.ndarray, snr_db: tuple[float, float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch cropped to its shortest piece, in half seconds: normalised noisy speech (B, samples), clean labels (B, T).

        Crops start at whole frames; a tenth of the synthetic and half of the real pieces stay as they are.
        """
        samples = cropped(self.lengths[batch].min())
        frames = num_frames(samples)
        speech, targets = [], []
        for index in batch:
            first = int(rng.integers((self.lengths[index] - samples) // FRAME_SHIFT + 1))
            clean = self.piece(index)[first * FRAME_SHIFT :][:samples]
            if rng.random() > (0.5 if self.sources[index] == REAL else 0.1):
                row, offset = rng.integers(len(self.noise)), rng.integers(self.noise.shape[1] - samples + 1)
                noise = self.noise[row, offset : offset + samples].astype(np.float32)
                clean = clean + noise * clean.std() * 10 ** (-rng.uniform(*snr_db) / 20)
            speech.append(clean)
            targets.append(labels[self.frame_starts[index] + first :][:frames])
        return normalise(torch.from_numpy(np.stack(speech))), torch.from_numpy(np.stack(targets).astype(np.int64))

#!/usr/bin/env python3
"""Cluster the frames of the clean speech: the labels that the next iteration of HuBERT predicts.

Without --model the features are MFCC (first iteration), with it the outputs of one of its layers (second iteration).

Example:
    local/make_targets.py --audio exp/audio --clusters 100 --out exp/iter1/labels.npy
    local/make_targets.py --audio exp/audio --clusters 200 --model exp/iter1/model --layer 3 --out exp/iter2/labels.npy
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchaudio
from audio_store import CROP_STEP, AudioStore
from hubert import FRAME_LENGTH, FRAME_SHIFT, RATE, normalise, num_frames
from sklearn.cluster import MiniBatchKMeans
from tqdm import tqdm
from transformers import HubertModel

from espnet_ctx.files import run_main, whole_file

KMEANS_FRAMES = 300_000


def mfcc(speech: torch.Tensor) -> torch.Tensor:
    """13 cepstra with first and second differences, normalised over the piece: (samples,) -> (T, 39), one per 20 ms.

    Windows lie where HuBERT's frames look (400 samples every 320), so that T = num_frames(samples).
    """
    cepstra = torchaudio.compliance.kaldi.mfcc(
        speech[None] * 32768,
        sample_frequency=RATE,
        frame_length=1000 * FRAME_LENGTH / RATE,
        frame_shift=1000 * FRAME_SHIFT / RATE,
        num_ceps=13,
        dither=0.0,
    )
    first = torchaudio.functional.compute_deltas(cepstra.T)
    features = torch.cat([cepstra.T, first, torchaudio.functional.compute_deltas(first)]).T
    return (features - features.mean(0)) / (features.std(0, correction=0) + 1e-5)


def layer_features(model: HubertModel, layer: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function (samples,) -> (T, D): what a layer of the model makes of clean speech."""

    def features(speech: torch.Tensor) -> torch.Tensor:
        # Silence up to a whole half second: few shapes, for which the CPU's kernels are prepared once.
        silence = -len(speech) % CROP_STEP
        padded = torch.nn.functional.pad(normalise(speech[None]), (0, silence))
        with torch.autocast("cpu", torch.bfloat16):
            states = model(padded, output_hidden_states=True).hidden_states
        return states[layer][0, : num_frames(len(speech))].float()

    return features


@torch.no_grad()
def cluster(
    store: AudioStore, features: Callable[[torch.Tensor], torch.Tensor], clusters: int, seed: int
) -> tuple[np.ndarray, float]:
    """Labels of all frames of the store (uint8 or uint16, one piece after the other) and the share of variance explained."""
    pieces = [
        features(torch.from_numpy(store.piece(i))).numpy().astype(np.float16)
        for i in tqdm(range(len(store)), desc="features", mininterval=10)
    ]
    for piece, frames in zip(pieces, store.frames):
        if len(piece) != frames:
            raise RuntimeError(f"{len(piece)} features for {frames} frames")
    frames = np.concatenate(pieces)
    rng = np.random.default_rng(seed)
    sample = frames[rng.permutation(len(frames))[:KMEANS_FRAMES]].astype(np.float32)
    kmeans = MiniBatchKMeans(clusters, batch_size=8192, n_init=3, max_iter=60, random_state=seed).fit(sample)
    explained = (
        1 - np.square(sample - kmeans.cluster_centers_[kmeans.predict(sample)]).sum() / np.square(sample - sample.mean(0)).sum()
    )
    labels = [kmeans.predict(frames[i : i + 100_000].astype(np.float32)) for i in range(0, len(frames), 100_000)]
    return np.concatenate(labels).astype(np.uint8 if clusters <= 256 else np.uint16), float(explained)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", required=True, type=Path, help="folder written by prepare_audio.py")
    parser.add_argument("--clusters", required=True, type=int, help="number of labels")
    parser.add_argument("--model", type=Path, help="exported HuBERT of the previous iteration (default: MFCC)")
    parser.add_argument("--layer", type=int, default=3, help="its layer, counted from 1 (default: 3)")
    parser.add_argument("--out", required=True, type=Path, help="the file of labels (.npy)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    if args.out.exists():
        print(f"{args.out} exists: kept")
        return
    torch.set_num_threads(1)
    features = layer_features(HubertModel.from_pretrained(args.model).eval(), args.layer) if args.model else mfcc
    labels, explained = cluster(AudioStore(args.audio), features, args.clusters, args.seed)
    with whole_file(args.out, "wb") as f:
        np.save(f, labels)
    share = np.bincount(labels, minlength=args.clusters) / len(labels)
    perplexity = np.exp(-np.sum(share * np.log(share + 1e-12)))
    print(f"{args.out}: {len(labels)} frames, variance explained {explained:.3f}, perplexity {perplexity:.1f}")


if __name__ == "__main__":
    run_main(main)

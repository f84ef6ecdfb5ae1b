"""The codebook of a memory: a training set's context embeddings, clustered."""

import random

import numpy as np
from scipy.cluster.vq import kmeans2

from espnet_ctx.context.store import ContextArchive
from espnet_ctx.files import UserError

SAMPLE = 20000  # utterances that are looked at


def make_codebook(scp, size: int, seed: int = 0) -> np.ndarray:
    """Cluster centres of an archive's contexts; the contexts themselves where no more than `size` are different.

    Args:
        scp: context.scp.
        size: M, entries at most.
        seed: of the sample and of k-means++.

    Returns:
        (up to M, C) float32.

    Raises:
        UserError: no such archive, or no utterance in it has a context.
    """
    archive = ContextArchive(scp)
    utts = sorted(archive)
    if len(utts) > SAMPLE:
        utts = random.Random(seed).sample(utts, SAMPLE)
    means = [archive[utt].mean(0) for utt in utts]
    means = [mean for mean in means if mean.any()]
    if not means:
        raise UserError(f"{scp}: no utterance has a context, so there is nothing to make a codebook of")
    vectors = np.unique(means, axis=0)
    if len(vectors) > size:
        vectors, _ = kmeans2(np.stack(means), size, minit="++", seed=seed)
    return vectors.astype(np.float32)

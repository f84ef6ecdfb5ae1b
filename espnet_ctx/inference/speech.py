"""What samples may be decoded, and in which precision."""

import logging

import numpy as np

from espnet_ctx.files import UserError

RATE = 16000
SHORTEST = 800  # samples; in less nobody says anything, and some upstreams give no frame
LONGEST = 180 * RATE  # samples; attention needs memory by the square of it
DTYPES = ("float32", "bfloat16", "float16")
CLIPPED = 0.1  # share of samples at full scale above which it is said
SILENCE = 10 ** (-55 / 20)  # the loudest 50 ms of quiet read speech (LibriSpeech) are at -38 dB of full scale


def check_speech(speech: np.ndarray, name: str = "speech") -> np.ndarray:
    """Samples that can be decoded, as float32.

    Args:
        speech: (N,) at 16 kHz, in [-1, 1].
        name: what to call it in messages.

    Raises:
        UserError: not one channel, integers, samples that are not finite numbers, or too long for one utterance.
    """
    speech = np.asarray(speech)
    if speech.ndim != 1:
        raise UserError(f"{name}: samples of shape {speech.shape}; one channel (N,) is needed: take the mean over the channels")
    if not np.issubdtype(speech.dtype, np.floating):
        raise UserError(f"{name}: samples are {speech.dtype}; floats in [-1, 1] are needed: divide by the full scale")
    if len(speech) > LONGEST:
        raise UserError(
            f"{name}: {len(speech) / RATE:.0f} s; an utterance has at most {LONGEST // RATE} s: "
            "cut the recording into utterances (python -m espnet_ctx.bin.session_inference does)"
        )
    finite = np.isfinite(speech)
    if not finite.all():
        place = int((~finite).argmax())
        raise UserError(f"{name}: {int((~finite).sum())} samples are not finite numbers, the first is number {place}")
    return speech.astype(np.float32, copy=False)


def warn_of_clipping(speech: np.ndarray, name: str) -> None:
    """Say it when the recording level was far too high."""
    clipped = (np.abs(speech) >= 1).mean() if len(speech) else 0.0
    if clipped > CLIPPED:
        logging.warning(f"{name}: {clipped:.0%} of the samples are clipped; record at a lower level")


def is_silent(speech: np.ndarray) -> bool:
    """Whether there is certainly no speech: too short for a sound, or nowhere 50 ms above -55 dB of full scale.

    A constant offset does not count. Upstreams that normalise their input would make words of such noise.
    """
    if len(speech) < SHORTEST:
        return True
    pieces = speech[: len(speech) // SHORTEST * SHORTEST].reshape(-1, SHORTEST)
    return bool(pieces.std(1).max() < SILENCE)

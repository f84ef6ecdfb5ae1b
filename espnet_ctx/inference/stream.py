"""Recordings of any length as a stream: files, and what comes through a pipe while it is being said."""

import logging
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from espnet_ctx.files import UserError
from espnet_ctx.inference.speech import RATE

BLOCK = 0.5  # seconds that are read at once
RAW_FORMAT = "signed 16-bit little-endian"
WIDTHS = {1: ("u1", 128, 2**7), 2: ("<i2", 0, 2**15), 4: ("<i4", 0, 2**31)}  # bytes: type, zero, full scale


def read_file(path: Path) -> tuple[float, Iterator[np.ndarray]]:
    """A recording in any format that libsndfile reads.

    Returns:
        Its length in seconds, and blocks (N,) of float32 samples at 16 kHz, the mean of its channels.

    Raises:
        UserError: no such file, not a recording, or no samples in it.
    """
    try:
        info = soundfile.info(str(path))
    except (RuntimeError, OSError) as e:
        size = Path(path).stat().st_size if Path(path).is_file() else None
        what = "no such file" if size is None else "an empty file" if size == 0 else f"not a recording ({e})"
        raise UserError(f"cannot read {path}: {what}") from e
    if info.frames == 0:
        raise UserError(f"cannot read {path}: a recording without samples")
    if info.channels > 1:
        logging.warning(f"{path} has {info.channels} channels; their mean is used")

    def blocks() -> Iterator[np.ndarray]:
        size = round(BLOCK * info.samplerate)
        with soundfile.SoundFile(str(path)) as f:
            yield from _mono(f.blocks(size, dtype="float32", always_2d=True), info.samplerate)

    return info.duration, blocks()


def read_pipe(stream: BinaryIO, fs: int) -> Iterator[np.ndarray]:
    """Sound from a pipe, as it comes: a WAV file, or raw samples (signed 16-bit little-endian, one channel).

    Args:
        stream: need not be seekable.
        fs: rate of raw samples, Hz; a WAV file says its own.

    Yields:
        Blocks (N,) of float32 samples at 16 kHz, the mean of the channels.

    Raises:
        UserError: a WAV file of another kind than PCM of 8, 16 or 32 bits.
    """
    head = stream.read(4)
    joined = _Joined(head, stream)
    if head != b"RIFF":
        yield from _mono(_pcm(joined, round(BLOCK * fs), 1, 2), fs)
        return
    try:
        wav = wave.open(joined, "rb")
        width = wav.getsampwidth()
        if width not in WIDTHS:
            raise wave.Error(f"samples of {width} bytes")
    except (wave.Error, EOFError) as e:
        raise UserError(f"the WAV file from the pipe cannot be read: {e}; PCM of 8, 16 or 32 bits is needed") from e
    # what stands behind the header: its length, written before the recording ended, says nothing
    rate, channels = wav.getframerate(), wav.getnchannels()
    yield from _mono(_pcm(joined, round(BLOCK * rate), channels, width), rate)


def _pcm(stream, frames: int, channels: int, width: int) -> Iterator[np.ndarray]:
    """(N, channels) float32 blocks of integer samples; what is left of a frame at the end is dropped."""
    kind, zero, full = WIDTHS[width]
    step = channels * width
    rest = b""
    while data := stream.read(frames * step):
        data = rest + data
        whole = len(data) - len(data) % step
        rest = data[whole:]
        yield ((np.frombuffer(data[:whole], kind).astype(np.float32) - zero) / full).reshape(-1, channels)


def _mono(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """(N, channels) at a rate -> (N,) at 16 kHz."""
    resampler = None if rate == RATE else soxr.ResampleStream(rate, RATE, 1, dtype="float32")
    for block in blocks:
        samples = block.mean(1)
        yield samples if resampler is None else resampler.resample_chunk(samples)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


class _Joined:
    """A stream of which the first bytes were read already; reads block until they have all or the end is there."""

    def __init__(self, head: bytes, stream: BinaryIO):
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        data, self._head = self._head[:size], self._head[size:]
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        return data

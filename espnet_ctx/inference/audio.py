"""The speech of a data directory, in batches of like length."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import soundfile
from tqdm import tqdm

from espnet_ctx.files import UserError, read_table
from espnet_ctx.inference.ctc import length_batches
from espnet_ctx.inference.speech import RATE, check_speech, warn_of_clipping

BATCH_SECONDS = {"cpu": 20.0, "cuda": 400.0}  # more on a CPU no longer fits its caches: 200 takes 1.7 times as long


def speech_batches(
    data_dir: Path, batch_seconds: float, groups: Sequence[Sequence[str]] | None = None
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Read all utterances, longest first, with a progress bar; the next batch is read while one is in use.

    Args:
        data_dir: needs wav.scp; utt2num_samples saves a look at each file.
        batch_seconds: bound on the padded seconds in a batch.
        groups: utterances, a group after the other, of which a batch holds those of one only (None: all are one).

    Yields:
        Utterance ids, and one (N,) float32 waveform at 16 kHz each.

    Raises:
        UserError: no utterance, an unreadable file, another rate or several channels.
    """
    wavs = read_table(data_dir / "wav.scp")
    if not wavs:
        raise UserError(f"{data_dir}/wav.scp has no utterance")
    if (data_dir / "utt2num_samples").exists():
        num_samples = {utt: int(known) for utt, known in read_table(data_dir / "utt2num_samples").items()}
    else:
        num_samples = {utt: _info(utt, path).frames for utt, path in wavs.items()}
    batches = [
        [group[i] for i in batch]
        for group in groups or [list(wavs)]
        for batch in length_batches([num_samples[utt] for utt in group], int(batch_seconds * RATE))
    ]

    def read(batch: list[str]) -> list[np.ndarray]:
        return [read_utterance(utt, wavs[utt]) for utt in batch]

    with ThreadPoolExecutor(1) as reader, tqdm(total=len(wavs), unit="utt", desc=data_dir.name) as bar:
        coming = reader.submit(read, batches[0])
        for number, batch in enumerate(batches):
            speech = coming.result()
            if number + 1 < len(batches):
                coming = reader.submit(read, batches[number + 1])
            yield batch, speech
            bar.update(len(batch))


def read_utterance(utt: str, path: str) -> np.ndarray:
    """The samples (N,) of an utterance's file, float32 at 16 kHz.

    Raises:
        UserError: an unreadable file, another rate, several channels, or samples that cannot be decoded.
    """
    _info(utt, path)
    speech = check_speech(soundfile.read(path, dtype="float32")[0], f"{utt}, {path}")
    warn_of_clipping(speech, utt)
    return speech


def _info(utt: str, path: str):
    try:
        info = soundfile.info(path)
    except (RuntimeError, OSError) as e:
        raise UserError(f"cannot read the audio of {utt}, {path}: {e}") from e
    if info.samplerate != RATE or info.channels != 1:
        raise UserError(
            f"{utt}, {path}: {info.samplerate} Hz and {info.channels} channel(s); "
            f"{RATE} Hz mono is needed: run stage 3 (format wav.scp)"
        )
    return info

"""Copy a data directory so that `wav.scp` lists readable mono files of one rate, converting only what is not.

Every recording is decoded once. Mono WAV and FLAC files of the wanted rate stay where they are; other formats and
rates, stereo, pipes, `segments` and `utt2speed` (speed perturbation) lead to new files under `<out>/audio`.
"""

import argparse
import hashlib
import io
import logging
import multiprocessing
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from espnet_ctx.data_dir import Tables, read_data_dir, write_data_dir
from espnet_ctx.files import UserError, run_main, whole_file

USABLE_FORMATS = ("WAV", "FLAC")
SHOWN = 10  # faulty recordings named in the error


@dataclass(frozen=True)
class Source:
    """Where an utterance's audio comes from."""

    utt: str
    recording: str  # a file, or a command whose output is a sound file and that ends in `|`
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: to the end
    speed: float = 1.0  # above 1: faster and higher

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.end is None and self.speed == 1


@dataclass(frozen=True)
class Formatted:
    """One utterance's outcome: a file and its samples, or an error."""

    utt: str
    path: str = ""
    num_samples: int = 0
    note: str = ""  # "stereo" or "rate" where these had to be changed
    error: str = ""


def sources(tables: Tables) -> list[Source]:
    """The sources of a data directory's utterances, sorted.

    Raises:
        UserError: a malformed `segments` or `utt2speed`.
    """
    recordings = tables["wav.scp"]
    speeds = tables.get("utt2speed", {})
    result = []
    for utt, value in sorted((tables.get("segments") or recordings).items()):
        cut: dict = {}
        recording = value
        if "segments" in tables:
            try:
                recording_id, start, end = value.split()
                recording, cut = recordings[recording_id], {"start": float(start), "end": float(end)}
            except (KeyError, ValueError):
                raise UserError(
                    f"segments: '{utt} {value}': expected '<utterance> <recording of wav.scp> <start> <end>' in seconds"
                ) from None
            if cut["end"] < 0:  # Kaldi's "to the end"
                cut["end"] = None
        result.append(Source(utt, recording, **cut, speed=float(speeds.get(utt, 1))))
    return result


def read_audio(recording: str) -> tuple[np.ndarray, soundfile.SoundFile]:
    """Decode a recording: samples (N, channels) as float32, and the closed file that knows rate and format."""
    if recording.endswith("|"):
        done = subprocess.run(["bash", "-o", "pipefail", "-c", recording[:-1]], capture_output=True)
        if done.returncode:
            raise OSError(f"the command failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
        stream = io.BytesIO(done.stdout)
    else:
        stream = open(recording, "rb")
    with stream, soundfile.SoundFile(stream) as f:
        return f.read(dtype="float32", always_2d=True), f


def format_one(source: Source, audio_dir: Path, fs: int, audio_format: str) -> Formatted:
    """Check one source and convert it where needed; a converted file that is whole and newer than its source stays."""
    # The name follows from everything the samples depend on, so that a file made from something else is never reused.
    origin = f"{source.recording} {source.start} {source.end} {source.speed} {fs}"
    target = audio_dir / f"{source.utt}-{hashlib.sha1(origin.encode()).hexdigest()[:8]}.{audio_format}"
    try:
        if (done := _reuse(source, target)) is not None:
            return done
        samples, f = read_audio(source.recording)
        start = round(source.start * f.samplerate)
        end = None if source.end is None else round(source.end * f.samplerate)
        samples = samples[start:end]
        if not len(samples):
            return Formatted(source.utt, error="it has no samples")
        if not np.isfinite(samples).all():
            return Formatted(source.utt, error="it has samples that are not finite numbers")
        note = "stereo" if f.channels > 1 else "rate" if f.samplerate != fs else ""
        in_place = source.is_whole and not note and f.format in USABLE_FORMATS and not source.recording.endswith("|")
        if in_place:
            return Formatted(source.utt, source.recording, len(samples))
        mono = samples.mean(axis=1)
        if f.samplerate * source.speed != fs:
            mono = soxr.resample(mono, f.samplerate * source.speed, fs, quality="VHQ")
        with whole_file(target, "wb") as out:
            soundfile.write(out, mono.clip(-1, 1), fs, format=audio_format.upper(), subtype="PCM_16")
        return Formatted(source.utt, str(target), len(mono), note)
    except (OSError, soundfile.LibsndfileError) as e:
        return Formatted(source.utt, error=str(e))


def _reuse(source: Source, target: Path) -> Formatted | None:
    if source.recording.endswith("|") or not target.exists():
        return None
    if target.stat().st_mtime < Path(source.recording).stat().st_mtime:
        return None
    return Formatted(source.utt, str(target), soundfile.info(target).frames)


def format_all(found: list[Source], audio_dir: Path, fs: int, audio_format: str, nj: int) -> dict[str, Formatted]:
    """Format every source with `nj` processes.

    Raises:
        UserError: recordings that cannot be used, by utterance and file.
    """
    work = partial(format_one, audio_dir=audio_dir, fs=fs, audio_format=audio_format)
    results: dict[str, Formatted] = {}
    with multiprocessing.Pool(min(nj, len(found))) as pool:
        for done in tqdm(pool.imap_unordered(work, found, chunksize=8), total=len(found), unit="utt", desc=str(audio_dir.parent)):
            results[done.utt] = done
    if bad := [source for source in found if results[source.utt].error]:
        lines = [f"  {s.utt} ({s.recording}): {results[s.utt].error}" for s in bad[:SHOWN]]
        more = [f"  ... and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        raise UserError("\n".join([f"{len(bad)} of {len(found)} recordings cannot be used:", *lines, *more]))
    return results


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m espnet_ctx.bin.format_wav_scp --data_dir data/test --out dump/raw/test --nj 4",
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="Kaldi data directory")
    parser.add_argument("--out", type=Path, required=True, help="the data directory to write")
    parser.add_argument("--fs", type=int, default=16000, help="samples per second")
    parser.add_argument("--audio_format", choices=["flac", "wav"], default="flac", help="of converted files")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    return parser


def main(cmd=None) -> None:
    logging.basicConfig(level=logging.INFO, format="format_wav_scp: %(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    tables = read_data_dir(args.data_dir)
    found = sources(tables)
    results = format_all(found, args.out / "audio", args.fs, args.audio_format, max(args.nj, 1))
    stereo = sum(result.note == "stereo" for result in results.values())
    if stereo:
        logging.warning(f"{args.data_dir}: {stereo} recordings have several channels; their mean is used")
    if resampled := sum(result.note == "rate" for result in results.values()):
        logging.info(f"{args.data_dir}: {resampled} recordings resampled to {args.fs} Hz")
    for consumed in ("segments", "utt2speed"):
        tables.pop(consumed, None)
    tables["wav.scp"] = {utt: result.path for utt, result in results.items()}
    tables["utt2num_samples"] = {utt: str(result.num_samples) for utt, result in results.items()}
    write_data_dir(args.out, tables)
    logging.info(f"{args.data_dir} -> {args.out}: {len(results)} utterances")


if __name__ == "__main__":
    run_main(main)

"""A tiny recipe in a folder of its own: thirty utterances of three sessions, a random upstream, one epoch."""

import math
import os
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import yaml

from espnet_ctx.bin.merge_config import merge, read_config
from espnet_ctx.data_dir import write_data_dir

ROOT = Path(__file__).resolve().parents[2]
FS = 16000
WORDS = "flour flower mill rose bake bread water garden oven seed".split()
SETS = {"train": 16, "valid": 6, "test": 8}

# over conf/train_asr.yaml
SMALL = {
    "batch_bins": 160000,
    "valid_batch_bins": 160000,
    "num_workers": 0,
    "max_epoch": 1,
    "keep_nbest_models": 1,
    "log_interval": 1,
}


def tones(words: list[str], rng: random.Random) -> np.ndarray:
    """A tone for each letter, 60 ms long, in noise: (N,) samples."""
    pitches = [200 + 90 * (ord(letter) - ord("a")) for word in words for letter in word]
    t = np.arange(int(0.06 * FS)) / FS
    sound = np.concatenate([0.3 * np.sin(2 * math.pi * pitch * t) for pitch in pitches])
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.01, len(sound))
    return (sound + noise).astype(np.float32)


def make_source(folder: Path) -> None:
    """Data directories and recordings that the recipe's `local/data.sh` copies."""
    rng = random.Random(0)
    for name, size in SETS.items():
        tables: dict[str, dict[str, str]] = {key: {} for key in ("wav.scp", "text", "utt2spk", "utt2prev")}
        for i in range(size):
            spk = f"{name}{i % 2}"
            utt, prev = f"{spk}-{i:02d}", f"{spk}-{i - 2:02d}"
            words = [rng.choice(WORDS) for _ in range(rng.randint(2, 5))]
            wav = folder / "wav" / f"{utt}.wav"
            wav.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(wav, tones(words, rng), FS)
            tables["wav.scp"][utt] = str(wav)
            tables["text"][utt] = " ".join(words)
            tables["utt2spk"][utt] = spk
            tables["utt2prev"][utt] = prev if i >= 2 else "-"
        write_data_dir(folder / "data" / name, tables)


class Recipe:
    """A recipe directory whose stages can be run, interrupted and looked at."""

    def __init__(self, folder: Path, upstream: Path):
        self.folder = folder
        self.upstream = upstream
        self.source = folder / "source"
        make_source(self.source)
        for name in ("utils", "path.sh", "cmd.sh"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "conf").mkdir()
        (folder / "conf" / "context").symlink_to(ROOT / "conf" / "context")
        train_conf = merge(read_config(ROOT / "conf" / "train_asr.yaml"), SMALL)
        (folder / "conf" / "train.yaml").write_text(yaml.safe_dump(train_conf))
        (folder / "local").mkdir()
        data_sh = folder / "local" / "data.sh"
        data_sh.write_text('#!/usr/bin/env bash\nset -eu\nmkdir -p data\ncp -r "${PWD}/source/data/." data\n')
        data_sh.chmod(0o755)

    def command(self, *options: str) -> list[str]:
        fixed = "--train_set train --valid_set valid --test_sets test --asr_config conf/train.yaml --nj 1"
        return [
            str(ROOT / "egs2/TEMPLATE/ctx1/ctx.sh"),
            *fixed.split(),
            *("--upstream", str(self.upstream)),
            *options,
        ]

    def run(self, *options: str, timeout: float = 600) -> subprocess.CompletedProcess:
        """Run ctx.sh to its end; output and errors come back together in `stdout`."""
        return subprocess.run(
            self.command(*options),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def kill_after(self, seconds: float, *options: str) -> bool:
        """Start ctx.sh, kill -9 it and all that it started after some seconds; False if it had already ended."""
        process = subprocess.Popen(
            self.command(*options),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            process.wait(timeout=seconds)
            return False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True

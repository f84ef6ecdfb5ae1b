"""A tiny recipe in a folder of its own: thirty utterances of three sessions, a random upstream, one epoch."""

import copy
import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import yaml

from espnet_ctx.bin.merge_config import merge, read_config
from espnet_ctx.data_dir import write_data_dir

ROOT = Path(__file__).resolve().parents[2]
FS = 16000
WORDS = "flour flower mill rose bake bread water garden oven seed".split()
TABLES = ("wav.scp", "text", "utt2spk", "utt2prev", "utt2ner", "utt2sentiment")
CLASSES = ("Negative", "Neutral", "Positive")
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
        tables: dict[str, dict[str, str]] = {key: {} for key in TABLES}
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
            tables["utt2ner"][utt] = json.dumps([["PERSON", 0, len(words[0])]] if words[0] in WORDS[:5] else [])
            tables["utt2sentiment"][utt] = CLASSES[i % len(CLASSES)]
        write_data_dir(folder / "data" / name, tables)


def make_llm(folder: Path) -> Path:
    """A random causal language model that answers with some of `WORDS`."""
    import tokenizers
    import torch
    import transformers

    vocabulary = {token: i for i, token in enumerate(["<unk>", "</s>", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(vocabulary), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
        )
    ).save_pretrained(folder)
    return folder


def use_python(recipe: Path, python: Path) -> None:
    """Have the stages of the recipe in a folder start the `python3` in another."""
    (recipe / "path.sh").unlink()
    (recipe / "path.sh").write_text(f'. {ROOT}/path.sh\nexport PATH="{python}:${{PATH}}"\n')


class Recipe:
    """A recipe directory whose stages can be run, interrupted and looked at."""

    def __init__(self, folder: Path, upstream: Path):
        self.folder = folder
        self.upstream = upstream
        self.source = folder / "source"
        self.options: list[str] = []  # what the whole run was made with
        make_source(self.source)
        for name in ("utils", "path.sh", "cmd.sh"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "conf").mkdir()
        for name in ("context", "task"):
            (folder / "conf" / name).symlink_to(ROOT / "conf" / name)
        train_conf = merge(read_config(ROOT / "conf" / "train_asr.yaml"), SMALL)
        (folder / "conf" / "train.yaml").write_text(yaml.safe_dump(train_conf))
        (folder / "local").mkdir()
        data_sh = folder / "local" / "data.sh"
        data_sh.write_text('#!/usr/bin/env bash\nset -eu\nmkdir -p data\ncp -r "${PWD}/source/data/." data\n')
        data_sh.chmod(0o755)

    def copy(self, folder: Path) -> "Recipe":
        """The recipe as it stands in another folder, stamps included; recordings stay where they are."""
        shutil.copytree(self.folder, folder, symlinks=True)
        other = copy.copy(self)
        other.folder, other.source = folder, folder / "source"
        return other

    def command(self, *options: str) -> list[str]:
        """ctx.sh with what the tests have in common; later options win."""
        fixed = "--train_set train --valid_set valid --test_sets test --asr_config conf/train.yaml --nj 1"
        script = ROOT / "egs2" / "TEMPLATE" / "ctx1" / "ctx.sh"
        return [str(script), *fixed.split(), "--upstream", str(self.upstream), *options]

    def run(self, *options: str) -> subprocess.CompletedProcess:
        """Run ctx.sh to its end; output and errors come back together in `stdout`."""
        return subprocess.run(
            self.command(*options), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill_when(self, ready: Callable[[], bool], *options: str) -> bool:
        """Start ctx.sh and kill -9 it with all its children as soon as `ready()`; False if it ended before."""
        process = subprocess.Popen(
            self.command(*options),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if ready():
                    return True
                time.sleep(0.02)
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def kill_after(self, seconds: float, *options: str) -> bool:
        end = time.monotonic() + seconds
        return self.kill_when(lambda: time.monotonic() > end, *options)

    def contents(self, *folders: str) -> dict[str, bytes]:
        """Every visible file below some folders, logs, scripts and the recipe's own path left out."""
        found = {}
        for folder in folders:
            for path in sorted((self.folder / folder).rglob("*")):
                name = path.relative_to(self.folder)
                visible = not any(part.startswith(".") for part in name.parts)
                if path.is_file() and visible and path.suffix not in (".log", ".sh"):
                    found[str(name)] = path.read_bytes().replace(str(self.folder).encode(), b"<recipe>")
        return found

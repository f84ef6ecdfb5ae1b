#!/usr/bin/env python3
"""Pre-train the tiny HuBERT on the CPU: one thread a process, bf16 autocast, stopped and resumed at any time.

Whatever is random in an update depends on the seed, the process and the number of the update alone; a run that was
killed goes on from its checkpoint and ends in the same weights. Processes share an update (DDP over gloo).

Example:
    torchrun --standalone --nproc_per_node 2 local/pretrain.py --config conf/pretrain.json --iteration 1 --audio exp/audio \\
        --labels exp/iter1/labels.npy --out exp/iter1
"""

import argparse
import json
import os
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from audio_store import AudioStore
from hubert import NO_DROPOUT, RATE, MaskedPrediction, draw_mask, export
from torch.nn.parallel import DistributedDataParallel
from transformers import HubertConfig, HubertModel

from espnet_ctx.files import UserError, run_main, whole_file


def join_processes() -> None:
    """Meet the other processes of torchrun; without it, this one is alone."""
    if not dist.is_initialized():
        alone = None if "WORLD_SIZE" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
        dist.init_process_group("gloo", **(alone or {}))


def learning_rate(update: int, updates: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the first share of the updates, then linear decay to a twentieth of the peak."""
    rise = warmup * updates
    if update < rise:
        return peak * (update + 1) / rise
    return peak * (1 - 0.95 * (update - rise) / (updates - rise))


class Trainer:
    """State of a run: the model, AdamW and the number of updates done.

    Args:
        config: the settings of conf/pretrain.json for one iteration.
        store: the audio.
        labels: clusters of all its frames.
        hubert: where to start from; None: random weights.
    """

    def __init__(self, config: dict, store: AudioStore, labels: np.ndarray, hubert: HubertModel | None = None):
        if len(labels) != store.frames.sum():
            raise UserError(f"{len(labels)} labels for {store.frames.sum()} frames of {store.folder}: make them anew")
        torch.manual_seed(config["seed"])
        self.config, self.store, self.labels = config, store, labels
        self.model = MaskedPrediction(
            HubertConfig(**config["hubert"], **NO_DROPOUT, attn_implementation="eager"),
            config["clusters"],
            unmasked_weight=config["unmasked_weight"],
        )
        if hubert is not None:
            self.model.hubert.load_state_dict(hubert.state_dict())
        self.model.train()
        # Biases, norms and single vectors are not decayed.
        params = list(self.model.parameters())
        groups = [
            {"params": [p for p in params if p.ndim > 1], "weight_decay": config["weight_decay"]},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.rank, self.processes = dist.get_rank(), dist.get_world_size()
        self.parallel = DistributedDataParallel(self.model, broadcast_buffers=False)
        self.updates = 0
        self.epoch, self.batches, self.first = -1, [], 0  # of the epoch: its number, its updates, the first's number

    def next_batch(self) -> np.ndarray:
        """This process' batch of the coming update: epochs follow each other, each a function of its number."""
        while self.updates >= self.first + len(self.batches):
            self.first += len(self.batches)
            self.epoch += 1
            c = self.config
            self.batches = self.store.epoch(c["seed"], self.epoch, c["batch_seconds"], c["real_share"], self.processes)
        return self.batches[self.updates - self.first][self.rank]

    def step(self) -> dict[str, float]:
        """One update; returns this process' loss, masked accuracy and seconds of audio, and the learning rate."""
        c = self.config
        batch = self.next_batch()
        rng = np.random.default_rng([c["seed"], 1, self.updates, self.rank])
        speech, labels = self.store.load(rng, batch, self.labels, c["snr_db"])
        mask = draw_mask(rng, *labels.shape, c["mask_prob"], c["mask_span"])
        lr = learning_rate(self.updates, c["updates"], c["lr"], c["warmup"])
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast("cpu", torch.bfloat16):
            loss, accuracy = self.parallel(speech, labels, mask)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), c["grad_clip"])
        if torch.isfinite(norm):
            self.optimizer.step()
        self.updates += 1
        return {"loss": loss.item(), "accuracy": accuracy.item(), "seconds": speech.numel() / RATE, "lr": lr}

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "updates": self.updates}
        state["processes"] = self.processes
        with whole_file(path, "wb") as f:
            torch.save(state, f)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: other processes than these trained it; their batches would not follow on.
        """
        state = torch.load(path, weights_only=True)
        if state["processes"] != self.processes:
            raise UserError(f"{path} is of {state['processes']} processes, this run of {self.processes}: change --nj or --expdir")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]


def train(trainer: Trainer, out: Path, log_every: int = 50, save_minutes: float = 8.0) -> None:
    """Run to the last update; log, checkpoint and export a snapshot on the way and the model at the end.

    The first process writes out/checkpoint.pt, out/log.jsonl (one line per `log_every` updates), out/snapshot and, at the
    end, out/model.
    """
    updates = trainer.config["updates"]
    recent: deque[dict[str, float]] = deque(maxlen=log_every)
    saved = logged = time.time()
    while trainer.updates < updates:
        recent.append(trainer.step())
        if trainer.rank:
            continue
        now = time.time()
        if trainer.updates % log_every == 0 or trainer.updates == updates:
            seconds = sum(r["seconds"] for r in recent) * trainer.processes
            eta = (updates - trainer.updates) * (now - logged) / len(recent)
            line = {
                "update": trainer.updates,
                "epoch": trainer.epoch,
                "loss": round(sum(r["loss"] for r in recent) / len(recent), 4),
                "masked_accuracy": round(sum(r["accuracy"] for r in recent) / len(recent), 4),
                "lr": recent[-1]["lr"],
                "audio_seconds_per_second": round(seconds / (now - logged), 1),
                "minutes_left": round(eta / 60, 1),
                "time": time.strftime("%H:%M:%S"),
            }
            print(json.dumps(line), flush=True)
            with open(out / "log.jsonl", "a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
            recent.clear()
            logged = now
        if now - saved > 60 * save_minutes or trainer.updates == updates:
            trainer.save(out / "checkpoint.pt")
            export(trainer.model.hubert, out / "snapshot")
            saved = time.time()
    if not trainer.rank:
        export(trainer.model.hubert, out / "model")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="settings (.json)")
    parser.add_argument("--iteration", required=True, choices=["1", "2", "3"], help="whose settings to take from it")
    parser.add_argument("--audio", required=True, type=Path, help="folder written by prepare_audio.py")
    parser.add_argument("--labels", required=True, type=Path, help="file written by make_targets.py")
    parser.add_argument("--init", type=Path, help="exported HuBERT to start from (default: random weights)")
    parser.add_argument("--out", required=True, type=Path, help="folder of checkpoint, log, snapshot and model")
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    if (args.out / "model" / "model.safetensors").exists():
        print(f"{args.out}/model is complete: kept")
        return
    torch.set_num_threads(1)
    join_processes()
    settings = json.loads(args.config.read_text(encoding="utf-8"))
    config = settings["common"] | settings[f"iteration{args.iteration}"]
    hubert = HubertModel.from_pretrained(args.init) if args.init else None
    trainer = Trainer(config, AudioStore(args.audio), np.load(args.labels), hubert)
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.out / "checkpoint.pt").exists():
        trainer.load(args.out / "checkpoint.pt")
        print(f"resumed at update {trainer.updates} of {config['updates']}")
    train(trainer, args.out)


if __name__ == "__main__":
    run_main(main)
    if dist.is_initialized():
        dist.destroy_process_group()

"""ESPnet tasks that know context: optional data, portable configuration, learning rate of the upstream."""

import argparse
from pathlib import Path

import numpy as np
import torch
from espnet2.tasks.asr import ASRTask
from espnet2.utils.types import float_or_none

from espnet_ctx.espnet.encoder import ContextSSLEncoder
from espnet_ctx.espnet.registry import install_hook
from espnet_ctx.espnet.trainer import ContextTrainer

CONTEXT_DATA_NAMES = ("context", "prev_speech")


class ContextASRTask(ASRTask):
    """ESPnet's ASR task; models without our encoder are trained as ESPnet trains them."""

    trainer = ContextTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        """ESPnet's arguments and `--upstream_lr`."""
        super().add_task_arguments(parser)
        parser.add_argument(
            "--upstream_lr",
            type=float_or_none,
            default=None,
            help="Learning rate of encoder.upstream; the rest of the model keeps optim_conf's (default: the same)",
        )

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False):
        """ESPnet's names and ours."""
        return tuple(super().optional_data_names(train, inference)) + CONTEXT_DATA_NAMES

    @classmethod
    def build_model(cls, args: argparse.Namespace):
        """Build, and write into `args` (saved as config.yaml) what is needed to build again with no other file."""
        portable_codebook = _load_codebook(args)
        model = super().build_model(args)
        if isinstance(model.encoder, ContextSSLEncoder):
            args.encoder_conf = {**args.encoder_conf, "upstream_architecture": model.encoder.upstream.architecture}
        if portable_codebook is not None:
            args.model_conf["distillation_conf"] = portable_codebook
        return model

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: torch.nn.Module):
        """ESPnet's optimiser, with the upstream in a parameter group of its own when `--upstream_lr` is set."""
        optimizers = super().build_optimizers(args, model)
        if not isinstance(model.encoder, ContextSSLEncoder):
            return optimizers
        optimizer = optimizers[0]
        if getattr(args, "upstream_lr", None) is not None:
            upstream = {id(p) for p in model.encoder.upstream.parameters()}
            for group in list(optimizer.param_groups):
                ours = [p for p in group["params"] if id(p) in upstream]
                group["params"] = [p for p in group["params"] if id(p) not in upstream]
                if ours:
                    settings = {k: v for k, v in group.items() if k != "params"}
                    optimizer.add_param_group({**settings, "params": ours, "lr": args.upstream_lr})
            optimizer.param_groups = [g for g in optimizer.param_groups if g["params"]]
        optimizer.register_step_post_hook(lambda *_: model.encoder.num_updates.add_(1))
        return optimizers


def _load_codebook(args: argparse.Namespace) -> dict | None:
    """Replace the codebook's file name by its vectors; returns the portable form of distillation_conf."""
    conf = args.model_conf.get("distillation_conf") or {}
    path = conf.get("codebook")
    if not isinstance(path, str):
        return None
    if not Path(path).is_file():
        raise ValueError(f"no codebook file '{path}' (model_conf.distillation_conf.codebook)")
    vectors = torch.from_numpy(np.load(path, allow_pickle=False)).float()
    args.model_conf = {**args.model_conf, "distillation_conf": {**conf, "codebook": vectors}}
    return {**conf, "codebook": len(vectors), "context_dim": vectors.size(1)}


install_hook()  # for a process that imports this module before ESPnet's, such as a spawned DDP worker

"""ESPnet's trainer, with whole-or-nothing checkpoints and bf16 autocast on the CPU."""

import dataclasses
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator
from unittest import mock

import torch
from espnet2.train.trainer import Trainer

from espnet_ctx.espnet.encoder import ContextSSLEncoder
from espnet_ctx.files import whole_file
from espnet_ctx.nn.precision import has_bfloat16


class ContextTrainer(Trainer):
    """Changes two things about ESPnet's training loop.

    Files written by `torch.save` appear whole or not at all, and a run killed between the files of one
    epoch repairs them when it resumes: ESPnet writes `checkpoint.pth` in place and the epoch's other
    files after it. With `use_amp: true` and no GPU, the encoder runs under bf16 autocast if the processor has bf16.
    """

    @classmethod
    def run(cls, model, optimizers, schedulers, trainer_options, distributed_option, **kwargs) -> None:
        """Train; see ESPnet's `Trainer.run` for the arguments."""
        if isinstance(model.encoder, ContextSSLEncoder):
            # --init_param brings those of another training along; a run that is resumed gets its own from the checkpoint
            model.encoder.num_updates.zero_()
        if trainer_options.resume and distributed_option.dist_rank in (None, 0):
            repair(Path(trainer_options.output_dir), trainer_options.best_model_criterion)
        if trainer_options.use_amp and trainer_options.ngpu == 0:
            # ESPnet's own autocast and gradient scaler are for CUDA
            trainer_options = dataclasses.replace(trainer_options, use_amp=False)
            if has_bfloat16():
                model.encoder.forward = torch.autocast("cpu", torch.bfloat16)(model.encoder.forward)
            else:
                logging.warning("use_amp: this processor has no bf16, so that training stays in single precision")
        with whole_saves():
            super().run(
                model=model,
                optimizers=optimizers,
                schedulers=schedulers,
                trainer_options=trainer_options,
                distributed_option=distributed_option,
                **kwargs,
            )


@contextmanager
def whole_saves() -> Iterator[None]:
    """Inside the block `torch.save` to a path writes beside it and renames."""
    save = torch.save

    def whole(obj, f, *args, **kwargs):
        if not isinstance(f, (str, os.PathLike)):
            return save(obj, f, *args, **kwargs)
        with whole_file(f, "wb") as out:
            save(obj, out, *args, **kwargs)

    with mock.patch.object(torch, "save", whole):
        yield


def repair(output_dir: Path, best_model_criterion) -> None:
    """Bring the files of the last epoch in line with checkpoint.pth after a kill.

    Args:
        output_dir: the experiment's directory.
        best_model_criterion: ESPnet's option: (phase, key, mode) triples.
    """
    checkpoint = output_dir / "checkpoint.pth"
    if not checkpoint.exists():
        return
    states = torch.load(checkpoint, map_location="cpu", weights_only=False)
    epoch, stats = states["reporter"]["epoch"], states["reporter"]["stats"]
    weights = output_dir / f"{epoch}epoch.pth"
    if not weights.exists():
        logging.warning(f"{weights} is missing after an interrupted run; written again from {checkpoint}")
        with whole_file(weights, "wb") as f:
            torch.save(states["model"], f)
    best = {"latest.pth": epoch}
    for phase, key, mode in best_model_criterion:
        scores = {e: s[phase][key] for e, s in stats.items() if key in s.get(phase, {})}
        if scores:
            best[f"{phase}.{key}.best.pth"] = (max if mode == "max" else min)(scores, key=scores.get)
    for name, number in best.items():
        link, target = output_dir / name, f"{number}epoch.pth"
        if (output_dir / target).exists() and not (link.is_symlink() and os.readlink(link) == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)

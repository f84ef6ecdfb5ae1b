"""ESPnet tasks that know context: optional data, portable configuration, learning rate of the upstream."""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from espnet2.tasks.asr import ASRTask
from espnet2.tasks.cls import CLSTask
from espnet2.tasks.slu import SLUTask
from espnet2.utils.types import float_or_none, str2bool

from espnet_ctx.espnet.codebook import make_codebook
from espnet_ctx.espnet.encoder import ContextSSLEncoder
from espnet_ctx.espnet.models import ContextCLSModel
from espnet_ctx.espnet.registry import register_loaded
from espnet_ctx.espnet.session_batches import SessionBatches
from espnet_ctx.espnet.trainer import ContextTrainer
from espnet_ctx.files import UserError, read_table
from espnet_ctx.nn.memory import CodebookMemory

CONTEXT_DATA_NAMES = ("context", "next_context", "place", "transcribed")


class ContextTask:
    """What context adds to a task of ESPnet; models without our encoder are trained as ESPnet trains them.

    Stands before the ESPnet task among the bases of a class.
    """

    trainer = ContextTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        """ESPnet's arguments, `--upstream_lr` and `--session_batches`."""
        super().add_task_arguments(parser)
        parser.add_argument(
            "--upstream_lr",
            type=float_or_none,
            default=None,
            help="Learning rate of encoder.upstream; the rest of the model keeps optim_conf's (default: the same)",
        )
        parser.add_argument(
            "--session_batches",
            type=str2bool,
            default=False,
            help="Train in the order of speech, many sessions side by side; batches are not shuffled (needs the data 'place')",
        )

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False):
        """ESPnet's names and ours."""
        return tuple(super().optional_data_names(train, inference)) + CONTEXT_DATA_NAMES

    @classmethod
    def build_model(cls, args: argparse.Namespace):
        """Build, and write into `args` (saved as config.yaml) what is needed to build again with no other file."""
        portable_codebook = _load_codebook(args)
        new_codebook = _make_codebook(args)
        model = super().build_model(args)
        if isinstance(model.encoder, ContextSSLEncoder):
            if new_codebook is not None:
                model.encoder.memory.codebook.copy_(new_codebook)
            args.encoder_conf = {**args.encoder_conf, "upstream_architecture": model.encoder.upstream.architecture}
        if portable_codebook is not None:
            args.model_conf["distillation_conf"] = portable_codebook
        return model

    @classmethod
    def build_sequence_iter_factory(cls, args: argparse.Namespace, iter_options, mode: str):
        """ESPnet's, with `SessionBatches` for training when `--session_batches` is set."""
        factory = super().build_sequence_iter_factory(args, iter_options, mode)
        if getattr(args, "session_batches", False) and iter_options.train:
            factory.sampler, factory.shuffle = _session_batches(iter_options), False
        return factory

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


class ContextASRTask(ContextTask, ASRTask):
    """ESPnet's ASR task with context; see `ContextTask`."""


class ContextSLUTask(ContextTask, SLUTask):
    """ESPnet's SLU task with context; see `ContextTask`."""


class _CLSTaskWithModels(CLSTask):
    """ESPnet's classification task always builds its own model; this one also builds ours."""

    @classmethod
    def build_model(cls, args: argparse.Namespace):
        """Build; `class_weights: balanced` becomes the weights that the training labels give."""
        if args.model != "context_cls":
            return super().build_model(args)
        plain_args = copy.copy(args)
        plain_args.model_conf = {}
        plain = super().build_model(plain_args)
        args.token_list, args.frontend, args.frontend_conf = plain_args.token_list, plain_args.frontend, plain_args.frontend_conf
        if args.model_conf.get("class_weights") == "balanced":
            weights = balanced_weights(_training_labels(args), plain.token_list[: plain.vocab_size])
            args.model_conf = {**args.model_conf, "class_weights": weights}
        parts = ("frontend", "specaug", "normalize", "preencoder", "encoder", "decoder")
        return ContextCLSModel(
            plain.vocab_size, plain.token_list, **{part: getattr(plain, part) for part in parts}, **args.model_conf
        )


class ContextCLSTask(ContextTask, _CLSTaskWithModels):
    """ESPnet's classification task with context; see `ContextTask`."""


def _session_batches(iter_options) -> SessionBatches:
    paths = [path for path, name, _ in iter_options.data_path_and_name_and_type if name == "place"]
    if not paths or iter_options.batch_type != "numel" or iter_options.distributed:
        raise UserError(
            "--session_batches true needs the training data 'place' (stage 7 makes it), --batch_type numel and one process; got "
            f"data {paths}, --batch_type {iter_options.batch_type}, {'several processes' if iter_options.distributed else 'one'}"
        )
    places = {utt: tuple(map(int, place.split())) for utt, place in read_table(paths[0]).items()}
    num_samples = {utt: int(shape.split(",")[0]) for utt, shape in read_table(iter_options.shape_files[0]).items()}
    return SessionBatches(places, num_samples, iter_options.batch_bins)


def balanced_weights(labels: list[str], classes: list[str]) -> list[float]:
    """Weights that give every class the same share of the loss: utterances / (classes * utterances of the class).

    Raises:
        UserError: a class without an utterance, or a label that is no class.
    """
    counts = {name: labels.count(name) for name in classes}
    if strangers := sorted(set(labels) - set(classes)):
        raise UserError(f"the training labels have '{strangers[0]}', the classes are: {', '.join(classes)}")
    if empty := [name for name, count in counts.items() if count == 0]:
        raise UserError(f"class_weights: balanced needs utterances of every class; '{empty[0]}' has none")
    return [len(labels) / (len(classes) * count) for count in counts.values()]


def _training_labels(args: argparse.Namespace) -> list[str]:
    paths = [path for path, name, _ in args.train_data_path_and_name_and_type if name == "label"]
    if not paths:
        raise UserError("class_weights: balanced counts the training labels: --train_data_path_and_name_and_type has no 'label'")
    return list(read_table(paths[0]).values())


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


def _make_codebook(args: argparse.Namespace) -> torch.Tensor | None:
    """For a memory with a codebook that is built for the first time: the teacher's embeddings, clustered.

    Writes the number of entries into `args`, from where a trained model is built again.
    """
    conf = args.encoder_conf.get("injection_conf") or {}
    memory = conf.get("memory") or {}
    if memory.get("kind") != "codebook" or "upstream_architecture" in args.encoder_conf:
        return None
    paths = [path for path, name, _ in args.train_data_path_and_name_and_type if name == "context"]
    if not paths:
        raise UserError(
            "the memory's codebook is made of the training contexts: --train_data_path_and_name_and_type has no 'context'"
        )
    vectors = torch.from_numpy(make_codebook(paths[0], memory.get("size", CodebookMemory.SIZE), args.seed))
    args.encoder_conf = {**args.encoder_conf, "injection_conf": {**conf, "memory": {**memory, "size": len(vectors)}}}
    return vectors


register_loaded()

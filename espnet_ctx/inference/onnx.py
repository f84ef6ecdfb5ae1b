"""Encoder and CTC of a trained model as an ONNX graph, for runtimes without PyTorch."""

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from espnet_ctx.files import UserError, whole_file
from espnet_ctx.inference.recognizer import CTCRecognizer
from espnet_ctx.nn.memory import State

MODEL, RECORD = "model.onnx", "model.json"
LENGTHS = (0.5, 1.7, 3.1)  # seconds of the speech that a graph is checked with
TOLERANCE = 1e-4  # of a probability


class Difference(NamedTuple):
    """How far a graph is from the model that it was made of."""

    probability: float  # largest difference of a token's probability
    state: float  # of a number of the memory; 0 without one


class EncoderCTC(torch.nn.Module):
    """What is exported: the waveform of one utterance to the log-probabilities of its tokens, memory in and out.

    Args:
        model: an ESPnet model with our encoder and CTC.
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.encoder, self.ctc = model.encoder, model.ctc

    def forward(self, speech: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(1, N) samples at 16 kHz and the state of the session -> (1, T, V) and the state after the utterance."""
        memory = self.encoder.memory
        with self.encoder.given(None, None if memory is None else State(*state)):
            frames, _, _ = self.encoder(speech, None)
        return self.ctc.log_softmax(frames), *(self.encoder.state or ())


class OnnxRecognizer:
    """Runs an exported graph with onnxruntime; needs neither PyTorch's nor ESPnet's model.

    Args:
        folder: what `export` wrote.
        num_threads: CPU threads.

    Raises:
        UserError: no such folder, or the package onnxruntime is missing.
    """

    def __init__(self, folder: str | Path, num_threads: int = 1):
        try:
            import onnxruntime
        except ImportError as e:
            raise UserError("a graph is run by the package onnxruntime: pip install 'espnet_ctx[onnx]'") from e
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            raise UserError(f"no {RECORD} in {folder}: python -m espnet_ctx.bin.export_onnx makes it")
        self.record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, ["CPUExecutionProvider"])

    def initial(self) -> tuple[np.ndarray, ...]:
        """The state of a new session; nothing for a system without memory."""
        return tuple(np.zeros(shape, np.float32) for shape in self.record["state"].values())

    def __call__(self, speech: np.ndarray, state: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Encode one utterance.

        Args:
            speech: (N,) float32 at 16 kHz.
            state: of its session before it.

        Returns:
            (T, V) log-probabilities, and the state after it.
        """
        inputs = {"speech": speech[np.newaxis], **dict(zip(self.record["state"], state, strict=True))}
        log_probs, *after = self._session.run(None, inputs)
        return log_probs[0], tuple(after)


def export(recognizer: CTCRecognizer, folder: Path) -> Difference:
    """Write graph and record, and compare the graph with the model on noise of several lengths.

    Args:
        recognizer: a model of a system that is fed no text, on the CPU, in float32, not quantised.
        folder: gets model.onnx and model.json (tokens, shapes of the state); both are whole or not there.

    Raises:
        UserError: another kind of model, a missing package, or a graph that differs by more than `TOLERANCE`.
    """
    if recognizer.needs_context or getattr(recognizer.model.encoder, "upstream", None) is None:
        raise UserError("only models with the encoder context_ssl that are fed no text can be exported: none, aware, carry")
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as e:
        raise UserError(f"export needs onnx, onnxscript and onnxruntime: pip install 'espnet_ctx[onnx]' ({e})") from e
    module = EncoderCTC(recognizer.model).eval()
    state = () if recognizer.memory is None else recognizer.memory.initial(1)
    names = [f"memory_{name}" for name, _ in zip(State._fields, state)]
    record = {
        "state": dict(zip(names, ([*tensor.shape] for tensor in state))),
        "tokens": list(recognizer.args.token_list),
        "token_type": recognizer.args.token_type,
        "blank": recognizer.blank,
        "rate": 16000,
        "seconds_per_frame": recognizer.seconds_per_frame,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        _write_graph(module, state, names, Path(beside) / MODEL)
        (Path(beside) / RECORD).write_text(json.dumps(record))
        difference = _compare(module, OnnxRecognizer(beside), state)
        if not max(difference) < TOLERANCE:
            raise UserError(f"the graph differs from the model by {max(difference):.1e}, more than {TOLERANCE:.0e}: not written")
        os.replace(Path(beside) / MODEL, folder / MODEL)
    with whole_file(folder / RECORD) as f:
        json.dump(record, f, ensure_ascii=False)
    return difference


@torch.inference_mode()
def _write_graph(module: EncoderCTC, state: Sequence[torch.Tensor], names: list[str], path: Path) -> None:
    speech = torch.zeros(1, 2 * 16000)
    length = torch.export.Dim("samples", min=800)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (speech, *state),
            path,
            input_names=["speech", *names],
            output_names=["log_probs", *(f"{name}_after" for name in names)],
            dynamic_shapes=({1: length}, *([tuple({} for _ in state)] if state else [])),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@torch.inference_mode()
def _compare(module: EncoderCTC, graph: OnnxRecognizer, state: Sequence[torch.Tensor]) -> Difference:
    generator = torch.Generator().manual_seed(0)
    probability = of_state = 0.0
    theirs = tuple(tensor.numpy() for tensor in state)
    for seconds in LENGTHS:
        speech = 0.1 * torch.randn(1, int(16000 * seconds), generator=generator)
        log_probs, *state = module(speech, *state)
        found, theirs = graph(speech[0].numpy(), theirs)
        if found.shape != tuple(log_probs.shape[1:]):
            raise UserError(f"the graph gives {found.shape} for {seconds} s, the model {tuple(log_probs.shape[1:])}: not written")
        probability = max(probability, float((torch.from_numpy(found).exp() - log_probs[0].exp()).abs().max()))
        of_state = max([of_state, *(float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(theirs, state))])
    return Difference(probability, of_state)

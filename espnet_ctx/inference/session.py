"""Recognition of sessions: each utterance with what was said before it, many sessions side by side."""

import hashlib
import json
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

import numpy as np
import safetensors
import safetensors.torch
import soxr
import torch

from espnet_ctx.context.online import OnlineContext
from espnet_ctx.files import UserError, whole_file
from espnet_ctx.inference.audio import BATCH_SECONDS
from espnet_ctx.inference.ctc import Hypothesis, Timed, length_batches
from espnet_ctx.inference.recognizer import CTCRecognizer
from espnet_ctx.inference.speech import RATE, check_speech, is_silent
from espnet_ctx.nn.memory import State

DEFAULT = "default"  # the session of who has only one
FORMAT = "espnet_ctx session state 1"


class Result(NamedTuple):
    """What was recognised in an utterance; times are seconds from its beginning.

    Attributes:
        text: empty when nothing was said.
        confidence: mean over the tokens, 0 for an empty text.
        tokens: with their times and confidences.
        words: with their times and confidences.
        hypothesis: what the decoder gave.
    """

    text: str
    confidence: float
    tokens: list[Timed]
    words: list[Timed]
    hypothesis: Hypothesis


@dataclass
class Session:
    """What is kept of a session."""

    texts: deque[str]  # recognised so far, the last ones
    memory: State | None = None  # of the model's SessionMemory, of this session alone
    utterances: int = field(default=0)


class SessionRecognizer:
    """Recognises utterances in the order in which they are said in their sessions.

    A system `carry` is fed the memory of the session, `prev_text` and `generated` what was recognised before; `none`
    and `aware` need nothing, and then sessions are kept all the same, so that a caller need not know the system.

    Args:
        recognizer: the model.
        context: makes what `prev_text` and `generated` are fed; nothing for the other systems.
        min_confidence: an utterance recognised with less is not remembered (default 0: all are).
        batch_seconds: padded seconds that are decoded at once (None: what suits the device).

    Raises:
        UserError: a context is missing or not wanted, or of another width than the model's.
    """

    def __init__(
        self,
        recognizer: CTCRecognizer,
        context: OnlineContext | None = None,
        min_confidence: float = 0.0,
        batch_seconds: float | None = None,
    ):
        if recognizer.needs_context and context is None:
            raise UserError(
                "this model is fed the text of the previous utterances: say how that was made in training, "
                "with --context_json dump/context/<tag>/<training set>/context.json"
            )
        if context is not None and not recognizer.needs_context:
            raise UserError("this model is fed no text: leave out --context_json")
        if context is not None and context.encoder.dim != recognizer.context_dim:
            raise UserError(
                f"the text encoder gives vectors of width {context.encoder.dim}, the model takes {recognizer.context_dim}"
            )
        if not 0 <= min_confidence <= 1:
            raise UserError(f"--min_confidence is {min_confidence}: must be in [0, 1]")
        self.recognizer, self.context = recognizer, context
        self.min_confidence = min_confidence
        self.batch_samples = int((batch_seconds or BATCH_SECONDS[recognizer.device]) * RATE)
        self._memory = recognizer.memory
        self._sessions: dict[str, Session] = {}

    @classmethod
    def from_files(
        cls,
        config: str | Path,
        model: str | Path,
        context: Mapping = {},
        min_confidence: float = 0.0,
        batch_seconds: float | None = None,
        **recognizer,
    ) -> "SessionRecognizer":
        """Build from a training's folder.

        Args:
            config: its config.yaml.
            model: the weights (.pth).
            context: arguments of `OnlineContext.like`; looked at when the model is fed text.
            min_confidence: see the class.
            batch_seconds: see the class.
            **recognizer: further arguments of `CTCRecognizer`.

        Raises:
            UserError: what those classes refuse.
        """
        loaded = CTCRecognizer(str(config), str(model), **recognizer)
        made = OnlineContext.like(**context) if loaded.needs_context and context.get("context_json") else None
        return cls(loaded, made, min_confidence, batch_seconds)

    @classmethod
    def from_pretrained(cls, pack: str | Path, context: Mapping = {}, **others) -> "SessionRecognizer":
        """Build from what stage 13 packed; without network, and nothing that was trained is needed beside the pack.

        Args:
            pack: the zip.
            context: as in `from_files`; `context_json` is the pack's unless it is given.
            **others: further arguments of `from_files`.

        Raises:
            UserError: no such file, not the pack of a recogniser, or what the class refuses.
        """
        from espnet2.main_funcs.pack_funcs import unpack

        with tempfile.TemporaryDirectory() as folder:
            try:
                files = unpack(str(pack), folder)
            except FileNotFoundError:
                raise UserError(f"no such pack: {pack} (--pack; stage 13 makes it)") from None
            except Exception as e:  # whatever archives and YAML can be wrong with
                raise UserError(f"{pack} is not a model that ESPnet packed: {e}") from e
            task = next((name for name in ("asr", "slu") if f"{name}_train_config" in files), None)
            if task is None:
                raise UserError(f"{pack} holds {', '.join(files)}: the model of an asr or slu task is needed")
            records = sorted(Path(folder).rglob("context.json"))
            context = {**({"context_json": records[0]} if records else {}), **context}
            built = cls.from_files(files[f"{task}_train_config"], files[f"{task}_model_file"], context, **others)
            built.recognizer.token_ids("")  # reads the sentencepiece model while it is there
        return built

    @property
    def sessions(self) -> list[str]:
        """Names of the sessions that have begun."""
        return list(self._sessions)

    @property
    def is_sequential(self) -> bool:
        """Whether what was said before decides what is recognised, so that a session's utterances wait for one another."""
        return self.context is not None or self._memory is not None

    def recognize(self, speech: np.ndarray, session: str = DEFAULT, rate: int = RATE) -> Result:
        """Recognise the next utterance of a session; a session begins with its first utterance.

        Args:
            speech: (N,) float waveform.
            session: its name.
            rate: samples a second; another one than 16 kHz is converted.

        Raises:
            UserError: samples that `check_speech` refuses; the session is as it was.
        """
        if rate != RATE:
            speech = soxr.resample(check_speech(speech), rate, RATE)
        return self.recognize_batch({session: speech})[session]

    def recognize_batch(self, speech: Mapping[str, np.ndarray]) -> dict[str, Result]:
        """Recognise the next utterance of several sessions at once.

        Args:
            speech: session -> (N,) float waveform at 16 kHz.

        Returns:
            Session -> result, in the order given.

        Raises:
            UserError: samples that `check_speech` refuses.
        """
        names = list(speech)
        results: dict[str, Result] = {}
        for batch in length_batches([len(speech[name]) for name in names], self.batch_samples):
            chosen = [names[i] for i in batch]
            results.update(zip(chosen, self._decode(chosen, [speech[name] for name in chosen])))
        return {name: results[name] for name in names}

    def recognize_all(self, speech: Sequence[np.ndarray], session: str = DEFAULT) -> list[Result]:
        """Recognise utterances of one session, in order; at once where the model remembers nothing."""
        if self.is_sequential:
            return [self.recognize(samples, session) for samples in speech]
        results: dict[int, Result] = {}
        for batch in length_batches([len(samples) for samples in speech], self.batch_samples):
            hypotheses = self.recognizer([speech[i] for i in batch])
            results.update(zip(batch, map(self._result, hypotheses)))
        self._sessions.setdefault(session, self._new()).utterances += len(speech)
        return [results[i] for i in range(len(speech))]

    def reset(self, session: str | None = None) -> None:
        """Forget a session, or all of them (None).

        Raises:
            UserError: no such session.
        """
        if session is None:
            self._sessions.clear()
        else:
            self.require(session)
            del self._sessions[session]

    def require(self, session: str) -> None:
        """Raise a UserError unless the session has begun."""
        if session not in self._sessions:
            begun = ", ".join(self.sessions[:10]) or "none"
            raise UserError(f"unknown session '{session}'; begun: {begun}{', ...' if len(self.sessions) > 10 else ''}")

    def save(self, path) -> None:
        """Write the state of all sessions (safetensors), whole or not at all."""
        sessions = self._sessions.values()
        tensors = {}
        if self._memory is not None and sessions:
            for key, rows in _side_by_side([session.memory for session in sessions])._asdict().items():
                tensors[f"memory.{key}"] = rows.cpu().contiguous()
        content = [[name, list(s.texts), s.utterances] for name, s in self._sessions.items()]
        metadata = {"format": FORMAT, "model": self._fingerprint(), "sessions": json.dumps(content)}
        with whole_file(path, "wb") as f:
            f.write(safetensors.torch.save(tensors, metadata))

    def load(self, path) -> None:
        """Take up the sessions of a file that `save` wrote; those that are there now are forgotten.

        Raises:
            UserError: no such file, a damaged one, or one that another model wrote; the sessions are as they were.
        """
        try:
            with safetensors.safe_open(path, "pt") as f:
                metadata = f.metadata() or {}
                tensors = {key: f.get_tensor(key) for key in f.keys()}
        except FileNotFoundError:
            raise UserError(f"no such file: {path} (--load_state)") from None
        except (OSError, safetensors.SafetensorError) as e:
            raise UserError(f"{path} is damaged or not the state of sessions: {e}") from e
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path} is not the state of sessions ('{FORMAT}')")
        if metadata["model"] != self._fingerprint():
            raise UserError(
                f"{path} holds {_what(metadata['model'])}, and this model takes {_what(self._fingerprint())}: "
                "a state goes on with the model that it began with"
            )
        content = json.loads(metadata["sessions"])
        memories: Sequence[State | None] = [None] * len(content)
        if tensors:
            memories = _each(State(*(tensors[f"memory.{key}"].to(self.recognizer.device) for key in State._fields)))
        self._sessions = {
            name: Session(self._texts(texts), memory, utterances)
            for (name, texts, utterances), memory in zip(content, memories, strict=True)
        }

    def _decode(self, names: list[str], speech: list[np.ndarray]) -> list[Result]:
        known = [self._sessions.get(name) or self._new() for name in names]  # kept only when nothing is wrong
        if self._memory is not None:
            hypotheses = self.recognizer(speech, states=_side_by_side([session.memory for session in known]))
            memories = _each(self.recognizer.states)
        else:
            rows = None if self.context is None else self.context([session.texts for session in known])
            hypotheses = self.recognizer(speech, rows)
        results = []
        for i, (name, session, samples, hypothesis) in enumerate(zip(names, known, speech, hypotheses)):
            result = self._result(hypothesis)
            results.append(result)
            session.utterances += 1
            self._sessions[name] = session
            if is_silent(samples) or result.confidence < self.min_confidence:
                continue
            if result.text and session.texts.maxlen:
                session.texts.append(result.text)
            if self._memory is not None:
                session.memory = memories[i]
        return results

    def _result(self, hypothesis: Hypothesis) -> Result:
        _, text = self.recognizer.text(hypothesis)
        tokens, words = self.recognizer.timed_tokens(hypothesis), self.recognizer.timed_words(hypothesis)
        return Result(text.strip(), hypothesis.confidence, tokens, words, hypothesis)

    def _new(self) -> Session:
        memory = None if self._memory is None else self._memory.initial(1, self.recognizer.device)
        return Session(self._texts(()), memory)

    def _texts(self, texts: Sequence[str]) -> deque[str]:
        return deque(texts, maxlen=0 if self.context is None else self.context.num_prev)

    def _fingerprint(self) -> str:
        """What a state can go on with: the model whose student filled the memory, texts of sessions, or nothing."""
        if self._memory is None:
            return "texts" if self.context is not None else "nothing"
        digest = hashlib.sha256()
        for module in (self.recognizer.model.encoder.injection.student, self._memory):
            for name, tensor in sorted(module.state_dict().items()):
                if isinstance(tensor, torch.Tensor):
                    digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        return f"memory {digest.hexdigest()}"


def _side_by_side(states: Sequence[State]) -> State:
    return states[0] if len(states) == 1 else State(*map(torch.cat, zip(*states)))


def _each(states: State) -> list[State]:
    number = len(states.weight)
    # copies, that none of them holds the others
    return [states] if number == 1 else [State(*(part[i : i + 1].clone() for part in states)) for i in range(number)]


def _what(fingerprint: str) -> str:
    kind, _, digest = fingerprint.partition(" ")
    return {"memory": f"the memory of model {digest[:8]}", "texts": "the texts of sessions", "nothing": "no state at all"}[kind]

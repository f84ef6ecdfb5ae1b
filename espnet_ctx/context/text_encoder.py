"""Text encoder g: a text C_i -> its embedding E_i, `(L, d)` token states or one pooled vector `(1, d)`."""

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from espnet_ctx.context.checkpoints import padding_id, window
from espnet_ctx.context.provenance import versions
from espnet_ctx.files import UserError

POOLINGS = ("tokens", "cls", "mean")
CAUSAL = ("CausalLM", "LMHeadModel")  # ends of the names of models that see only what is before a token
TOKENIZED_AT_ONCE = 1024  # texts


class TextEncoder:
    """Any encoder that transformers can load, in float32, on the GPU if there is one.

    Of an encoder-decoder the encoder is taken; of a causal language model, such as the LLM itself, the hidden
    states of its last layer.

    Args:
        folder: a model's folder in the Hugging Face layout. Code in it is never run.
        pooling: `tokens` keeps every token (special ones included), `cls` the first one, `mean` their mean,
            which is scaled to length 1 when sentence-transformers' modules.json in the folder says so.
        max_tokens: longer texts lose their beginning: what was said last is kept.

    Raises:
        UserError: unknown pooling, `max_tokens` out of range, or files that cannot be loaded.
    """

    def __init__(self, folder: Path, pooling: str, max_tokens: int):
        if pooling not in POOLINGS:
            raise UserError(f"--pooling is '{pooling}': must be one of {', '.join(POOLINGS)}")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left", trust_remote_code=False)
            model = AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
        except (OSError, ValueError) as e:
            raise UserError(f"cannot load a text encoder from {folder}: {e}") from e
        if pooling == "cls" and any(name.endswith(CAUSAL) for name in model.config.architectures or []):
            raise UserError("--pooling cls takes the first token, and this model reads from left to right: use mean or tokens")
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self.model = model.to(self.device).eval()
        limit = window(model.config, self.tokenizer)
        if max_tokens < 1 or (limit is not None and max_tokens > limit):
            raise UserError(f"--max_tokens is {max_tokens}: must be 1 to {limit or 'any number'} for this text encoder")
        self.pooling, self.max_tokens = pooling, max_tokens
        self.normalize = pooling == "mean" and _says_normalize(folder / "modules.json")
        self.pad_id = padding_id(self.tokenizer)
        self.dim: int = model.config.get_text_config().hidden_size

    def encode(self, texts: Sequence[str], batch_size: int, progress: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        """Embed texts in batches of similar length, the longest first.

        Args:
            texts: what to embed, each once.
            batch_size: texts per batch; what comes out does not depend on it.
            progress: show a progress bar.

        Yields:
            A text and its embedding `(L, d)` float32; L is 1 for the poolings `cls` and `mean`, and for a
            text without tokens, whose row is zero.
        """
        if not texts:
            return
        ids = self._tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: (-len(ids[i]), texts[i]))
        with tqdm(total=len(texts), desc=f"embed ({self.pooling})", unit="text", disable=not progress) as bar:
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                rows = self._embed([list(ids[i]) or [self.pad_id] for i in batch])
                for i, row in zip(batch, rows, strict=True):
                    yield texts[i], row if len(ids[i]) else np.zeros((1, self.dim), np.float32)
                bar.update(len(batch))

    def made_with(self) -> dict[str, str]:
        """Device and versions, for the record."""
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {"device": device, **versions("espnet_ctx", "torch", "transformers")}

    def _tokenize(self, texts: Sequence[str]) -> list[array]:
        """Token ids of each text; in portions, for a tokenizer's own output takes kilobytes a text."""
        ids: list[array] = []
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            portion = list(texts[start : start + TOKENIZED_AT_ONCE])
            rows = self.tokenizer(portion, truncation=True, max_length=self.max_tokens)["input_ids"]
            ids.extend(array("i", row) for row in rows)
        return ids

    @torch.inference_mode()
    def _embed(self, ids: list[list[int]]) -> list[np.ndarray]:
        """Token ids of a batch, none of them empty -> one embedding (L, d) each."""
        longest = max(map(len, ids))
        padded = torch.tensor([row + [self.pad_id] * (longest - len(row)) for row in ids], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=self.device)
        states = self.model(input_ids=padded, attention_mask=mask).last_hidden_state  # (B, L, d)
        if self.pooling == "tokens":
            return [state[: len(row)].cpu().numpy() for state, row in zip(states, ids, strict=True)]
        if self.pooling == "cls":
            pooled = states[:, :1]
        else:
            weights = mask[:, :, None].to(states.dtype)
            pooled = (states * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
            if self.normalize:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return list(pooled.cpu().numpy())


def _says_normalize(modules_json: Path) -> bool:
    """Whether sentence-transformers ends this model with a Normalize module."""
    if not modules_json.is_file():
        return False
    return any(module["type"].endswith(".Normalize") for module in json.loads(modules_json.read_text(encoding="utf-8")))

"""The `transformers` backend: causal language models of the Hugging Face hub, run on this machine."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
)

from espnet_ctx.context.checkpoints import padding_id, window
from espnet_ctx.context.llm import LLM, Decoding
from espnet_ctx.context.prompts import Form, Prompt
from espnet_ctx.context.provenance import versions
from espnet_ctx.files import UserError


class TransformersLLM(LLM):
    """Any causal language model that transformers can load; bfloat16 on a GPU, float32 on the CPU.

    A greedy answer does not depend on the other requests of its batch beyond the rounding of the arithmetic.

    Args:
        folder: a model's folder in the Hugging Face layout. Code in it is never run.
    """

    def __init__(self, folder: Path):
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        dtype = torch.bfloat16 if gpu else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
        self.model.to(self.device).eval()
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = self.tokenizer.eos_token_id
        self.eos_ids: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self.pad_id = padding_id(self.tokenizer)
        self.window = window(self.model.config, self.tokenizer)

    def answer(self, prompt: Prompt, previous: Sequence[str], decoding: Decoding) -> list[str]:
        form = prompt.instruct if self.tokenizer.chat_template else prompt.base
        rows = [self._fit(form, text, decoding.max_new_tokens) for text in previous]
        longest = max(map(len, rows))
        ids = torch.tensor([[self.pad_id] * (longest - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.device)
        torch.manual_seed(decoding.seed)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._generation_config(decoding),
                stopping_criteria=[lambda so_far, scores: self._stopped(so_far[:, longest:], form.stop)],
            )
        return [_until_stop(text, form.stop) for text in self._decode(output[:, longest:])]

    def made_with(self) -> dict[str, str]:
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {
            "device": device,
            "dtype": str(self.model.dtype),
            **versions("espnet_ctx", "torch", "transformers"),
        }

    def _tokenize(self, form: Form, previous: str) -> list[int]:
        text = form.render(previous)
        if self.tokenizer.chat_template:
            turn = [{"role": "user", "content": text}]
            text = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        # a chat template writes the special tokens itself
        return self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]

    def _fit(self, form: Form, previous: str, max_new_tokens: int) -> list[int]:
        """Token ids of the prompt with as many of the last previous words as the window holds."""
        ids = self._tokenize(form, previous)
        if self.window is None or len(ids) + max_new_tokens <= self.window:
            return ids
        starts = [i for i, c in enumerate(previous) if not c.isspace() and (i == 0 or previous[i - 1].isspace())]
        few, many = len(starts), 0  # words to drop: enough, too few
        if len(self._tokenize(form, "")) + max_new_tokens > self.window:
            raise UserError(
                f"the prompt and an answer of {max_new_tokens} tokens do not fit the model's window of "
                f"{self.window} tokens: lower --max_new_tokens or shorten the prompt"
            )
        while few - many > 1:
            middle = (few + many) // 2
            if len(self._tokenize(form, previous[starts[middle] :])) + max_new_tokens <= self.window:
                few = middle
            else:
                many = middle
        return self._tokenize(form, previous[starts[few] :] if few < len(starts) else "")

    def _generation_config(self, decoding: Decoding) -> GenerationConfig:
        """Only what `decoding` says: sampling, beams and penalties that a checkpoint recommends are not
        used."""
        sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=decoding.temperature > 0,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=self.eos_ids or None,
            pad_token_id=self.pad_id,
            **(sampling if decoding.temperature else {}),
        )
        self.model.generation_config = config
        return config

    def _decode(self, ids: torch.Tensor) -> list[str]:
        return [self.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in ids]

    def _stopped(self, ids: torch.Tensor, stop: Sequence[str]) -> torch.Tensor:
        """Which rows of generated ids (B, L) contain a stop text after their first word: bool (B,)."""
        return torch.tensor([_find_stop(t, stop) is not None for t in self._decode(ids)], device=self.device)


def _find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop text begins; one before the answer's first word does not count."""
    begin = len(text) - len(text.lstrip())
    found = [i for i in (text.find(s, begin) for s in stop) if i >= 0]
    return min(found, default=None)


def _until_stop(text: str, stop: Sequence[str]) -> str:
    return text[: _find_stop(text, stop)]

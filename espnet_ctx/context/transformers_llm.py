"""The `transformers` backend: causal language models of the Hugging Face hub, run on this machine."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from espnet_ctx.context.checkpoints import padding_id
from espnet_ctx.context.llm import LLM, Answer, Decoding, find_stop, until_stop
from espnet_ctx.context.prompt_tokenizer import PromptTokenizer
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import versions
from espnet_ctx.files import UserError

QUANTIZATIONS = {
    "8bit": {"load_in_8bit": True},
    "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
}
CACHES = ("dynamic", "static")


class TransformersLLM(LLM):
    """Any causal language model that transformers can load; bfloat16 on a GPU, float32 on the CPU.

    Answers do not depend on the other requests of a batch beyond the rounding of the arithmetic.

    Args:
        model: its folder in the Hugging Face layout. Code in it is never run.
        batch_size: requests that are answered together, at most.
        batch_tokens: tokens that they read and write together, about: the first request of a batch, the longest as
            a rule, decides how many there are.
        cache: of keys and values: `dynamic`, or `static`, allocated once for `batch_size` requests whatever their
            length, for which transformers compiles the model on a GPU (worth it for large corpora).
        quantization: `8bit` or `4bit`, by bitsandbytes; None: none.
    """

    def __init__(
        self, model: str, batch_size: int = 64, batch_tokens: int = 16384, cache: str = "dynamic",
        quantization: str | None = None,
    ):  # fmt: skip
        if cache not in CACHES:
            raise UserError(f"--llm_conf cache={cache}: must be one of {', '.join(CACHES)}")
        if quantization not in (None, *QUANTIZATIONS):
            raise UserError(f"--llm_conf quantization={quantization}: must be one of {', '.join(QUANTIZATIONS)}")
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.batch_size, self.batch_tokens, self.cache = batch_size, batch_tokens, cache
        self.prompts = PromptTokenizer(model)
        options = {"dtype": torch.bfloat16 if gpu else torch.float32, "trust_remote_code": False}
        if quantization:
            options["quantization_config"] = BitsAndBytesConfig(**QUANTIZATIONS[quantization])
        if torch.cuda.device_count() > 1:
            options["device_map"] = "auto"  # over all GPUs
        self.model = AutoModelForCausalLM.from_pretrained(model, **options).eval()
        if "device_map" not in options and not quantization:
            self.model.to(self.device)
        tokenizer = self.prompts.tokenizer
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = tokenizer.eos_token_id
        self.eos_ids: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self.pad_id = padding_id(tokenizer)

    def answer(self, prompt: Prompt, previous: Iterable[str], decoding: Decoding) -> Iterator[list[tuple[str, Answer]]]:
        for batch in self._batches(prompt, previous, decoding):
            try:
                yield list(zip(batch, self._answer(prompt, batch, decoding), strict=True))
            except torch.OutOfMemoryError as e:
                raise UserError(f"no memory for {len(batch)} requests at once: lower --batch_size ({e})") from e

    def made_with(self) -> dict[str, str]:
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {
            "device": device,
            "dtype": str(self.model.dtype),
            **versions("espnet_ctx", "torch", "transformers"),
        }

    def _batches(self, prompt: Prompt, previous: Iterable[str], decoding: Decoding) -> Iterator[dict[str, list[int]]]:
        """Requests with their token ids."""
        encoded = ((text, self.prompts.encode(prompt, text, decoding.max_new_tokens)) for text in previous)
        for text, row in encoded:
            number = self.batch_size
            if self.cache == "dynamic":
                number = min(number, self.batch_tokens // (len(row) + decoding.max_new_tokens))
            yield {text: row, **dict(islice(encoded, max(0, number - 1)))}

    @torch.inference_mode()
    def _answer(self, prompt: Prompt, batch: Mapping[str, list[int]], decoding: Decoding) -> list[Answer]:
        stop = self.prompts.form(prompt).stop
        rows = list(batch.values())
        longest = max(map(len, rows))
        ids = torch.tensor([[self.pad_id] * (longest - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.device)
        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=self.eos_ids or None,
            pad_token_id=self.pad_id,
            cache_implementation="static" if self.cache == "static" else None,
        )
        # only what `decoding` says: sampling, beams and penalties that a checkpoint recommends are not used
        self.model.generation_config = config
        stopped = torch.zeros(len(rows), dtype=torch.bool, device=self.device)

        def has_stopped(so_far: torch.Tensor, scores) -> torch.Tensor:
            """Which rows contain a stop text; those that did need not be looked at again."""
            for i in (~stopped).nonzero().flatten().tolist():
                stopped[i] = find_stop(self.prompts.decode(so_far[i, longest:]), stop) is not None
            return stopped

        output = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            stopping_criteria=[has_stopped] if stop else None,
            logits_processor=LogitsProcessorList([_Sampling(list(batch), decoding)] if decoding.temperature else []),
        )[:, longest:].cpu()
        return [self._read(row, len(asked), stop) for row, asked in zip(output, rows, strict=True)]

    def _read(self, ids: torch.Tensor, tokens_in: int, stop: Sequence[str]) -> Answer:
        """One row of generated ids (L,), padded after its end."""
        ends = torch.isin(ids, torch.tensor(self.eos_ids, dtype=ids.dtype)).nonzero()
        text = self.prompts.decode(ids)
        answered = until_stop(text, stop)
        tokens_out = int(ends[0]) + 1 if len(ends) else len(ids)
        return Answer(answered, not len(ends) and answered == text, tokens_in, tokens_out)


class _Sampling(LogitsProcessor):
    """Makes greedy search draw samples: the largest of log-probability plus Gumbel noise is a sample.

    Each row has a random generator of its own, so that what is drawn does not depend on the batch.
    """

    def __init__(self, previous: Sequence[str], decoding: Decoding):
        self._generators = [torch.Generator().manual_seed(decoding.seed_of(text)) for text in previous]
        self._warpers = [TemperatureLogitsWarper(decoding.temperature)]
        if decoding.top_p < 1:
            self._warpers.append(TopPLogitsWarper(decoding.top_p))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self._generators])
        return scores.float() - torch.log(-torch.log(uniform)).to(scores.device)

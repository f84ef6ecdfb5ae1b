"""The `vllm` backend: vLLM's offline engine, for large models on GPUs (`pip install 'espnet_ctx[vllm]'`)."""

from collections.abc import Iterable, Iterator
from itertools import islice

from espnet_ctx.context.llm import LLM, Answer, Decoding, until_stop
from espnet_ctx.context.prompt_tokenizer import PromptTokenizer
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import versions
from espnet_ctx.files import UserError

CALLS_AT_ONCE = 4  # times batch_size: enough to keep the engine full until the last ones


class VllmLLM(LLM):
    """Any causal language model that vLLM can load.

    A stop text ends an answer even before its first word, which then is empty.

    Args:
        model: its folder in the Hugging Face layout. Code in it is never run.
        batch_size: requests that the engine works on at a time.
        tensor_parallel_size: GPUs that share the model.
        quantization: as vLLM names it (`awq`, `gptq`, `fp8`, `bitsandbytes`, ...); None: the checkpoint's.
        gpu_memory_utilization: share of the GPU's memory to use.
        max_model_len: window in tokens; None: the model's.
    """

    def __init__(
        self, model: str, batch_size: int = 256, tensor_parallel_size: int = 1, quantization: str | None = None,
        gpu_memory_utilization: float = 0.9, max_model_len: int | None = None,
    ):  # fmt: skip
        try:
            import vllm
        except ImportError as e:
            raise UserError(f"--llm_backend vllm needs the package vllm: pip install 'espnet_ctx[vllm]' ({e})") from e
        self.prompts = PromptTokenizer(model)
        if max_model_len is not None:
            self.prompts.window = max_model_len
        self.batch_size = batch_size
        self._sampling_params = vllm.SamplingParams
        self.engine = vllm.LLM(
            model=str(model),
            tensor_parallel_size=tensor_parallel_size,
            quantization=quantization,
            gpu_memory_utilization=gpu_memory_utilization,
            max_model_len=max_model_len,
            max_num_seqs=batch_size,
            enable_prefix_caching=True,  # all requests begin with the same examples
            trust_remote_code=False,
        )

    def answer(self, prompt: Prompt, previous: Iterable[str], decoding: Decoding) -> Iterator[list[tuple[str, Answer]]]:
        stop = list(self.prompts.form(prompt).stop)
        requests = iter(previous)
        while chunk := list(islice(requests, CALLS_AT_ONCE * self.batch_size)):
            rows = [{"prompt_token_ids": self.prompts.encode(prompt, text, decoding.max_new_tokens)} for text in chunk]
            params = [self._params(stop, text, decoding) for text in chunk]
            outputs = self.engine.generate(rows, params, use_tqdm=False)
            yield [(text, self._read(output, stop)) for text, output in zip(chunk, outputs, strict=True)]

    def made_with(self) -> dict[str, str]:
        return {"device": "cuda", **versions("espnet_ctx", "vllm", "torch", "transformers")}

    def _params(self, stop: list[str], previous: str, decoding: Decoding):
        return self._sampling_params(
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=decoding.seed_of(previous) if decoding.temperature else None,
            stop=stop or None,
        )

    def _read(self, output, stop: list[str]) -> Answer:
        said = output.outputs[0]
        truncated = said.finish_reason == "length"
        return Answer(until_stop(said.text, stop), truncated, len(output.prompt_token_ids), len(said.token_ids))

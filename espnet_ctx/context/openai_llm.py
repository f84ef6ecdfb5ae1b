"""The `openai` backend: any server with OpenAI's HTTP interface (vLLM, llama.cpp, Ollama, `transformers serve`, ...)."""

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from espnet_ctx.context.llm import LLM, Answer, Decoding, until_stop
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import versions
from espnet_ctx.files import UserError

KEY = "OPENAI_API_KEY"
URL = "OPENAI_BASE_URL"
APIS = {"chat": "chat/completions", "completions": "completions"}
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses of troubles that pass
LONGEST_WAIT = 60.0  # seconds


class OpenAILLM(LLM):
    """A model behind an HTTP server.

    Requests run at the same time, at most `batch_size` of them. Too many requests, errors of the server,
    timeouts and broken connections are tried again, after waits that double (or that the server asks for).
    The key is read from the environment variable OPENAI_API_KEY and goes nowhere but into the requests' header.

    Args:
        model: the name that the server knows.
        batch_size: requests in flight.
        base_url: such as `http://localhost:8000/v1`; None: the environment variable OPENAI_BASE_URL.
        api: `chat`, for models with a chat template (the prompt's instruct form), or `completions` (its base
            form with examples).
        requests_per_minute: the server's limit; None: none.
        timeout: of one try, seconds.
        tries: how often a request is sent before the run stops.
        first_wait: before the second try, seconds.
    """

    def __init__(
        self, model: str, batch_size: int = 16, base_url: str | None = None, api: str = "chat",
        requests_per_minute: float | None = None, timeout: float = 120.0, tries: int = 8, first_wait: float = 1.0,
    ):  # fmt: skip
        base_url = base_url or os.environ.get(URL)
        if not base_url or urlsplit(base_url).scheme not in ("http", "https"):
            raise UserError(
                f"--llm_backend openai needs the server's address: --llm_conf base_url=http://<host>:<port>/v1, or {URL}; "
                f"got '{base_url or ''}'"
            )
        if urlsplit(base_url).password:
            raise UserError(f"--llm_conf base_url holds a password, which logs would show: put a key into the variable {KEY}")
        if api not in APIS:
            raise UserError(f"--llm_conf api={api}: must be one of {', '.join(APIS)}")
        if requests_per_minute is not None and requests_per_minute <= 0:
            raise UserError(f"--llm_conf requests_per_minute={requests_per_minute}: must be above 0")
        if tries < 1:
            raise UserError(f"--llm_conf tries={tries}: must be at least 1")
        self.model, self.batch_size, self.api = model, batch_size, api
        self.url = f"{base_url.rstrip('/')}/{APIS[api]}"
        self.interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self.timeout, self.tries, self.first_wait = timeout, tries, first_wait
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request

    def answer(self, prompt: Prompt, previous: Iterable[str], decoding: Decoding) -> Iterator[list[tuple[str, Answer]]]:
        loop = asyncio.new_event_loop()
        finished = self._answer_all(prompt, previous, decoding)
        try:
            while True:
                try:
                    group = loop.run_until_complete(anext(finished))
                except StopAsyncIteration:
                    return
                yield group
        finally:
            loop.run_until_complete(_end(finished, asyncio.all_tasks(loop)))
            loop.close()

    def made_with(self) -> dict[str, str]:
        parts = urlsplit(self.url)
        return {"server": f"{parts.hostname}:{parts.port or parts.scheme}", "api": self.api, **versions("espnet_ctx")}

    async def _answer_all(
        self, prompt: Prompt, previous: Iterable[str], decoding: Decoding
    ) -> AsyncIterator[list[tuple[str, Answer]]]:
        requests = iter(previous)
        pace = _Pace(self.interval)
        failure: Exception | None = None
        flying: set[asyncio.Task] = set()
        headers = {"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {}
        limits = httpx.Limits(max_connections=self.batch_size)
        # proxies of the environment are not for a server that one has named
        async with httpx.AsyncClient(headers=headers, timeout=self.timeout, limits=limits, trust_env=False) as client:
            try:
                while True:
                    while failure is None and len(flying) < self.batch_size:
                        text = next(requests, None)
                        if text is None:
                            break
                        flying.add(asyncio.ensure_future(self._answer_one(client, pace, prompt, text, decoding)))
                    if not flying:
                        break
                    landed, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                    failure = failure or next((e for e in (task.exception() for task in landed) if e), None)
                    if group := [task.result() for task in landed if not task.exception()]:
                        yield group
            finally:
                await _cancel(flying)
        if failure is not None:  # after everything that was under way has been kept
            raise failure

    async def _answer_one(
        self, client: httpx.AsyncClient, pace: "_Pace", prompt: Prompt, previous: str, decoding: Decoding
    ) -> tuple[str, Answer]:
        form = prompt.instruct if self.api == "chat" else prompt.base
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
        }
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": form.render(previous)}]
        else:
            body["prompt"] = form.render(previous, prompt.examples)
        if form.stop:
            body["stop"] = list(form.stop)
        if decoding.temperature:
            body.update(top_p=decoding.top_p, seed=decoding.seed_of(previous))
        reply = await self._send(client, pace, body)
        try:
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            text = choice["message"]["content"] if self.api == "chat" else choice["text"]
            truncated = choice.get("finish_reason") == "length"
            tokens = [int(usage.get(key) or 0) for key in ("prompt_tokens", "completion_tokens")]
            return previous, Answer(until_stop(text or "", form.stop), truncated, *tokens)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise UserError(f"{self.url} sent no answer in the form of {APIS[self.api]}: {str(reply)[:300]}") from None

    async def _send(self, client: httpx.AsyncClient, pace: "_Pace", body: dict[str, Any]) -> Any:
        """Post until there is an answer."""
        for number in range(1, self.tries + 1):
            await pace.wait()
            asked_for = None
            try:
                response = await client.post(self.url, json=body)
                if response.status_code == 200:
                    return response.json()
                trouble = f"status {response.status_code}: {_without_key(response.text)[:300]}"
                if response.status_code not in AGAIN:
                    raise UserError(f"{self.url} refuses: {trouble}. {_advice(response.status_code)}")
                asked_for = _seconds(response.headers.get("Retry-After"))
            except httpx.TransportError as e:  # timeouts and disconnections
                trouble = f"{type(e).__name__} {e}".strip()
            except UnicodeDecodeError as e:
                trouble = f"not UTF-8: {e}"
            except UserError:
                raise
            except ValueError as e:
                trouble = f"not JSON: {e}"
            if number < self.tries:
                # a random part, so that requests that failed together do not come back together
                wait = asked_for if asked_for is not None else self.first_wait * 2 ** (number - 1) * random.uniform(0.5, 1)
                wait = min(wait, LONGEST_WAIT)
                logging.warning(f"{self.url}: {trouble}; try {number} of {self.tries}, the next in {wait:.1f} s")
                await asyncio.sleep(wait)
        raise UserError(f"{self.url} gave no answer in {self.tries} tries, the last: {trouble}. What was finished is kept.")


async def _cancel(tasks: Iterable[asyncio.Task]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _end(finished: AsyncIterator, tasks: Iterable[asyncio.Task]) -> None:
    """What is still under way, should the caller have been interrupted or have had enough."""
    await _cancel(tasks)
    await finished.aclose()


class _Pace:
    """Spaces requests evenly, `interval` seconds apart."""

    def __init__(self, interval: float):
        self._interval, self._next = interval, 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._interval
        if at > now:
            await asyncio.sleep(at - now)


def _advice(status: int) -> str:
    if status in (401, 403):
        return f"Put the key into the environment variable {KEY}."
    if status == 404:
        return "Check --llm, the name of the model on the server, and the address, which usually ends in /v1."
    return (
        "Should the input be too long, lower --max_prev_tokens or --max_new_tokens; a model without a chat template needs "
        "--llm_conf api=completions."
    )


def _without_key(text: str) -> str:
    """What a server says of a wrong key may hold it."""
    return text.replace(os.environ[KEY], "***") if os.environ.get(KEY) else text


def _seconds(retry_after: str | None) -> float | None:
    """The header's seconds; a date, its other form, is not looked at."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None

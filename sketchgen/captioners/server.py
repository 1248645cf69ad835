"""Models behind an OpenAI-compatible server (vLLM, and others): chat completions, pictures as data URLs."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from sketchgen.captioner import CaptionerConfig, Failure, Request

PROBE_SECONDS = 10.0
"""A server that is there lists its models at once."""


class ServerCaptioner:
    """Sends `config.concurrency` requests at once; the client waits and tries again where the server says so."""

    def __init__(self, config: CaptionerConfig, schema: dict[str, Any]) -> None:
        """schema: JSON schema of the answers, asked for where `config.structured`."""
        self._config = config
        self._client = connect(config, "captioner")
        self._pool = ThreadPoolExecutor(config.concurrency)
        self._options: dict[str, Any] = {}
        if config.structured:
            wanted = {"name": "description", "schema": schema, "strict": True}
            self._options["response_format"] = {"type": "json_schema", "json_schema": wanted}
        self._lock = Lock()
        self._in_a_row = 0
        self._last = Failure("", "")
        self._is_down = False  # until a probe says otherwise: an answer that comes late takes nothing back

    def answer(self, requests: Sequence[Request]) -> list[str | Failure]:
        """See `sketchgen.captioner.Captioner`."""
        answers = list(self._pool.map(self._ask, requests))
        if self._is_down:
            raise ConnectionError(self._complaint(f"{self._config.patience} requests in a row failed"))
        return answers

    def check(self) -> None:
        """See `sketchgen.captioner.Captioner`. A server that is there is trusted again."""
        if not self._in_a_row:
            return
        try:
            probe(self._client)
        except ConnectionError as error:
            raise ConnectionError(self._complaint(str(error))) from None
        self._in_a_row, self._is_down = 0, False

    def _complaint(self, what: str) -> str:
        return (
            f"{self._config.model} at {self._config.base_url}: {what} (the last: {self._last.reason}, "
            f"{self._last.detail}); see to the server and run the same command again: finished shards are kept"
        )

    def _ask(self, request: Request) -> str | Failure:
        if self._is_down:
            return self._last  # the shard is given up: no need to wait for each
        answer = self._complete(request)
        with self._lock:
            if isinstance(answer, Failure):
                self._last = answer
                self._in_a_row += 1
                self._is_down |= self._in_a_row >= self._config.patience
            elif not self._is_down:
                self._in_a_row = 0
        return answer

    def _complete(self, request: Request) -> str | Failure:
        import openai

        try:
            completion = self._client.chat.completions.create(
                model=self._config.model,
                messages=[{"role": "user", "content": content_of(request)}],
                max_tokens=self._config.max_tokens,
                temperature=0,
                seed=0,
                **self._options,
            )
            return str(completion.choices[0].message.content or "")
        except openai.APIError as error:
            return failure_of(error, self._config)
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # 200, and something else in it
            return Failure("server-error", f"no chat completion came back ({type(error).__name__}: {error})"[:200])


def content_of(request: Request) -> str | list[dict[str, Any]]:
    """The message: text, after the picture where there is one."""
    if not request.image:
        return request.prompt
    url = f"data:image/jpeg;base64,{b64encode(request.image).decode()}"
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": request.prompt}]


def failure_of(error: Any, config: CaptionerConfig) -> Failure:
    """What became of a request for which the client gave up. error: an `openai.APIError`."""
    import openai

    tries = f"(tries: {config.retries + 1})"
    if isinstance(error, openai.APITimeoutError):
        return Failure("time-out", f"no answer within {config.timeout:g} s {tries}")
    if isinstance(error, openai.APIConnectionError):
        return Failure("no-connection", f"{error.__cause__ or error} {tries}"[:200])
    status = getattr(error, "status_code", 0)
    text = said(error)
    if status == 429:
        return Failure("rate-limit", text)
    if status >= 500:
        return Failure("server-error", text)
    return Failure("request-refused" if status else "server-error", text)


def said(error: Any) -> str:
    """`503: loading`. error: an `openai.APIError`, maybe without a status."""
    status = getattr(error, "status_code", 0)
    return f"{status}: {error.message.removeprefix(f'Error code: {status} - ')}"[:200]


def connect(config: CaptionerConfig, name: str) -> Any:
    """The client of a server. Raises ValueError without the package."""
    try:
        import openai
    except ImportError:
        raise ValueError(
            f"--{name}.backend server needs the package openai: pip install -c constraints.txt 'sketchlm[caption]'"
        ) from None
    return openai.OpenAI(
        base_url=config.base_url,
        api_key=os.environ.get(config.key) or "none",  # servers of one's own want none, the client wants some
        timeout=openai.Timeout(config.timeout, connect=min(config.timeout, PROBE_SECONDS)),
        max_retries=config.retries,
    )


def probe(client: Any) -> list[str]:
    """Names of the models that a server has; [] where it does not list them. Raises ConnectionError without one."""
    import openai

    try:
        return [model.id for model in client.with_options(timeout=PROBE_SECONDS, max_retries=1).models.list()]
    except openai.NotFoundError:
        return []  # it is there, and lists nothing
    except openai.APIConnectionError as error:
        raise ConnectionError(f"no server answers ({error.__cause__ or error})") from None
    except openai.APIStatusError as error:
        raise ConnectionError(f"the server refuses: {said(error)}") from None
    except (openai.APIError, AttributeError, TypeError, ValueError):
        raise ConnectionError("what answers is no OpenAI-compatible server") from None


def check_server(config: CaptionerConfig, name: str) -> None:
    """Raises ValueError, with the remedy, where no server answers, it wants a key, or has not got the model."""
    try:
        models = probe(connect(config, name))
    except ConnectionError as error:
        raise ValueError(
            f"{name}: {config.base_url}: {error}; start one there (`vllm serve {config.model}`, say: it must be up), "
            f"or name another with --{name}.base-url. A key that it wants is read from the environment ({config.key})"
        ) from None
    if models and config.model not in models:
        raise ValueError(
            f"{name}: {config.base_url} has no model {config.model!r}; it has {', '.join(models[:5])}: "
            f"name one with --{name}.model"
        )

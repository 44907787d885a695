"""What answers a prompt: a local model in batches, or any service that speaks OpenAI's chat protocol."""

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from ftkit import console
from ftkit.errors import UserError

ANSWER_SECONDS = 120.0
ALIVE_SECONDS = 8.0
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 60.0
TRIES = 5  # 7.5 seconds of waiting in all, or as the service's Retry-After says
CONNECTION_TRIES = 3  # of a service that is not there or does not answer
RETRIED = {408, 409, 425, 429}  # and every 5xx
HINTS = {
    401: "set OPENAI_API_KEY to a valid key",
    403: "set OPENAI_API_KEY to a key that may use this model",
    404: "check --endpoint (it mostly ends in /v1) and --endpoint-model",
    429: "wait, or raise the limit of your key",
}


@dataclass(frozen=True)
class Answer:
    """A model's answer; `cut` says that it ended for lack of tokens."""

    text: str
    cut: bool


class Generator(Protocol):
    """Answers prompts. With the same prompts and seeds, a deterministic one gives the same answers."""

    name: str

    def fits(self, prompt: str) -> bool:
        """Whether the model has room for the prompt and an answer."""

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Answer]:
        """One answer a prompt, in their order.

        Raises:
            UserError: there is no answer to be had.
        """


class LocalGenerator:
    """A causal language model, sampled in one batch that is padded on the left.

    Args:
        model: a transformers model that generates.
        tokenizer: its tokenizer, with a pad token; its chat template is used where it has one.
        temperature: 0 takes the likeliest token each time.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, temperature: float, max_new_tokens: int) -> None:
        from ftkit.models.architecture import named_positions  # it brings torch, which an endpoint does not need

        self.name = name
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        self._positions = named_positions(model.config) or 10**9  # some have no limit
        self._max_new_tokens = min(max_new_tokens, self._positions // 2)
        configured = model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self._ends = sorted({end for end in [*ends, tokenizer.eos_token_id] if end is not None})

    def fits(self, prompt: str) -> bool:
        return len(self._encode(prompt)) + self._max_new_tokens <= self._positions

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Answer]:
        import torch  # here, since an endpoint needs none of it

        from ftkit.compat import without_router_loss

        encoded = [self._encode(prompt) for prompt in prompts]
        width = max(map(len, encoded))
        blanks = [width - len(ids) for ids in encoded]
        pad = self._tokenizer.pad_token_id or 0
        device = self._model.device
        torch.manual_seed(seeds[0])
        with torch.inference_mode(), without_router_loss(self._model):
            output = self._model.generate(
                input_ids=torch.tensor([[pad] * n + ids for n, ids in zip(blanks, encoded, strict=True)], device=device),
                attention_mask=torch.tensor(
                    [[0] * n + [1] * len(ids) for n, ids in zip(blanks, encoded, strict=True)], device=device
                ),
                max_new_tokens=self._max_new_tokens, pad_token_id=pad, eos_token_id=self._ends or None, **self._sampling,
            )  # fmt: skip
        return [self._answer(ids) for ids in output[:, width:].tolist()]

    def _encode(self, prompt: str) -> list[int]:
        if not self._tokenizer.chat_template:
            ids: list[int] = self._tokenizer(prompt)["input_ids"]
            return ids[:-1] if ids and ids[-1] in self._ends else ids  # some tokenizers close every text
        from ftkit.data.bounds import render_chat_template  # it brings transformers

        messages = [{"role": "user", "content": prompt}]
        text = render_chat_template(self._tokenizer, messages, add_generation_prompt=True)
        chat: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return chat

    def _answer(self, ids: list[int]) -> Answer:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        return Answer(self._tokenizer.decode(ids[:end], skip_special_tokens=True), cut=end is None)


class EndpointGenerator:
    """A service with OpenAI's /v1/chat/completions, asked for the prompts of a round at the same time.

    The key is taken from OPENAI_API_KEY, proxies from the usual variables. Rate limits (429), faults of the service (5xx),
    timeouts and lost connections are tried again, after twice the time each time.
    """

    def __init__(
        self, url: str, model: str, *, temperature: float, max_new_tokens: int, first_delay: float = FIRST_DELAY_SECONDS
    ) -> None:
        self.name = model
        self.url = chat_url(url)
        self._body = {"model": model, "temperature": temperature, "max_tokens": max_new_tokens}
        self._first_delay = first_delay
        self._opener = urllib.request.build_opener(_NoRedirect)

    def fits(self, prompt: str) -> bool:
        """Always: the service does not say how much it takes, and refuses what is too long."""
        return True

    def require_alive(self) -> None:
        """Raises UserError within seconds where nothing answers at the address; any answer will do."""
        request = urllib.request.Request(self.url.replace("/chat/completions", "/models"), headers=self._headers())
        try:
            self._opener.open(request, timeout=ALIVE_SECONDS).close()
        except urllib.error.HTTPError:
            return
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(_reason(error), "start the service, or check --endpoint") from None

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Answer]:
        return _in_parallel([lambda p=p, s=s: self._ask(p, s) for p, s in zip(prompts, seeds, strict=True)])  # type: ignore[misc]

    def _headers(self) -> dict[str, str]:
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        headers = {"Content-Type": "application/json", "User-Agent": "ftkit"}
        return headers | ({"Authorization": f"Bearer {key}"} if key else {})

    def _ask(self, prompt: str, seed: int) -> Answer:
        body = self._body | {"messages": [{"role": "user", "content": prompt}], "seed": seed}
        data = json.dumps(body).encode()
        delay, tries = self._first_delay, 0
        while True:
            tries += 1
            request = urllib.request.Request(self.url, data=data, headers=self._headers(), method="POST")
            try:
                with self._opener.open(request, timeout=ANSWER_SECONDS) as response:
                    return self._read(response.read())
            except urllib.error.HTTPError as error:
                what, wait = f"HTTP {error.code}{_said(error)}", max(delay, _retry_after(error))
                hint = HINTS.get(error.code, "look at the service's log, or check --endpoint")
                again = error.code in RETRIED or error.code >= 500
            except (OSError, http.client.HTTPException) as error:
                what, wait, hint = _reason(error), delay, "start the service, or check --endpoint"
                again = tries < CONNECTION_TRIES
            if not again or tries == TRIES:
                raise self._failure(f"{what}{f', {tries} times' if tries > 1 else ''}", hint)
            console.say(f"{self.url}: {what}; trying again in {wait:g} s")
            time.sleep(wait)
            delay *= 2

    def _read(self, data: bytes) -> Answer:
        try:
            choice = json.loads(data)["choices"][0]
            return Answer(str(choice["message"]["content"] or ""), cut=choice.get("finish_reason") == "length")
        except (ValueError, LookupError, TypeError, AttributeError):
            shown = " ".join(data[:80].decode(errors="replace").split())
            hint = "it needs to speak OpenAI's chat protocol; check --endpoint"
            raise self._failure(f"answered what is no chat completion: '{shown}'", hint) from None

    def _failure(self, what: str, hint: str) -> UserError:
        return UserError(what, hint, self.url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the key would go along to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def chat_url(url: str) -> str:
    """The address of chat completions, from one that names the host, ends in /v1, or is whole.

    Raises:
        UserError: it is no http address, or holds a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"'{url}' is no address", "as http://localhost:8000/v1", "--endpoint")
    if "@" in parts.netloc:
        message = "the address holds a name or password, which would stand in the history of the shell"
        raise UserError(message, "leave it out; the key is taken from OPENAI_API_KEY", "--endpoint")
    whole = url.rstrip("/")
    if whole.endswith("/chat/completions"):
        return whole
    return f"{whole}{'' if parts.path.strip('/') else '/v1'}/chat/completions"


def _in_parallel(tasks: list[Callable[[], Answer]]) -> list[Answer]:
    """The tasks' results in order. The threads are daemons, so that Ctrl-C does not wait for a slow answer."""
    results: dict[int, Answer] = {}
    errors: list[Exception] = []

    def run(place: int, task: Callable[[], Answer]) -> None:
        try:
            results[place] = task()
        except Exception as error:  # carried over to the main thread, which raises it
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(tasks))]


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds that the service asks to wait; it may also name a date, which is passed over."""
    try:
        return min(max(float(error.headers.get("Retry-After", "0")), 0.0), LONGEST_DELAY_SECONDS)
    except ValueError:
        return 0.0


def _said(error: urllib.error.HTTPError) -> str:
    """What the service says of its refusal, on one line."""
    try:
        body = error.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    shown = " ".join(_message(body).split())[:160]
    return f" ({shown})" if shown else ""


def _message(body: str) -> str:
    """The message in the JSON of a refusal; of one of another form all that it says."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    error = value.get("error") if isinstance(value, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    return body if said is None else str(said)


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, http.client.HTTPException | ConnectionError):
        return "the service hung up"
    return str(getattr(cause, "strerror", None) or cause)  # URLError's reason is an OSError or a text

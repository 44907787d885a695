"""huggingface_hub's way to the hub, with an end to waiting: what does not answer is given up after seconds, not minutes.

Timeouts of the library are of 10 s and tried six times, with pauses between that grow, and a Retry-After of an hour is slept
through in silence. Proxies, certificates and the endpoint are the library's own affair, as it reads them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import _http

if TYPE_CHECKING:
    import httpx2 as httpx
else:  # huggingface_hub before 2 stands on the former
    httpx = getattr(_http, "httpx", None) or _http.httpx2

PATIENCE = 5.0  # seconds without a word, unless HF_HUB_DOWNLOAD_TIMEOUT says another number
FAR = 2**20  # bytes from which on a download that breaks off is resumed, as the library does, and not given up
WAITED_FOR = {408, 429, 500, 502, 503, 504}  # statuses for which the library waits and asks again
ASKING = {"GET", "HEAD"}
TransportError, Timeout = httpx.TransportError, httpx.TimeoutException


class NoAnswer(OSError):
    """The hub, or a proxy that leads to it, was not reached or did not answer; why is the cause."""


class NotTheHub(OSError):
    """Something else than a hub has answered, as a network's login page."""


class Client(httpx.Client):
    """The library's client; whatever it asks for, an answer or the reason why there is none comes soon."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        if request.method not in ASKING:
            return super().send(request, **options)
        shorten(request)
        try:
            response = super().send(request, **options)
        except httpx.TransportError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        if response.status_code in WAITED_FOR:
            _http.hf_raise_for_status(response)
        if "html" in response.headers.get("content-type", "") and request.url.path.startswith("/api/"):
            raise NotTheHub(f"{request.url} gives a page of HTML")
        if options.get("stream"):
            response.stream = Body(response.stream, resumed="range" in request.headers)  # type: ignore[arg-type]
        return response


class Body(httpx.SyncByteStream):
    """The bytes of an answer; one that breaks off before it came far is given up."""

    def __init__(self, stream: httpx.SyncByteStream, *, resumed: bool) -> None:
        self.stream, self.came_far = stream, resumed

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        try:
            for part in self.stream:
                received += len(part)
                yield part
        except httpx.TimeoutException as error:
            if self.came_far or received >= FAR:
                raise
            raise NoAnswer(f"{type(error).__name__} after {received:,} bytes") from error

    def close(self) -> None:
        self.stream.close()


def shorten(request: httpx.Request) -> None:
    """Let a request wait no longer than we do, unless the user has set another time."""
    if constants.HF_HUB_DOWNLOAD_TIMEOUT != constants.DEFAULT_DOWNLOAD_TIMEOUT:
        return
    given = request.extensions.get("timeout") or {}
    names = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {name: min(given.get(name) or PATIENCE, PATIENCE) for name in names}


def impatient_client() -> Client:
    """As the library makes its own."""
    hooks = {"request": [_http.hf_request_event_hook]}
    return Client(event_hooks=hooks, follow_redirects=True, timeout=None)


def use_client() -> None:
    """Let huggingface_hub and all that stand on it go by our client, but where a program has given it one of its own."""
    if _http._GLOBAL_CLIENT_FACTORY is _http.default_client_factory:
        set_client_factory(impatient_client)

"""Vectors from a service: OpenAI and those that speak like it, Ollama, Cohere. What goes over the wire is in services.py."""

from __future__ import annotations

import re
import threading
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np

from apxm.errors import ConfigError, EmbedderError, TransientError
from apxm.llm.resilience import RetryPolicy
from apxm.memory.embed.base import Fingerprint
from apxm.memory.embed.services import SERVICES, said, vectors_of
from apxm.memory.embed.texts import Manner, normalized, spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import httpx

    from apxm.memory.embed.base import Vectors

ServiceKind: TypeAlias = Literal["openai", "ollama", "cohere"]

INSTALL = "pip install 'apxm[models]'"
BODY_MAX = 64 * 1024 * 1024  # bytes of an answer: 2,048 vectors of 1,536 numbers take about 60 MB
REQUEST_CHARS = 250_000  # in one request: OpenAI takes 300,000 tokens
CHARS_MAX = 8_000  # of one text: about 2,000 tokens of English, of the 8,191 that OpenAI's models read
CHARS_LEAST = 200  # a text as short as this is not cut further when a service calls it too long
CONNECT_S = 5.0
AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504, 529))
TOO_LONG = frozenset((400, 413, 422))
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # as OpenSSL says it
_LENGTH = re.compile(r"token|length|too long|too large|context", re.I)
_SAID_MAX = 200


class HttpEmbedder:
    """Asks a service for vectors. Thread-safe; the connection is made with the first call and kept.

    `url` is where the service answers, without the path of the call: `http://127.0.0.1:8080/v1` for a server that speaks like
    OpenAI. `dimension` is asked for from the service, and checked; without it the first answer says it, which the fingerprint
    waits for. Texts are cut after `chars_max` characters; `query_prefix` and `text_prefix` are for models that want queries
    and texts marked (Cohere is told by itself). Empty texts are not sent: they are zeros, near nothing. One that the service
    calls too long is halved until it is not.

    What may pass (no connection, 429, 5xx, a time out) is tried again, `tries` times in all, with growing pauses or those that
    the service asks for; then it is a TransientError. `timeout_s` is for one try, and after `patience_s` there is no other.
    Everything else that is no answer is an EmbedderError. No redirect is followed, no proxy or password of the environment is
    used. The key is sent, and shown nowhere.
    """

    def __init__(
        self,
        kind: ServiceKind,
        *,
        model: str,
        url: str | None = None,
        api_key: str | None = None,
        dimension: int | None = None,
        batch: int = 64,
        timeout_s: float = 30.0,
        patience_s: float = 60.0,
        tries: int = 4,
        query_prefix: str = "",
        text_prefix: str = "",
        chars_max: int = CHARS_MAX,
        retry: RetryPolicy | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        if kind not in SERVICES:
            raise ConfigError(f"the kind of an HTTP embedder is {kind!r}, expected {', '.join(SERVICES)}")
        if not model.strip():
            raise ConfigError("an HTTP embedder needs a `model`")
        self._service = SERVICES[kind]
        for name, given, least, most in (
            ("batch", batch, 1, self._service.batch_max),
            ("dimension", dimension or 1, 1, 65_536),
            ("tries", tries, 1, 100),
            ("chars_max", chars_max, 1, REQUEST_CHARS),
        ):
            if not least <= given <= most:
                raise ConfigError(f"`{name}` of an embedder of kind `{kind}` is {given!r}, expected {least} to {most}")
        self._kind, self._model, self._batch = kind, model, batch
        self._tries, self._timeout_s, self._patience_s = tries, timeout_s, patience_s
        self._endpoint = _endpoint(url or self._service.url, self._service.path)
        self._who = f"the embedding service at {self._endpoint} (model `{model}`)"
        self._asked_dimension = self._dimension = dimension
        self._manner = Manner(query_prefix, text_prefix, chars_max)
        self._key = _header(api_key)
        self._retry = retry or RetryPolicy(cap_s=10.0)
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._client: httpx.Client | None = None
        self._making = threading.Lock()

    def __repr__(self) -> str:
        return f"HttpEmbedder({self._kind!r}, model={self._model!r}, url={self._endpoint!r})"

    @property
    def fingerprint(self) -> Fingerprint:
        manner = "" if self._manner == Manner("", "", CHARS_MAX) else f"+{self._manner.mark()}"
        return Fingerprint(self._kind, f"{self._model}{manner}", self._known_dimension(), normalized=True)

    def embed(self, texts: Sequence[str]) -> Vectors:
        return spoken(self._manner.texts(texts), self._known_dimension(), lambda put: self._all(put, query=False))

    def embed_query(self, text: str) -> Vectors:
        put = [self._manner.query(text)]
        vector: Vectors = spoken(put, self._known_dimension(), lambda put: self._all(put, query=True))[0]
        return vector

    def close(self) -> None:
        self._closed.set()
        with self._making:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _known_dimension(self) -> int:
        if self._dimension is None:
            self._dimension = self._vectors(["dimension"], query=False).shape[1]
        return self._dimension

    def _all(self, texts: list[str], *, query: bool) -> Vectors:
        return np.concatenate([self._vectors(batch, query=query) for batch in _batches(texts, self._batch)])

    def _vectors(self, texts: Sequence[str], *, query: bool) -> Vectors:
        asked = msgspec.json.encode(self._service.ask(self._model, texts, self._asked_dimension, query))
        try:
            body = self._answer(asked)
        except _TooLong:
            parts = _smaller(texts)
            if not parts:
                raise
            return np.concatenate([self._vectors(part, query=query) for part in parts])
        return normalized(vectors_of(self._service, body, len(texts), self._dimension, self._who), self._who)

    # ---- one request, tried again while that may help -------------------------------------------------------------------
    def _answer(self, asked: bytes) -> bytes:
        until = monotonic() + self._patience_s
        for failures in range(1, self._tries + 1):
            try:
                return self._once(asked)
            except _Later as later:
                wait_s = later.wait_s if later.wait_s is not None else self._retry.delay_s(failures)
                if failures == self._tries or monotonic() + wait_s > until:
                    asks = f", and asks to wait {wait_s:.0f} s" if later.wait_s else ""
                    times = "once" if failures == 1 else f"{failures} times"
                    raise TransientError(f"{self._who} {later.why}{asks}", hint=f"it was tried {times}") from later.cause
                self._pause(wait_s)
        raise AssertionError("the last try returns or raises")

    def _once(self, asked: bytes) -> bytes:
        client = self._connected()
        import httpx

        try:
            with client.stream("POST", self._endpoint, content=asked) as response:
                body = self._body(response)
        except httpx.TimeoutException as error:
            raise _Later(f"does not answer within {self._timeout_s:g} s", cause=error) from error
        except httpx.TransportError as error:
            if _UNTRUSTED in str(error):
                raise EmbedderError(f"{self._who} has a certificate that does not hold: {self._clean(str(error))}") from error
            raise _Later(f"cannot be reached: {self._clean(str(error) or type(error).__name__)}", cause=error) from error
        except httpx.InvalidURL as error:
            raise EmbedderError(f"{self._who} has no URL that can be asked: {self._clean(str(error))}") from error
        except RuntimeError as error:
            if self._closed.is_set():
                raise EmbedderError(f"{self!r} was closed during a call") from error
            raise
        if response.status_code == 200:
            return body
        why = f"answers {response.status_code}: {self._clean(said(body))}"
        if response.status_code in AGAIN and b"insufficient_quota" not in body:
            raise _Later(why, wait_s=_asked_to_wait(response.headers.get("retry-after")))
        kind = _TooLong if response.status_code in TOO_LONG and _LENGTH.search(said(body)) else EmbedderError
        raise kind(f"{self._who} {why}", hint=_HINTS.get(response.status_code, _hint(response.status_code)))

    def _body(self, response: httpx.Response) -> bytes:
        """What was answered, at most BODY_MAX bytes and within the time of one try."""
        until = monotonic() + self._timeout_s
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > BODY_MAX:
                raise EmbedderError(f"{self._who} answers with more than {BODY_MAX} bytes", hint="set a smaller `batch`")
            if monotonic() > until:
                raise _Later(f"does not end its answer within {self._timeout_s:g} s")
        return bytes(body)

    def _connected(self) -> httpx.Client:
        with self._making:
            if self._closed.is_set():
                raise EmbedderError(f"{self!r} is closed")
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> httpx.Client:
        try:
            import httpx
        except ImportError as error:
            raise EmbedderError("an embedding service needs httpx, which is not installed", hint=INSTALL) from error
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "apxm", **self._key}
        timeout = httpx.Timeout(self._timeout_s, connect=min(CONNECT_S, self._timeout_s))
        # Certificates take 20 ms to load, for nothing where there are none.
        encrypted = not self._endpoint.lower().startswith("http://")
        return httpx.Client(headers=headers, timeout=timeout, verify=encrypted, trust_env=False, follow_redirects=False)

    def _clean(self, text: str) -> str:
        """What a service says, as a message may repeat it: one line, cut, without the key that it may quote."""
        for value in self._key.values():
            text = text.replace(value.removeprefix("Bearer "), "***")
        line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return line if len(line) <= _SAID_MAX else f"{line[:_SAID_MAX]}…"


class _TooLong(EmbedderError):
    """The service says that a text, or all of a request, is too long for it."""


class _Later(Exception):
    """One try failed in a way that may pass; `wait_s` is what the service asked for."""

    def __init__(self, why: str, *, wait_s: float | None = None, cause: BaseException | None = None) -> None:
        super().__init__(why)
        self.why, self.wait_s, self.cause = why, wait_s, cause


_HINTS = {
    401: "check the key: `embedder_api_key`",
    403: "check the key: `embedder_api_key`",
    404: "check the URL, which needs no path of the call (servers like OpenAI: http://HOST/v1), and the name of the model",
    413: "set a smaller `batch` or `chars_max`",
}


def _hint(status: int) -> str | None:
    return "redirects are not followed; give the URL that answers itself" if 300 <= status < 400 else None


def _endpoint(url: str, path: str) -> str:
    """The URL of the call; ConfigError for one that is none, or that has a name or a key in it."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port >= 0
    except ValueError:
        port_fits = False
    if not port_fits or parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ConfigError("the URL of an embedding service is no URL", hint="such as http://127.0.0.1:11434")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("the URL of an embedding service has more than a host and a path", hint="a key goes into `api_key`")
    return url.rstrip("/") + path


def _header(api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigError("the key of an embedding service has characters that no header may carry")
    return {"authorization": f"Bearer {api_key}"}


def _batches(texts: list[str], count_max: int) -> Iterator[list[str]]:
    """The texts in order, in parts of at most `count_max` texts and REQUEST_CHARS characters; at least one text each."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and (len(part) == count_max or size + len(text) > REQUEST_CHARS):
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield part


def _smaller(texts: Sequence[str]) -> list[Sequence[str]]:
    """What to ask instead of a request that was too long: its halves, or the first half of its only text. Nothing: give up."""
    middle = len(texts) // 2
    if middle:
        return [texts[:middle], texts[middle:]]
    return [[texts[0][: len(texts[0]) // 2]]] if len(texts[0]) > CHARS_LEAST else []


def _asked_to_wait(given: str | None) -> float | None:
    """The seconds of a Retry-After: a number, or a date. None for neither."""
    if given is None:
        return None
    try:
        seconds: Any = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds == seconds else None  # NaN is equal to nothing

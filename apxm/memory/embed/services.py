"""What embedding services are asked and how they answer: OpenAI and those that speak like it, Ollama, Cohere. Sends nothing."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from apxm.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


class Service(NamedTuple):
    """One protocol: where it answers when nobody says, the path behind that, how many texts one request may have.

    `ask` gives the request for some texts (model, texts, dimension or None, whether they are queries); `read` the vectors of
    an answer in the order of the texts, not checked yet.
    """

    url: str
    path: str
    batch_max: int
    ask: Callable[[str, Sequence[str], int | None, bool], Mapping[str, Any]]
    read: Callable[[bytes], Sequence[Sequence[float] | str]]


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float] | str


class _OpenAIAnswer(msgspec.Struct):
    data: list[_Embedding]


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[list[float]]


class _CohereEmbeddings(msgspec.Struct):
    float_: list[list[float]] = msgspec.field(name="float")


class _CohereAnswer(msgspec.Struct):
    embeddings: _CohereEmbeddings


def _ask_openai(model: str, texts: Sequence[str], dimension: int | None, query: bool) -> Mapping[str, Any]:
    asked = {"model": model, "input": texts, "encoding_format": "float"}
    return asked if dimension is None else {**asked, "dimensions": dimension}


def _read_openai(body: bytes) -> Sequence[Sequence[float] | str]:
    data = msgspec.json.decode(body, type=_OpenAIAnswer).data
    by_index = {item.index: item.embedding for item in data}
    if sorted(by_index) != list(range(len(data))):
        raise ValueError("its `index` are not those of the texts, each once")
    return [by_index[index] for index in range(len(data))]


def _ask_ollama(model: str, texts: Sequence[str], dimension: int | None, query: bool) -> Mapping[str, Any]:
    asked = {"model": model, "input": texts, "truncate": True}
    return asked if dimension is None else {**asked, "dimensions": dimension}


def _read_ollama(body: bytes) -> Sequence[Sequence[float] | str]:
    return msgspec.json.decode(body, type=_OllamaAnswer).embeddings


def _ask_cohere(model: str, texts: Sequence[str], dimension: int | None, query: bool) -> Mapping[str, Any]:
    asked = {
        "model": model,
        "texts": texts,
        "input_type": "search_query" if query else "search_document",
        "embedding_types": ["float"],
        "truncate": "END",
    }
    return asked if dimension is None else {**asked, "output_dimension": dimension}


def _read_cohere(body: bytes) -> Sequence[Sequence[float] | str]:
    return msgspec.json.decode(body, type=_CohereAnswer).embeddings.float_


SERVICES: Mapping[str, Service] = {
    "openai": Service("https://api.openai.com/v1", "/embeddings", 2_048, _ask_openai, _read_openai),
    "ollama": Service("http://127.0.0.1:11434", "/api/embed", 2_048, _ask_ollama, _read_ollama),
    "cohere": Service("https://api.cohere.com", "/v2/embed", 96, _ask_cohere, _read_cohere),
}


def vectors_of(service: Service, body: bytes, count: int, dimension: int | None, who: str) -> NDArray[np.float64]:
    """The vectors of an answer to `count` texts; EmbedderError when it is not exactly that, with numbers in it."""
    try:
        found = [_numbers(item) for item in service.read(body)]
    except (ValueError, msgspec.DecodeError) as error:
        raise EmbedderError(f"{who} answers with something else than vectors: {error}") from error
    if len(found) != count:
        raise EmbedderError(f"{who} answers with {len(found)} vectors to {count} texts")
    expected = dimension or len(found[0])
    for vector in found:
        if len(vector) != expected or not expected:
            raise EmbedderError(
                f"{who} answers with a vector of {len(vector)} numbers, expected {expected or 'some'}",
                hint="is it still the same model, and does it know the dimension that was asked for?",
            )
    return np.stack(found)


def _numbers(item: Sequence[float] | str) -> NDArray[np.float64]:
    """A vector as it was sent: numbers, or float32 bytes (little-endian) in Base64, as OpenAI's `base64` has them."""
    if isinstance(item, str):
        return np.frombuffer(b64decode(item, validate=True), "<f4").astype(np.float64)
    return np.array(item, np.float64)


def said(body: bytes) -> str:
    """What an error says: services put it in `error`, `error.message` or `message`."""
    try:
        given = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")
    if isinstance(given, dict):
        error = given.get("error", given.get("message", given.get("detail")))
        if isinstance(error, dict):
            error = error.get("message", error)
        return str(error if error is not None else given)
    return str(given)

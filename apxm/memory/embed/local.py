"""What models in this process have in common: texts to tokens, batches by length, vectors back in the order of the texts."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from apxm.errors import ConfigError, EmbedderError
from apxm.memory.embed.base import Fingerprint
from apxm.memory.embed.folder import TOKENIZER, read_folder
from apxm.memory.embed.texts import Manner, normalized, spoken

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from apxm.memory.embed.base import Vectors
    from apxm.memory.embed.folder import ModelFolder

    Ids = NDArray[np.int64]

BATCH = 32  # texts that a model is given in one go
CHARS_PER_TOKEN = 64  # more of a text than this is never looked at: a word of a real text has fewer for each of its tokens


class Forward(Protocol):
    """A model that is loaded: one vector for each row of `ids`, of which those count where `mask` is 1. Thread-safe."""

    def __call__(self, ids: Ids, mask: Ids) -> NDArray[Any]:
        """Both of shape (texts, tokens); gives (texts, dimension), not normalised."""


class _Loaded(NamedTuple):
    folder: ModelFolder
    manner: Manner
    tokenizer: Any
    forward: Forward
    fingerprint: Fingerprint


class LocalEmbedder(ABC):
    """A model from a folder as sentence-transformers saves it, loaded with the first call. It never uses the network.

    The prefixes are those of the folder unless given. Texts of more tokens than the model reads are cut. Thread-safe.
    """

    kind: ClassVar[str]
    extra: ClassVar[str]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        query_prefix: str | None = None,
        text_prefix: str | None = None,
        batch: int = BATCH,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"`batch` of an embedder is {batch!r}, expected at least 1")
        self._path, self._batch = path, batch
        self._prefixes = query_prefix, text_prefix
        self._loaded: _Loaded | None = None
        self._closed = False
        self._loading = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    @property
    def fingerprint(self) -> Fingerprint:
        return self._model().fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        model = self._model()
        return self._vectors(model, model.manner.texts(texts))

    def embed_query(self, text: str) -> Vectors:
        model = self._model()
        vector: Vectors = self._vectors(model, [model.manner.query(text)])[0]
        return vector

    def close(self) -> None:
        with self._loading:
            self._loaded, self._closed = None, True

    # ---- what the library decides ----------------------------------------------------------------------------------------
    @abstractmethod
    def _weights(self, folder: ModelFolder) -> list[Path]:
        """The files with the weights; EmbedderError when they are not there."""

    @abstractmethod
    def _forward(self, folder: ModelFolder) -> Forward:
        """The model, loaded; ImportError when its library is not installed."""

    # ---- loading ---------------------------------------------------------------------------------------------------------
    def _model(self) -> _Loaded:
        with self._loading:
            if self._closed:
                raise EmbedderError(f"{self!r} is closed")
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> _Loaded:
        folder = read_folder(self._path)
        weights = self._weights(folder)
        query_prefix, text_prefix = self._prefixes
        manner = Manner(
            folder.query_prefix if query_prefix is None else query_prefix,
            folder.text_prefix if text_prefix is None else text_prefix,
            folder.tokens_max * CHARS_PER_TOKEN,
        )
        try:
            tokenizer = _tokenizer(folder)
            forward = self._forward(folder)
        except ImportError as error:
            raise EmbedderError(
                f"an embedder of kind `{self.kind}` needs {error.name}, which is not installed",
                hint=f"pip install 'apxm[{self.extra}]'",
            ) from error
        dimension = _hidden(folder, tokenizer, forward, ["dimension"]).shape[1]
        version = folder.digest(weights, manner.mark())
        return _Loaded(folder, manner, tokenizer, forward, Fingerprint(self.kind, version, dimension, normalized=True))

    # ---- texts to vectors ------------------------------------------------------------------------------------------------
    def _vectors(self, model: _Loaded, texts: list[str]) -> Vectors:
        return spoken(texts, model.fingerprint.dimension, lambda said: self._embedded(model, said))

    def _embedded(self, model: _Loaded, texts: list[str]) -> Vectors:
        """Texts of like length go together, so that little is computed for padding."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors = np.empty((len(texts), model.fingerprint.dimension), np.float32)
        for start in range(0, len(order), self._batch):
            numbers = order[start : start + self._batch]
            hidden = _hidden(model.folder, model.tokenizer, model.forward, [texts[number] for number in numbers])
            vectors[numbers] = normalized(hidden, f"the model in {model.folder.path}")
        return vectors


def _tokenizer(folder: ModelFolder) -> Any:
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder.path / TOKENIZER))
    except Exception as error:  # the library raises plain Exception
        raise EmbedderError(f"{folder.path / TOKENIZER} is no tokenizer: {error!s:.200}") from error
    tokenizer.enable_truncation(folder.tokens_max)
    tokenizer.no_padding()
    return tokenizer


def _hidden(folder: ModelFolder, tokenizer: Any, forward: Forward, texts: Sequence[str]) -> NDArray[Any]:
    """What the model makes of some texts at once."""
    ids, mask = _padded([encoding.ids for encoding in _encoded(folder, tokenizer, texts)], folder.pad)
    try:
        return forward(ids, mask)
    except Exception as error:  # whatever a library of models raises
        raise EmbedderError(f"the model in {folder.path} fails: {type(error).__name__}: {error!s:.200}") from error


def _encoded(folder: ModelFolder, tokenizer: Any, texts: Sequence[str]) -> Iterator[Any]:
    return iter(tokenizer.encode_batch([text.lower() for text in texts] if folder.lower else list(texts)))


def _padded(rows: list[list[int]], pad: int) -> tuple[Ids, Ids]:
    """Tokens as a rectangle, filled up with `pad` at the end, and where the tokens are."""
    longest = max(1, *(len(row) for row in rows))
    ids = np.full((len(rows), longest), pad, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return ids, mask

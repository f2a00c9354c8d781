"""What goes into a model and what comes out of it: texts cut and clean, vectors of length 1. Knows no model."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from apxm.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from apxm.memory.embed.base import Vectors


class Manner(NamedTuple):
    """How a model wants its texts: what is put before queries and before texts, and how many characters it reads at most."""

    query_prefix: str
    text_prefix: str
    chars_max: int

    def texts(self, texts: Sequence[str]) -> list[str]:
        return [self._put(self.text_prefix, text) for text in texts]

    def query(self, text: str) -> str:
        return self._put(self.query_prefix, text)

    def mark(self) -> str:
        """A digest of it, for the fingerprint: other prefixes and other cuts give other vectors."""
        return blake2b(repr(tuple(self)).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()

    def _put(self, prefix: str, text: str) -> str:
        """The text behind its prefix; one that says nothing stays empty. Lone surrogates, which no model takes, become `?`."""
        cut = text[: self.chars_max].encode("utf-8", "replace").decode("utf-8")
        return f"{prefix}{cut}" if cut.strip() else ""


def spoken(texts: Sequence[str], dimension: int, embed: Callable[[list[str]], Vectors]) -> Vectors:
    """Vectors of those texts that say something, by `embed`; zeros for the empty ones, which services refuse."""
    said = [number for number, text in enumerate(texts) if text]
    vectors = np.zeros((len(texts), dimension), np.float32)
    if said:
        vectors[said] = embed([texts[number] for number in said])
    return vectors


def normalized(given: NDArray[np.floating[Any]], who: str) -> Vectors:
    """The vectors with length 1; EmbedderError when a number in them is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(given.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise EmbedderError(f"{who} gave a vector with a number that is not finite")
    lengths[lengths == 0] = 1.0
    vectors: Vectors = (given / lengths).astype(np.float32)
    return vectors

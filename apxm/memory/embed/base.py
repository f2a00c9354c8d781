"""What an embedder is, and its fingerprint: which vectors may be compared with each other. Embeds nothing itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes vectors comparable: only those of one fingerprint are ever compared. `normalized` means of length 1."""

    name: str
    version: str
    dimension: int
    normalized: bool

    def to_map(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_map(given: Mapping[str, Any]) -> Fingerprint:
        return Fingerprint(given["name"], given["version"], given["dimension"], given["normalized"])

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.dimension} dimensions{', normalized' if self.normalized else ''})"


class Embedder(Protocol):
    """Makes vectors of texts. Called from several threads, and it may block: it is never called on an event loop.

    `embed` gives a float32 array of shape (len(texts), dimension): finite, in the order of the texts; `[]` gives (0, dimension).
    The same text gives the same vector. Raises EmbedderError (code `embedder`), TransientError for what may work later.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """May load a model or ask a server, the first time."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are to be found."""

    def embed_query(self, text: str) -> Vectors:
        """The vector of one query, of shape (dimension,). Some models want queries put in another way than texts."""

    def close(self) -> None:
        """Let go of models, threads and connections. Idempotent."""

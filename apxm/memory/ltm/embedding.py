"""Vectors for what is written: those of one embedder, checked; or none for now, where it fails. Decides what is comparable."""

from __future__ import annotations

import json
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from apxm.errors import EmbedderError
from apxm.memory.embed.base import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.memory.embed.base import Embedder
    from apxm.memory.ltm.record import Record

RETRY_S = 10.0  # after a failure, until the embedder is asked again: each try may take as long as its timeout
AT_ONCE = 256  # texts that are embedded later, between two transactions
TRIES = 24  # failing calls until the embedder is left alone: enough to find one bad text among AT_ONCE, and the next


class Embedding:
    """The embedder of a memory, as its writer uses it: a failure costs nobody a write."""

    def __init__(self, embedder: Embedder, record: Record) -> None:
        self._embedder, self._record = embedder, record
        self._not_before = 0.0
        self.failure: str | None = None  # what the embedder said last, if it failed
        self._lock = Lock()  # of `catch_up`
        self._tries = TRIES

    def vectors(self, texts: Sequence[str]) -> tuple[list[bytes | None], dict[str, str]]:
        """Of each text its vector, or None for all when the embedder fails; and what the record has to know about them.

        EmbedderError when the record has vectors of another embedder.
        """
        if texts and monotonic() >= self._not_before:
            made = self._made(texts)
            if made is not None:
                return made
            self._not_before = monotonic() + RETRY_S
        return [None] * len(texts), {}

    def _made(self, texts: Sequence[str]) -> tuple[list[bytes | None], dict[str, str]] | None:
        """The same; None when the embedder fails, which `failure` then tells about."""
        try:
            ours = self._embedder.fingerprint
        except Exception as error:  # whatever it is made of: nothing that was said is lost because of it
            self._failed(error)
            return None
        told = self._record.meta("embedder")
        if told is not None and (theirs := Fingerprint.from_map(json.loads(told))) != ours and self._record.count():
            raise EmbedderError(
                f"this memory was made with the embedder {theirs}, the one that is set is {ours}",
                hint="set the old one again, or run `apxm memory rebuild`, which embeds everything anew",
            )
        try:
            found = _checked(self._embedder, ours, texts)
        except Exception as error:
            self._failed(error)
            return None
        self.failure = None
        return [*found], {"embedder": json.dumps(ours.to_map())}

    def _failed(self, error: Exception) -> None:
        self.failure = str(error) or type(error).__name__

    def catch_up(self, limit: int | None = None) -> None:
        """Make the vectors that are missing, as far as the embedder can; at most `limit`."""
        with self._lock:
            after, self._tries = 0, TRIES
            while rows := self._record.unembedded(min(AT_ONCE, limit or AT_ONCE), after=after):
                after = rows[-1][1]
                if monotonic() < self._not_before or not self._caught_up(rows):
                    return
                if limit is not None:
                    return

    def _caught_up(self, rows: Sequence[tuple[str, int, str]]) -> bool:
        """Embed the texts of some rows; of a page that fails its halves, so that one bad text keeps no other from its vector."""
        self._tries -= 1
        made = self._made([text for _, _, text in rows])
        if made is not None:
            vectors = [(id, seq, vector) for (id, seq, _), vector in zip(rows, made[0], strict=True) if vector is not None]
            self._record.set_vectors(vectors, **made[1])
            return True
        if self._tries < 1:
            self._not_before = monotonic() + RETRY_S
            return False
        half = len(rows) // 2
        return half > 0 and (self._caught_up(rows[:half]) | self._caught_up(rows[half:]))


def _checked(embedder: Embedder, fingerprint: Fingerprint, texts: Sequence[str]) -> list[bytes]:
    """The vectors of texts as the record keeps them; EmbedderError for what no embedder may give."""
    import numpy as np

    found = np.asarray(embedder.embed(texts), dtype="<f4")
    wanted = (len(texts), fingerprint.dimension)
    if found.shape != wanted:
        raise EmbedderError(f"the embedder {fingerprint} gave vectors of shape {found.shape}, expected {wanted}")
    if not np.isfinite(found).all():
        raise EmbedderError(f"the embedder {fingerprint} gave vectors with numbers that are not finite")
    return [vector.tobytes() for vector in found]

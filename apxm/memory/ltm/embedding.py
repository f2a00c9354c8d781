"""Vectors for what is written: those of one embedder, checked; or none for now, where it fails. Decides what is comparable."""

from __future__ import annotations

import json
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from apxm.errors import EmbedderError, TransientError
from apxm.memory.ltm.patience import Patience, limited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.memory.embed.base import Embedder, Fingerprint
    from apxm.memory.ltm.record import Record

RETRY_S = 10.0  # after a failure, until the embedder is asked again: for each second that the failed call took, at least once
WRITE_S = 10.0  # that a write waits for its vectors: then it is committed without, and they follow
FLUSH_S = 60.0  # that `flush` waits for a page of them
AT_ONCE = 256  # texts that are embedded later, between two transactions
TRIES = 24  # failing calls until the embedder is left alone: enough to find one bad text among AT_ONCE, and the next


class Embedding:
    """The embedder of a memory, as its writer uses it: a failure costs nobody a write, nor does an answer that never comes."""

    def __init__(self, embedder: Embedder, record: Record, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._of_writes, self._of_flush = (limited(embedder, self._patience, limit_s) for limit_s in (WRITE_S, FLUSH_S))
        self._record = record
        self._failed_at = self._not_before = 0.0
        self.failure: str | None = None  # what the embedder said last, if it failed
        self._lock = Lock()  # of `catch_up`
        self._tries = TRIES
        self._at_once = AT_ONCE

    def vectors(self, texts: Sequence[str]) -> tuple[list[bytes | None], dict[str, str]]:
        """Of each text its vector, or None for all when the embedder fails; and what the record has to know about them.

        EmbedderError when the record has vectors of another embedder.
        """
        if texts and self._may_ask():
            began = monotonic()
            made = self._made(self._of_writes, texts)
            if made is not None:
                return made
            self._pause(began)
        return [None] * len(texts), {}

    def _may_ask(self) -> bool:
        """Whether the embedder did not fail just now, or what it was given up for came after all."""
        if self._patience.stuck:
            return False
        return monotonic() >= self._not_before or self._patience.recovered > self._failed_at

    def _pause(self, began: float) -> None:
        """Leave the embedder alone for a while, in proportion to what asking it has cost."""
        self._failed_at = monotonic()
        self._not_before = self._failed_at + RETRY_S * max(1.0, self._failed_at - began)

    def _made(self, embedder: Embedder, texts: Sequence[str]) -> tuple[list[bytes | None], dict[str, str]] | None:
        """The same; None when the embedder fails, which `failure` then tells about."""
        try:
            ours = embedder.fingerprint
        except Exception as error:  # whatever it is made of: nothing that was said is lost because of it
            self._failed(error)
            return None
        theirs = self._record.made_by()
        if theirs is not None and theirs != ours and self._record.count():
            raise EmbedderError(
                f"this memory was made with the embedder {theirs}, the one that is set is {ours}",
                hint="set the old one again, or run `apxm memory rebuild`, which embeds everything anew",
            )
        try:
            found = _checked(embedder, ours, texts)
        except Exception as error:
            self._failed(error)
            return None
        self.failure = None
        return [*found], {"embedder": json.dumps(ours.to_map())}

    def _failed(self, error: Exception) -> None:
        if isinstance(error, TransientError):  # it is the embedder, not a text: none of the others would fare better
            self._tries = 0
        self.failure = str(error) or type(error).__name__

    def catch_up(self, limit: int | None = None) -> None:
        """Make the vectors that are missing, as far as the embedder can; at most `limit`.

        With a limit it waits no longer than a write does; without, first for what the embedder may still be doing.
        """
        embedder = self._of_flush if limit is None else self._of_writes
        with self._lock:
            if limit is None:
                self._patience.settle(FLUSH_S)
            after, self._tries = 0, TRIES
            while rows := self._record.unembedded(min(self._at_once, limit or AT_ONCE), after=after):
                after = rows[-1][1]
                if not self._may_ask() or not self._caught_up(embedder, rows):
                    return
                if limit is not None:
                    return

    def _caught_up(self, embedder: Embedder, rows: Sequence[tuple[str, int, str]]) -> bool:
        """Embed the texts of some rows; of a page that fails its halves, so that one bad text keeps no other from its vector."""
        self._tries -= 1
        began = monotonic()
        made = self._made(embedder, [text for _, _, text in rows])
        if made is not None:
            vectors = [(id, seq, vector) for (id, seq, _), vector in zip(rows, made[0], strict=True) if vector is not None]
            self._record.set_vectors(vectors, **made[1])
            return True
        if self._patience.stuck:  # they were too many for the time there is
            self._at_once = max(1, min(self._at_once, len(rows)) // 4)
        if self._tries < 1:
            self._pause(began)
            return False
        half = len(rows) // 2
        return half > 0 and (self._caught_up(embedder, rows[:half]) | self._caught_up(embedder, rows[half:]))


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

"""The chunks of one streaming call: told while they come, joined to the value in the end. Bounded. Runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import CapabilityError
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.capability.record import CapabilityRecord

CHUNKS_MAX = 100_000
SIZE_MAX = 64 * 1024 * 1024  # characters and bytes, of all chunks together

_JOINED: tuple[tuple[frozenset[type], Any], ...] = ((frozenset((str,)), ""), (frozenset((bytes,)), b""))


class Chunks:
    """What a generator gave so far. `value` is the text or the bytes when all chunks are some, else the list of them.

    A generator that promises text (`Iterator[str]`) gives a text even without any chunk.
    """

    def __init__(self, record: CapabilityRecord, tell: Callable[[int, Any], None] | None) -> None:
        self._record, self._tell = record, tell
        self._kept: list[Any] = []
        self._size = 0

    def add(self, value: Any) -> None:
        """Keep and tell one more; CapabilityError beyond what one call may give."""
        value = settle(value, where=f"chunk {len(self._kept)} of capability `{self._record.name}`")
        if isinstance(value, (str, bytes)):
            self._size += len(value)
        if len(self._kept) >= CHUNKS_MAX or self._size > SIZE_MAX:
            limit = f"{CHUNKS_MAX:,} chunks or {SIZE_MAX:,} characters"
            raise CapabilityError(f"capability `{self._record.name}` gave more than {limit}", hint="it may not know its end")
        self._kept.append(value)
        if self._tell is not None:
            self._tell(len(self._kept) - 1, value)

    def value(self) -> Any:
        """All of it."""
        promised = self._record.signature.result
        kinds: frozenset[type] = frozenset(map(type, self._kept))
        for kind, empty in _JOINED:
            if kinds == kind and (promised.free or promised.types == kind):
                return empty.join(self._kept)
            if not kinds and promised.types == kind:
                return empty
        return self._kept

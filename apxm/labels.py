"""Where a value came from: provenance labels as bits of one integer, interned for one run."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCES_MAX = 64
MANY = "many"  # stands for every source past the first 64: policy treats it as if it were any of them
MANY_BIT = 1 << SOURCES_MAX


class LabelTable:
    """Names <-> bits of one run. Bits join with `|`; no bits means that nothing is known to be untrusted.

    The first 64 sources get a bit each, all later ones share one. Names never leave the table, so bits stay valid.
    """

    __slots__ = ("_bits", "_lock", "_names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._lock = Lock()
        self._bits: dict[str, int] = {MANY: MANY_BIT}
        self._names: list[str] = []
        self.bits(names)

    def bit(self, name: str) -> int:
        """The bit of one source; a new name gets the next free one."""
        bit = self._bits.get(name)
        return self._intern(name) if bit is None else bit

    def bits(self, names: Iterable[str]) -> int:
        """The join of several sources."""
        joined = 0
        for name in names:
            joined |= self.bit(name)
        return joined

    def names(self, bits: int) -> tuple[str, ...]:
        """The sources in `bits`, in the order in which the run met them, `many` last."""
        found: list[str] = []
        while bits:
            lowest = bits & -bits
            found.append(MANY if lowest == MANY_BIT else self._names[lowest.bit_length() - 1])
            bits ^= lowest
        return tuple(found)

    def _intern(self, name: str) -> int:
        with self._lock:
            bit = self._bits.get(name)
            if bit is not None:
                return bit
            if len(self._names) == SOURCES_MAX:
                return MANY_BIT  # not remembered: a run may meet any number of sources
            bit = self._bits[name] = 1 << len(self._names)
            self._names.append(name)
            return bit

    def __len__(self) -> int:
        return len(self._names)

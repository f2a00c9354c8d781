"""Ends of pipes, read and written as they become ready, bounded in what they keep. Knows nothing of who is at the other end."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_PIECE = 1 << 16  # what a pipe holds


class Kept:
    """What came out of a pipe: its first `most` bytes."""

    __slots__ = ("_most", "data", "ended", "seen")

    def __init__(self, most: int) -> None:
        self._most = most
        self.data = bytearray()
        self.seen = 0  # bytes, those dropped too
        self.ended = False

    @property
    def cut(self) -> bool:
        return self.seen > self._most

    def text(self) -> str:
        """As text; what is no UTF-8 becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")

    def move(self, end: int) -> bool:
        """Take what is there; False at the end."""
        piece = os.read(end, _PIECE)
        self.seen += len(piece)
        self.data += piece[: self._most - len(self.data)]
        self.ended = not piece
        return not self.ended


class Fed:
    """What is still to be written into a pipe."""

    __slots__ = ("_left",)

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def move(self, end: int) -> bool:
        """Write what fits; False when all is written, or nobody reads."""
        with suppress(BlockingIOError):
            try:
                self._left = self._left[os.write(end, self._left[:_PIECE]) :]
            except BrokenPipeError:
                return False
        return bool(self._left)


class Pipes:
    """Several ends at once. They are owned: `close`, or leaving the `with`, closes them."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ends: set[int] = set()

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def pipe(self) -> tuple[int, int]:
        """A new pipe: the end to read and the end to write. Both are closed at the latest by `close`."""
        ends = os.pipe()
        self._ends.update(ends)
        return ends

    def file(self, data: bytes) -> int:
        """A descriptor that another process reads these bytes from."""
        descriptor = os.memfd_create("apxm")
        self._ends.add(descriptor)
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def keep(self, end: int, most: int) -> Kept:
        """Read from this end from now on, and keep so many bytes."""
        kept = Kept(most)
        os.set_blocking(end, False)
        self._selector.register(end, selectors.EVENT_READ, kept)
        return kept

    def feed(self, end: int, data: bytes) -> None:
        """Write this to that end, and close it."""
        os.set_blocking(end, False)
        self._selector.register(end, selectors.EVENT_WRITE, Fed(data))

    def watch(self, descriptor: int) -> None:
        """`step` says when this one is ready. It stays whose it is."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def step(self, wait_s: float) -> bool:
        """Wait, and move what can be moved; True when the watched descriptor is ready."""
        ready = False
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                self._selector.unregister(key.fd)
                ready = True
            else:
                self._move(key)
        return ready

    def drain(self) -> None:
        """Take what is in the pipes now, and wait for nothing."""
        while True:
            ready = [key for key, _ in self._selector.select(0) if isinstance(key.data, Kept)]
            if not ready:
                return
            for key in ready:
                self._move(key)

    def shut(self, *ends: int) -> None:
        """Close ends that are no longer needed here."""
        for end in ends:
            self._ends.discard(end)
            os.close(end)

    def close(self) -> None:
        """Close everything."""
        self._selector.close()
        self.shut(*self._ends)

    def _move(self, key: Any) -> None:
        if not key.data.move(key.fd):
            self._selector.unregister(key.fd)
            self.shut(key.fd)

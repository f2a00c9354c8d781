"""Keeping the cyclic collector away from a program while it grows: it would walk over all of it again and again."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def collector_paused(pause: bool = True) -> Iterator[None]:
    """No cyclic collection within, if `pause`; large loads and compilations take a third of the time.

    What was made within goes to the oldest generation at once: the young ones would be walked over before anything else
    happens. Not where somebody froze objects, which would thaw. Several threads may pause at once: whoever found the
    collector on turns it on again.
    """
    pause = pause and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()

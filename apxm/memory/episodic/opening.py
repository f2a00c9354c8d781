"""Which store of episodes a configuration asks for."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from apxm.errors import ConfigError
from apxm.memory.episodic.recent import RecentEpisodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from apxm.config import MemoryConfig
    from apxm.memory.episodic.episodes import Episodes


def open_episodes(
    config: MemoryConfig,
    folder: Callable[[], Path] | None,
    clock: Callable[[], float] = time,
    secrets: Callable[[], Iterable[str]] = tuple,
) -> Episodes | None:
    """The store, or None when none are kept. `folder` is asked for, and may be made, when the first episode is written.

    `secrets` are texts that no episode may hold, asked for whenever one is to be kept; `clock` is Unix time.
    """
    if config.episodic == "off":
        return None
    redact = None
    if config.episode_content == "text":
        from apxm.memory.episodic.redaction import Redactor

        redact = Redactor(secrets)
    if config.episodic == "memory":
        days_max = config.episode_days
        return RecentEpisodes(config.episodes, config.episode_content, days_max=days_max, clock=clock, redact=redact)
    if folder is None:
        raise ConfigError("this memory has no folder to keep episodes in", hint="give MemorySystem a `folder`")
    from apxm.memory.episodic.store import StoredEpisodes

    return StoredEpisodes(
        folder,
        entries_max=config.episodes,
        days_max=config.episode_days,
        bytes_max=config.episode_bytes,
        content=config.episode_content,
        clock=clock,
        redact=redact,
    )

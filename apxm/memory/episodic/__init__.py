"""Episodic memory: what happened in runs. `recent` keeps it in this process, `store` in a file; both are an `Episodes`."""

from __future__ import annotations

from apxm.memory.episodic.episode import CONTENT_CHARS_MAX, NOWHERE, Episode, Place, digest
from apxm.memory.episodic.episodes import Episodes, EpisodeStats, Wanted
from apxm.memory.episodic.opening import open_episodes
from apxm.memory.episodic.recent import RecentEpisodes

__all__ = [
    "CONTENT_CHARS_MAX",
    "NOWHERE",
    "Episode",
    "EpisodeStats",
    "Episodes",
    "Place",
    "RecentEpisodes",
    "Wanted",
    "digest",
    "open_episodes",
]

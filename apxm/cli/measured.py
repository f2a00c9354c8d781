"""Where measured times come from: a recorded run, a file of events, or the episodes of runs. Runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from apxm.cli.source import Source
    from apxm.graph.latency import Latencies, Sample
    from apxm.memory.episodic import Episode
    from apxm.observability.events import Event, Path

ALL = "all"  # every episode there is


def latencies(spec: str, program: Source, digests: Collection[str], flows: Sequence[str], config: str | None = None) -> Latencies:
    """The medians of a run, or of `all` that is on record. InvalidError when there is no such run, or no time in it.

    `spec` is what `--run` takes, and besides the id of a run that has episodes on disk.
    """
    from apxm.graph.latency import Latencies

    if spec == ALL:
        found = Latencies(of_episodes(_episodes(None, config)), "medians of all episodes")
    else:
        found = Latencies(_samples(spec, program, digests, flows, config), f"medians of the run {spec}")
    if not found:
        text = "no episodes are on disk" if spec == ALL else f"nothing that the run `{spec}` did took a time that is known"
        raise InvalidError(
            text, code="record", hint='`apxm run` records the runs that it does; MemoryConfig(episodic="sqlite") too'
        )
    return found


def _samples(spec: str, program: Source, digests: Collection[str], flows: Sequence[str], config: str | None) -> Iterable[Sample]:
    from apxm.cli import recorded

    try:
        return list(of_events(recorded.events(spec, program, digests, flows, config)))
    except InvalidError as error:
        if error.code != "record":
            raise
        kept = list(of_episodes(_episodes(spec, config)))
        if not kept:
            raise
        return kept


def _episodes(run: str | None, config: str | None) -> Iterator[Episode]:
    """Those on disk, newest first; none when nothing was ever kept there."""
    from apxm.memory.episodic import Wanted
    from apxm.memory.episodic.store import StoredEpisodes
    from apxm.settings import load

    settings = load(config=config)
    kept = settings.memory_config()
    episodes = StoredEpisodes(settings.memory_folder, entries_max=kept.episodes, days_max=kept.episode_days)
    try:
        yield from episodes.select(Wanted(run=run, outcome="done"))
    finally:
        episodes.close()


def of_episodes(episodes: Iterable[Episode]) -> Iterator[Sample]:
    """The times that episodes tell. What a program put on record took none."""
    from apxm.graph.latency import Sample

    for one in episodes:
        if one.code is None and one.kind != "record":
            kind = "firing" if one.kind == "firing" else "call"
            yield Sample(one.op, one.name, one.duration_ms, kind, one.target)


def of_events(events: Iterable[Event]) -> Iterator[Sample]:
    """The times that events tell."""
    from apxm.graph.latency import Sample
    from apxm.observability.events import Called, NodeEnded, NodeStarted

    known: dict[tuple[Path, int], tuple[str, str]] = {}
    for event in events:
        match event:
            case NodeStarted():
                known[event.path, event.node] = event.op, event.name
            case NodeEnded(outcome="done"):
                known.pop((event.path, event.node), None)
                yield Sample(event.op, event.name, event.duration_ms)
            case Called(ok=True) if (event.path, event.node) in known:
                op, name = known[event.path, event.node]
                yield Sample(op, name, event.duration_ms, "call", event.target)
            case _:
                pass

"""Which run `--run` means, and whether it was one of this program. Reads records; runs nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from apxm.artifact.format import Artifact
    from apxm.capability.record import CapabilityRecord
    from apxm.cli.source import Source
    from apxm.observability.events import Event
    from apxm.observability.history import History
    from apxm.observability.record import RunStore

FLOWS_SHOWN = 10
ID_SHOWN = 16  # characters of a digest that tell it from others


def history(
    spec: str,
    program: Source,
    artifact: Artifact,
    flows: Sequence[str],
    offered: Mapping[str, CapabilityRecord],
    config: str | None = None,
) -> tuple[History, list[str]]:
    """A run of one of these flows of a program, and why it may not be of this version of it.

    `spec` is the beginning of an id, a file that `--events` wrote, or `last`: the last run of this program. `artifact` is
    what was made of the program; a run of it at another level is one of the same program. InvalidError when there is no
    such run, or when it was of another flow.
    """
    from apxm.observability.history import History

    digests = digests_of(program, artifact, offered)
    run = History.of(events(spec, program, digests, flows, config))
    if run.flow not in flows:
        raise InvalidError(
            f"the run `{run.run_id}` was of the flow `{run.flow}`, not of {_named(flows)}", hint=_elsewhere(run.flow, artifact)
        )
    ran = run.metadata.get("artifact")
    if ran is None or ran in digests:
        return run, []
    version = f"another version of the program (artifact {ran[:ID_SHOWN]})"
    return run, [f"the run was of {version}: what has no place in this one is left out"]


def events(
    spec: str, program: Source, digests: Collection[str], flows: Sequence[str], config: str | None = None
) -> Iterator[Event]:
    """The events of the run that `spec` means: of a file, of a record, or of the `last` of this program."""
    from apxm.observability.record import LAST, read

    if spec != LAST and (Path(spec).is_file() or "/" in spec or spec.endswith(".jsonl")):
        return read(spec)
    store = _store(config)
    run_id = _last(store, program, digests, flows) if spec == LAST else store.resolve(spec)
    return read(store.path(run_id))


def digests_of(program: Source, artifact: Artifact, offered: Mapping[str, CapabilityRecord]) -> set[str]:
    """The digests of all that a program may have been compiled to."""
    return {artifact.digest, *(made.digest for made in _compiled(program, offered))}


def recorded(spec: str, config: str | None = None) -> tuple[str, str]:
    """The id of a recorded run, and the file that it was of. InvalidError when there is no such run, or no file in its record."""
    from apxm.observability.history import History
    from apxm.observability.record import read

    store = _store(config)
    run_id = store.resolve(spec)
    file = History.of(read(store.path(run_id))).metadata.get("file")
    if file is None:
        raise InvalidError(f"the record of the run `{run_id}` does not say what file it was of", hint="name the FILE")
    return run_id, file


def _compiled(program: Source, offered: Mapping[str, CapabilityRecord]) -> list[Artifact]:
    """What `apxm run` may have made of a graph."""
    return [] if program.artifact is not None else [program.compiled_report(level, offered)[0] for level in (0, 1)]


def _store(config: str | None) -> RunStore:
    from apxm.cli.recording import store_of
    from apxm.settings import load

    return store_of(load(config=config))


def _last(store: RunStore, program: Source, digests: Collection[str], flows: Collection[str]) -> str:
    """The newest run of this program, by what ran or by its file."""
    place = os.path.abspath(program.path)
    for run in store.list():
        if run.flow in flows and (run.artifact in digests or place in (run.file, run.file.rpartition(":")[0])):
            return run.run_id
    raise InvalidError(
        f"no run of {_named(list(flows))} of {program.path} is recorded",
        code="record",
        hint="`apxm run` records one; `apxm runs ls` shows those of other programs, and an id may be given too",
    )


def _named(flows: Sequence[str]) -> str:
    more = f" or {len(flows) - FLOWS_SHOWN:,} more" if len(flows) > FLOWS_SHOWN else ""
    return ", ".join(f"`{name}`" for name in flows[:FLOWS_SHOWN]) + more


def _elsewhere(flow: str, artifact: Artifact) -> str:
    """What to do about a run of another flow."""
    known = [".".join(key) for key in artifact.flows()]
    return f"name the flow: `{flow}`" if flow in known else f"the program does not have it; it has {_named(known)}"

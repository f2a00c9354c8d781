"""Which run `--run` means, and whether it was one of this program. Reads records; runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.observability.history import History

ID_SHOWN = 16  # characters of a digest that tell it from others


def history(spec: str, config: str | None = None) -> History:
    """A run by the beginning of its id or `last`, or the events in a file that `--events` wrote."""
    from apxm.observability.history import History
    from apxm.observability.record import read

    if Path(spec).is_file() or "/" in spec or spec.endswith(".jsonl"):
        return History.of(read(spec))
    from apxm.cli.recording import store_of
    from apxm.settings import load

    store = store_of(load(config=config))
    return History.of(read(store.path(store.resolve(spec))))


def belongs(run: History, flow: str, digests: Iterable[str]) -> str | None:
    """Why a run may not be of this program, None when it is; InvalidError when it was of another flow."""
    if run.flow != flow:
        raise InvalidError(
            f"the run `{run.run_id}` was of the flow `{run.flow}`, not of `{flow}`",
            hint=f"name the flow: `{run.flow}`, if the program has it",
        )
    ran = run.metadata.get("artifact")
    if ran is None or ran in set(digests):
        return None
    return f"the run was of another version of the program (artifact {ran[:ID_SHOWN]}): what has no place in this one is left out"

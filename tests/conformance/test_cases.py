"""Every case of the corpus, through the whole way: JSON, artifact bytes, dag, run. At O0 and O1, traced and not."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from apxm import Artifact, RunOptions, Runtime, compile
from apxm.budget import Limits
from apxm.capability.isolation.sandbox import absence
from apxm.config import RuntimeConfig
from apxm.errors import ApxmError
from apxm.executor.dispatch import binders
from apxm.graph.contract import from_json
from apxm.graph.ops import COMMON_ATTRIBUTES, OPERATIONS, attribute_of
from apxm.llm.scripted import ScriptedModel
from apxm.observability.events import Printed
from apxm.values import same
from tests.conformance.capabilities import World
from tests.unit.coordination.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = Path(__file__).parents[2] / "artifacts" / "cases"
SCHEMA = json.loads((Path(__file__).parent / "case.schema.json").read_text(encoding="utf-8"))


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(CASES.glob("*.json"))}


@dataclass(frozen=True)
class Mode:
    """One way of running a case."""

    level: int
    traced: bool = False
    static: bool = True

    def __str__(self) -> str:
        return f"O{self.level}{'-traced' if self.traced else ''}{'' if self.static else '-dataflow'}"


MODES = (Mode(0), Mode(1), Mode(0, traced=True), Mode(1, static=False))


@dataclass
class Found:
    """What came out of one run."""

    outputs: dict[str, Any] | None
    value: Any
    error: ApxmError | None
    stats: Any
    printed: list[str] | None
    calls: list[list[Any]]
    machines: dict[str, Any]
    splices: int
    tasks: dict[str, list[list[Any]]]
    remembered: dict[str, dict[str, Any]]


def run(case: dict[str, Any], mode: Mode, tmp_path: Path) -> Found:
    with opened(case, tmp_path) as (runtime, world):
        runtime.static_tier = mode.static
        error, result = None, None
        try:
            dag = Artifact.from_bytes(compile(from_json(case["program"]), level=mode.level).to_bytes()).into_dag()
            result = runtime.execute(dag, case.get("parameters"), run=options_of(case, trace=mode.traced))
        except ApxmError as raised:
            error, result = raised, raised.result
        tasks = {queue: left(runtime, queue) for queue in case.get("tasks", {})}
        remembered = kept(runtime) if "remembered" in case["expect"] else {}
    return Found(
        outputs=None if result is None else result.outputs,
        value=None if result is None else result.value,
        error=error,
        stats=None if result is None else result.stats,
        printed=[event.text for event in result.events() if isinstance(event, Printed)] if result and mode.traced else None,
        calls=world.calls,
        machines={} if result is None else result.machines,
        splices=0 if result is None else len(result.splices),
        tasks=tasks,
        remembered=remembered,
    )


@contextmanager
def opened(case: dict[str, Any], tmp_path: Path) -> Iterator[tuple[Runtime, World]]:
    """A runtime with everything that a case says is there before its run, and the world that tells what was called."""
    world = World()
    script = tmp_path / "script.json"
    script.write_text(json.dumps(case.get("model", [])), encoding="utf-8")
    config = RuntimeConfig(state_dir=str(tmp_path / "state"))
    with peers_of(case) as url, Runtime(config, model=ScriptedModel.load(script)) as runtime:
        for name in case.get("peers", ()):
            runtime.peers.register(name, url)
        prepare(case, runtime)
        runtime.models.register("scripted", runtime.models.get(), provider="script")
        for name, record in world.records().items():
            runtime.capability_system().register(name, record)
        for agent, grants in case.get("agent_grants", {}).items():
            runtime.grant(agent, grants)
        yield runtime, world


def options_of(case: dict[str, Any], *, trace: bool) -> RunOptions:
    """The options that a case runs with."""
    options = dict(case.get("options", {}))
    if "budget" in options:
        options["budget"] = Limits(**options["budget"])
    return RunOptions(trace=trace, grants=case.get("grants", ()), **options)


@contextmanager
def peers_of(case: dict[str, Any]) -> Iterator[str]:
    """The URL of the server that plays all peers of a case, if it has any."""
    if "peers" not in case:
        yield ""
        return
    with Peer(lambda envelope: {name: envelope[name] for name in ("to", "channel", "depth", "message")}) as peer:
        yield peer.url


def prepare(case: dict[str, Any], runtime: Runtime) -> None:
    """Put tasks into queues, answer questions, and remember, before the run."""
    for agent, values in case.get("remembered", {}).items():
        for key, value in values.items():
            runtime.memory.ltm.put(key, value, namespace=agent)
    for queue, tasks in case.get("tasks", {}).items():
        for data in tasks:
            runtime.coordination.queues.put(queue, data, attempts_max=2)
    for checkpoint, answers in case.get("checkpoints", {}).items():
        runtime.coordination.checkpoints.open(checkpoint, "asked before")
        for answer in answers:
            runtime.coordination.checkpoints.answer(checkpoint, answer)


def left(runtime: Runtime, queue: str) -> list[list[Any]]:
    """The tasks that are left in a queue: data, state, attempts."""
    return [[task.data, task.state, task.attempts] for task in runtime.coordination.queues.list(queue)]


def kept(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """What long-term memory holds, by agent and key."""
    found: dict[str, dict[str, Any]] = {}
    for entry in runtime.memory.ltm.list(limit=1_000):
        found.setdefault(entry.namespace, {})[entry.key] = entry.value
    return found


def differences(expected: dict[str, Any], found: Found, mode: Mode) -> Iterator[str]:
    """Everything that is not as the case says."""
    if "error" in expected:
        yield from error_differences(expected["error"], found)
    elif found.error is not None:
        yield f"failed: {found.error!r} at {found.error.node}"
        return
    for name in ("outputs", "value"):
        if name in expected and not same(getattr(found, name), expected[name]):
            yield f"{name}: {getattr(found, name)!r}, expected {expected[name]!r}"
    if "calls" in expected and not same(found.calls, expected["calls"]):
        yield f"calls: {found.calls}, expected {expected['calls']}"
    if "tasks" in expected and not same(found.tasks, expected["tasks"]):
        yield f"tasks: {found.tasks}, expected {expected['tasks']}"
    if "remembered" in expected and not same(found.remembered, expected["remembered"]):
        yield f"remembered: {found.remembered}, expected {expected['remembered']}"
    for agent, held in expected.get("machines", {}).items():
        if not same(found.machines.get(agent), {"agent": agent, **held}):
            yield f"machine of {agent}: {found.machines.get(agent)}, expected {held}"
    if "printed" in expected and found.printed is not None and found.printed != expected["printed"]:
        yield f"printed: {found.printed}, expected {expected['printed']}"
    if found.splices != expected.get("splices", found.splices):
        yield f"splices: {found.splices}, expected {expected['splices']}"
    if found.stats is None:
        return
    for quantity, amount in expected.get("usage", {}).items():
        used = sum(usage[quantity] for usage in found.stats.usage["model"].values())
        if used != amount:
            yield f"usage of {quantity}: {used}, expected {amount}"
    if mode.level == 0:
        for name, status in expected.get("status", {}).items():
            if found.stats.node_status[name] != status:
                yield f"status of {name}: {found.stats.node_status[name]}, expected {status}"
        for name, count in expected.get("stats", {}).items():
            if getattr(found.stats, name) != count:
                yield f"stats.{name}: {getattr(found.stats, name)}, expected {count}"


def error_differences(expected: dict[str, Any], found: Found) -> Iterator[str]:
    error = found.error
    if error is None:
        yield f"did not fail; outputs {found.outputs}"
        return
    about = {**error.to_map(), "attempt": error.attempt, "message": error.message}
    for name, value in expected.items():
        if about[name] != value:
            yield f"error {name}: {about[name]!r}, expected {value!r} ({error})"


def needs_sandbox(case: dict[str, Any]) -> bool:
    """Whether it runs code, and not only refuses to."""
    tools = {"bash", "python"} & set(case.get("grants", ()))
    return bool(tools) or any(node["op"] == "EXC" and "code" in node["attributes"] for node in nodes(case["program"]))


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", cases())
def test_a_case_comes_out_as_it_says(name: str, mode: Mode, tmp_path: Path) -> None:
    case = cases()[name]
    if needs_sandbox(case) and (reason := absence()) is not None:
        pytest.skip(f"no sandbox on this machine: {reason}")
    found = run(case, mode, tmp_path)
    assert list(differences(case["expect"], found, mode)) == []


@pytest.mark.parametrize("name", cases())
def test_a_case_is_well_formed(name: str) -> None:
    case = cases()[name]
    assert [error.message for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(case)] == []
    assert case["name"] == name
    assert case["doc"].endswith(".")


def nodes(graph: Any) -> Iterator[dict[str, Any]]:
    """Every node of a program, those in regions too."""
    if isinstance(graph, dict):
        if "op" in graph and "id" in graph:
            yield graph
        for value in graph.values():
            yield from nodes(value)
    elif isinstance(graph, list):
        for value in graph:
            yield from nodes(value)


def test_every_operation_with_a_handler_and_each_of_its_attributes_has_a_case() -> None:
    compiled_away = {"LOOP_START", "LOOP_END"}
    shown: set[str] = set()
    for case in cases().values():
        for node in nodes(case["program"]):
            shown.add(node["op"])
            for spelling in node.get("attributes", {}):
                attribute = attribute_of(OPERATIONS[node["op"]], spelling)
                assert attribute is not None, (case["name"], node["op"], spelling)
                shown.add(f"{node['op']}.{attribute.name}")
    wanted = {*binders(), *compiled_away}
    wanted |= {f"{op}.{attribute.name}" for op in tuple(wanted) for attribute in OPERATIONS[op].attributes}
    assert wanted - shown == set()
    anywhere = {one.partition(".")[2] for one in shown}
    assert {attribute.name for attribute in COMMON_ATTRIBUTES} - anywhere == set()


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("MERGE", "mode"),
        ("SWITCH", "match"),
        ("GUARD", "on_fail"),
        ("MAP", "on_item_error"),
        ("UPDATE_GOAL", "action"),
        ("COMMUNICATE", "protocol"),
        ("QMEM", "memory_tier"),
        ("UMEM", "memory_tier"),
        ("UMEM", "scope"),
    ],
)
def test_every_choice_of_a_mode_has_a_case(op: str, name: str) -> None:
    attribute = next(one for one in OPERATIONS[op].attributes if one.name == name)
    spellings = (name, *attribute.aliases)
    used = {
        node.get("attributes", {}).get(spelling, attribute.default)
        for case in cases().values()
        for node in nodes(case["program"])
        if node["op"] == op
        for spelling in spellings
    }
    assert set(attribute.choices) - used == set()

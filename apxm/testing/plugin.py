"""The pytest plugin: fixtures that set up runtimes and look at what is left of them. Inert, and next to free, when unused.

It is loaded into every pytest session of an environment with apxm, so it imports nothing of apxm before a fixture is used.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from apxm.config import RuntimeConfig
    from apxm.llm.base import LanguageModel
    from apxm.llm.scripted import ScriptedModel
    from apxm.runtime import Runtime
    from apxm.testing.clock import VirtualClock
    from apxm.testing.faults import FaultPlan
    from apxm.testing.network import NetworkGuard
    from apxm.testing.snapshots import SnapshotFiles

LEFT_S = 2.0  # for threads that were told to end, or whose call was just let go
NETWORK_HINT = "give the code a stand-in, or mark the test with @pytest.mark.no_network(False)"
UPDATE = "--apxm-update-snapshots"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini settings, all with our name in them."""
    group = parser.getgroup("apxm")
    group.addoption(UPDATE, action="store_true", dest="apxm_update_snapshots", help="write the trace snapshots of what runs")
    group.addoption("--apxm-seed", type=int, default=0, metavar="N", help="seed of the fixture fault_plan (default: 0)")
    parser.addini("apxm_no_network", "refuse the network to every test (see the marker no_network)", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and what lives as long as the session."""
    config.addinivalue_line("markers", "no_network(on=True): refuse this test everything that would leave the machine")
    config.pluginmanager.register(_Session(config), "apxm-session")


# ---- models, clocks, runtimes ----------------------------------------------------------------------------------------
class _Scripts:
    """What `scripted_model` gives."""

    def __init__(self) -> None:
        self._strict: list[ScriptedModel] = []

    def __call__(self, *rules: Any, strict: bool = False, **options: Any) -> ScriptedModel:
        """A ScriptedModel with these rules. With `strict`, a rule or an answer that nothing asked for fails the test."""
        from apxm.llm.scripted import ScriptedModel

        model = ScriptedModel(rules, **options)
        if strict:
            self._strict.append(model)
        return model

    def unused(self) -> list[str]:
        found = []
        for model in self._strict:
            for number, rule in enumerate(model.rules, 1):
                given = rule.failures + (len(rule.answer) if isinstance(rule.answer, list) else 1)
                if rule.used < given:
                    asked = f"was asked for {rule.used} of its {given} answers" if rule.used else "was not asked for"
                    found.append(f"model `{model.name}`, rule {number} for {rule}: it {asked}")
        return found


_FAILED = pytest.StashKey[bool]()  # what a test left undone because it failed is no news


@pytest.fixture
def scripted_model(request: pytest.FixtureRequest) -> Iterator[_Scripts]:
    """Makes models that answer from a script: `scripted_model(("capital of France", "Paris."), default="?", strict=True)`."""
    scripts = _Scripts()
    yield scripts
    unused = scripts.unused()
    if unused and not request.node.stash.get(_FAILED, False):
        pytest.fail("\n".join(["a strict script was not used up", *unused]), pytrace=False)


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock whose time passes only when everybody waits: `apxm_runtime(clock=virtual_clock)`."""
    from apxm.testing.clock import VirtualClock

    return VirtualClock()


class _Runtimes:
    """What `apxm_runtime` gives. What outlives a run lies in `state`: made when used, shared by the runtimes of one test."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._made: list[Runtime] = []
        self._threads = set(threading.enumerate())

    def __call__(
        self,
        config: RuntimeConfig | None = None,
        *,
        model: LanguageModel | None = None,
        capabilities: Mapping[str, Any] | None = None,
        clock: VirtualClock | None = None,
        faults: FaultPlan | None = None,
        **options: Any,
    ) -> Runtime:
        """A Runtime that is closed when the test ends. `capabilities`: name -> CapabilityRecord, or a documented function.

        With `clock`, waits cost no time. `faults` is installed last. Other options are those of Runtime. Unless `config` names
        a `state_dir`, memory, queues and checkpoints begin empty in every test, and are those of nobody else.
        """
        from apxm.capability.record import CapabilityRecord, record_of
        from apxm.config import RuntimeConfig
        from apxm.runtime import Runtime

        config = config or RuntimeConfig()
        if config.state_dir is None:
            config = replace(config, state_dir=str(self._state))
        if clock is not None:
            options = {"clock": clock, "wall_clock": clock, "loop_factory": clock.new_event_loop, **options}
        runtime = Runtime(config, model=model, **options)
        self._made.append(runtime)
        for name, given in (capabilities or {}).items():
            record = given if isinstance(given, CapabilityRecord) else record_of(given)
            runtime.capability_system().register(name, record)
        if faults is not None:
            faults.install(runtime)
        return runtime

    def close(self) -> list[str]:
        """Close them all, the last one first; gives what they left behind."""
        for runtime in reversed(self._made):
            runtime.close()
        ours = [one for one in set(threading.enumerate()) - self._threads if one.name.startswith("apxm-")]
        until = monotonic() + LEFT_S
        for thread in ours:
            thread.join(max(0.0, until - monotonic()))
        if not any(thread.is_alive() for thread in ours):
            return []
        names = [name for runtime in self._made for name in runtime.capability_system().abandoned()]
        left = [f"an abandoned call of capability `{name}`, which does not return" for name in names]
        return left or [f"thread {thread.name}" for thread in ours if thread.is_alive()]


@pytest.fixture
def apxm_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Runtimes]:
    """Makes runtimes, closes them when the test ends, and fails it when they leave a thread or a call behind."""
    runtimes = _Runtimes(tmp_path_factory.getbasetemp() / "apxm-state" / token_hex(8))
    yield runtimes
    if left := runtimes.close():
        pytest.fail("\n".join([f"{LEFT_S:g} s after its runtimes were closed, the test leaves behind", *left]), pytrace=False)


@pytest.fixture
def fault_plan(request: pytest.FixtureRequest) -> Iterator[FaultPlan]:
    """A FaultPlan; fails the test when a planned fault did not happen. Seeded by the test's name and `--apxm-seed`."""
    from apxm.testing.faults import FaultPlan

    plan = FaultPlan(seed=crc32(f"{request.config.getoption('apxm_seed')} {request.node.nodeid}".encode()))
    yield plan
    said = [
        f"seed {plan.seed}; other chances: --apxm-seed N",
        *(f"{one.target}, call {one.call}: {one.fault}" for one in plan.log),
    ]
    request.node.add_report_section("teardown", "apxm faults", "\n".join(said))
    if not request.node.stash.get(_FAILED, False):
        plan.check()


# ---- snapshots -------------------------------------------------------------------------------------------------------
class _Session:
    """What one session knows of snapshots, to say at its end what was written and what no test needs any more."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._items: list[pytest.Item] = []
        self._passed: set[str] = set()
        self._files: SnapshotFiles | None = None

    @property
    def files(self) -> SnapshotFiles:
        if self._files is None:
            from apxm.testing.snapshots import SnapshotFiles

            self._files = SnapshotFiles(update=self._config.getoption("apxm_update_snapshots"))
        return self._files

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._items = list(items)  # before any are deselected

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        written, obsolete = self._files.written if self._files else [], self._obsolete()
        if written or obsolete:
            terminalreporter.section("apxm snapshots")
        for what, files in (("written", written), ("obsolete, delete it", obsolete)):
            for file in files:
                terminalreporter.line(f"{what}: {_shown(file, self._config)}")

    def _obsolete(self) -> list[Path]:
        """Looked for beside the tests that were collected, and only where there are snapshots at all."""
        has_any: dict[Path, bool] = {}
        tests: dict[Path, dict[str, bool]] = {}
        for item in self._items:
            folder = item.path.parent
            if folder not in has_any:
                has_any[folder] = (folder / "__snapshots__").is_dir()
            if has_any[folder]:
                tests.setdefault(item.path, {})[_key(item)] = item.nodeid in self._passed
        whole = not any("::" in argument for argument in self._config.args)
        return self.files.obsolete(tests, whole=whole) if tests else []


class _Snapshots:
    """What `trace_snapshot` gives."""

    def __init__(self, item: pytest.Item, files: SnapshotFiles) -> None:
        self._item, self._files = item, files
        self._taken: set[str] = set()

    def __call__(self, run: Any, name: str | None = None) -> None:
        """Compare a run (a traced result, its events, an error with a result, or a text) with what is kept beside the test.

        `name` tells several snapshots of one test apart; without one they are numbered.
        """
        __tracebackhide__ = True
        from apxm.testing.snapshots import SnapshotMismatch, folder_of, name_of, snapshot

        key = _key(self._item)
        if name is None:
            name = "" if not self._taken else str(len(self._taken) + 1)
        if name in self._taken:
            raise ValueError(f"this test has a snapshot {name!r} already")
        self._taken.add(name)
        file = folder_of(self._item.path) / f"{key}{'.' if name else ''}{name_of(name)}.trace"
        text = run if isinstance(run, str) else snapshot(run)
        try:
            self._files.compare(file, text, how=f": pytest {UPDATE} '{self._item.nodeid}'")
        except SnapshotMismatch as error:
            said = str(error)
        else:
            return
        pytest.fail(said, pytrace=False)


@pytest.fixture
def trace_snapshot(request: pytest.FixtureRequest) -> _Snapshots:
    """Compares a run with the text kept in `__snapshots__`: `trace_snapshot(result)`, of a run with RunOptions(trace=True)."""
    session = request.config.pluginmanager.get_plugin("apxm-session")
    assert isinstance(session, _Session)
    return _Snapshots(request.node, session.files)


def _key(item: pytest.Item) -> str:
    from apxm.testing.snapshots import name_of

    return name_of(item.nodeid.partition("::")[2] or item.name)


def _shown(file: Path, config: pytest.Config) -> str:
    root = config.rootpath
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


# ---- the network -----------------------------------------------------------------------------------------------------
_GUARD = pytest.StashKey["NetworkGuard"]()


def _guard_of(item: pytest.Item) -> NetworkGuard:
    from apxm.testing.network import NetworkGuard

    return NetworkGuard(f"the test {item.nodeid}", NETWORK_HINT)


def _refuses_network(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("no_network")
    if "no_network" in getattr(item, "fixturenames", ()):
        return True
    if marker is not None:
        return bool(marker.args[0] if marker.args else marker.kwargs.get("on", True))
    return bool(item.config.getini("apxm_no_network"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The guard is up for the whole of a test, its fixtures of any scope included."""
    if not _refuses_network(item):
        return (yield)
    with _guard_of(item) as guard:
        item.stash[_GUARD] = guard
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test whose fixtures hid a refusal."""
    return (yield from _settled(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test that hid a refusal."""
    return (yield from _settled(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test whose fixtures hid a refusal at its end."""
    return (yield from _settled(item))


def _settled(item: pytest.Item) -> Generator[None, object, object]:
    """A refusal that the code under test caught fails the test all the same."""
    guard = item.stash.get(_GUARD, None)
    try:
        value = yield
    except BaseException:
        item.stash[_FAILED] = True
        if guard is not None:
            guard.attempts.clear()  # the test failed already, most likely by this
        raise
    if guard is not None and (hidden := guard.hidden()) is not None:
        pytest.fail(hidden, pytrace=False)
    return value


@pytest.fixture
def no_network(request: pytest.FixtureRequest) -> Iterator[NetworkGuard]:
    """Refuses this test everything that would leave the machine. `attempts.clear()` accepts what was refused so far."""
    guard: NetworkGuard | None = request.node.stash.get(_GUARD, None)
    with ExitStack() as stack:
        if guard is None:  # asked for while the test runs
            guard = request.node.stash[_GUARD] = stack.enter_context(_guard_of(request.node))
        yield guard

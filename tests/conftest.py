"""What every test may ask for: the sizes of this run, and a seed that is printed and can be given again."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

settings.register_profile("apxm", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("apxm")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("apxm")
    group.addoption("--long", action="store_true", help="the sizes of a release instead of those of every day: hours")
    group.addoption("--seed", type=int, default=None, help="replay the random choices of an earlier run")


def pytest_configure(config: pytest.Config) -> None:
    if (shared := getattr(config, "workerinput", None)) is not None:
        config.option.seed = shared["seed"]
    elif config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Every process of a run that is shared out among several (`-n`) has the one seed that the header says."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_report_header(config: pytest.Config) -> str:
    sizes = "long" if config.option.long else "default"
    return f"apxm: {sizes} sizes; seed {config.option.seed} (again: --seed {config.option.seed})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """What a test or the command line inside it puts on the path is gone after it: processes of later tests search all of it."""
    before = sys.path[:]
    try:
        return (yield)
    finally:
        sys.path[:] = before


@pytest.fixture(scope="session", autouse=True)
def nobody_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the configuration or writes the state of the person who runs it, nor does a process that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session")
def long_run(request: pytest.FixtureRequest) -> bool:
    """Whether this run takes the sizes of a release."""
    return bool(request.config.option.long)


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run; the header of the report says it."""
    return int(request.config.option.seed)

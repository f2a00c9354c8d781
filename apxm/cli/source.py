"""What FILE is: an artifact, a graph as JSON, or a Python file that holds one. Runs nothing but the Python it is given."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, TypeAlias

from apxm.cli.text import spelling
from apxm.errors import ApxmError, GraphError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from apxm.artifact.format import Artifact
    from apxm.capability.record import CapabilityRecord
    from apxm.compiler.report import Report
    from apxm.graph.model import Graph, Program

    Authored: TypeAlias = Graph | Program

MAGIC = b"APXM"


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read. Exactly one of `artifact` and `authored` is set; `module` is that of a Python file."""

    path: Path
    kind: str
    artifact: Artifact | None = None
    authored: Authored | None = None
    module: ModuleType | None = None

    def compiled(self, offered: Mapping[str, CapabilityRecord] | None = None) -> Artifact:
        """The artifact in the file, or what compiles from its graph, knowing the capabilities that are offered."""
        return self.artifact if self.artifact is not None else self.compiled_report(1, offered or {})[0]

    def compiled_report(self, level: int, offered: Mapping[str, CapabilityRecord]) -> tuple[Artifact, Report]:
        """What compiles from the graph in the file, and what each pass did."""
        from apxm.artifact.format import CapabilityFacts
        from apxm.compiler.compile import compile_report

        if self.authored is None:
            raise InvalidError(f"{self.path} is an artifact already", hint="compile the graph that it was made from")
        facts = {name: CapabilityFacts(record.effect.value, record.parameters) for name, record in offered.items()}
        return compile_report(self.authored, level=level, capabilities=facts)


def load(spec: str) -> Source:
    """Read FILE, or `file.py:name` for one of several programs in a Python file."""
    path, name = _split(spec)
    head = _head(path)
    if head.startswith(MAGIC):
        from apxm.artifact.format import Artifact

        return Source(path, "artifact", artifact=Artifact.load(path))
    if path.suffix == ".py":
        module = _import_file(path)
        return Source(path, "python", authored=_pick(module, path, name), module=module)
    if head.lstrip()[:1] == b"{":
        return Source(path, "json", authored=_from_json(path))
    raise InvalidError(
        f"{path} is no program: it starts with {head[:8]!r}",
        hint="expected an artifact (starts with APXM), a graph as JSON (starts with {) or a Python file (.py)",
    )


def _split(spec: str) -> tuple[Path, str | None]:
    before, colon, after = spec.rpartition(":")
    if colon and before.endswith(".py"):
        return Path(before), after
    return Path(spec), None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except FileNotFoundError:
        folder = path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        raise InvalidError(f"there is no file {path}", hint=spelling(path.name, names)) from None
    except IsADirectoryError:
        raise InvalidError(f"{path} is a folder, expected a file") from None
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from None


def _from_json(path: Path) -> Authored:
    from apxm.graph.contract import read
    from apxm.graph.validate import validate_json

    text = json_bytes(path)
    authored, problems = read(text)
    if authored is None or problems:
        raise GraphError(f"{path} is not a valid graph", validate_json(text))
    return authored


def json_bytes(path: Path) -> bytes:
    """The bytes of a JSON file, or one more than are ever accepted."""
    from apxm.graph.contract import TEXT_BYTES_MAX

    with path.open("rb") as file:
        return file.read(TEXT_BYTES_MAX + 1)


def _import_file(path: Path) -> ModuleType:
    """Run a Python file, once, as a module named after it; its folder is importable meanwhile, as with `python FILE`."""
    place = path.resolve()
    name = path.stem if getattr(sys.modules.get(path.stem), "__file__", str(place)) == str(place) else f"apxm_file_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(place):
        return known
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(place.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _python_error(place, error) from (error if _further(place, error) else None)
    return module


def _further(path: Path, error: BaseException) -> bool:
    """Whether the cause of `error` lies in another file than `path`, so that naming the line of `path` does not say it all."""
    if isinstance(error, SyntaxError):
        return error.filename != str(path)
    ours = str(Path(__file__).resolve().parents[1])
    places = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    return [place for place in places if not place.startswith(ours)][-1:] != [str(path)]


def _python_error(path: Path, error: BaseException) -> InvalidError:
    where = f"{path}"
    number = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            number = trace.tb_lineno
        trace = trace.tb_next
    if number:
        where += f", line {number}"
    if isinstance(error, ApxmError):
        return InvalidError(f"{where}: {error}")
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return InvalidError(f"{where}: {type(error).__name__}: {said}")


def _pick(module: ModuleType, path: Path, name: str | None) -> Authored:
    from apxm.graph.model import Graph, Program

    found = {key: value for key, value in vars(module).items() if isinstance(value, Graph | Program) and not key.startswith("_")}
    if name is not None:
        if name in found:
            return found[name]
        raise InvalidError(f"{path} holds no program named `{name}`", hint=spelling(name, found))
    distinct = {id(value): value for value in found.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    if not found:
        raise InvalidError(f"{path} holds no program", hint="put a Graph, a Program or a function under @flow at its top level")
    raise InvalidError(
        f"{path} holds {len(distinct)} programs", hint="say which: " + ", ".join(f"{path}:{name}" for name in sorted(found))
    )


def offered(program: Source, specs: Sequence[str]) -> dict[str, CapabilityRecord]:
    """What the Python file of the program offers, and what every file and module in `specs` does."""
    found = dict(capabilities_of(program.module)) if program.module else {}
    for spec in specs:
        found |= capabilities(spec)
    return found


def capabilities(spec: str) -> dict[str, CapabilityRecord]:
    """CAPABILITIES of a Python file or an importable module."""
    if spec.endswith(".py"):
        _head(Path(spec))
        module = _import_file(Path(spec))
    else:
        try:
            module = importlib.import_module(spec)
        except ImportError as error:
            raise InvalidError(
                f"cannot import `{spec}`: {error}", hint="give a path that ends in .py, or an importable module"
            ) from None
        except Exception as error:
            raise InvalidError(f"importing `{spec}` failed: {type(error).__name__}: {error}") from error
    records = capabilities_of(module)
    if not records:
        raise InvalidError(f"{spec} offers no capabilities", hint="define CAPABILITIES = {name: CapabilityRecord(...)} in it")
    return records


def capabilities_of(module: ModuleType) -> dict[str, CapabilityRecord]:
    """What a module offers under CAPABILITIES, checked."""
    from apxm.capability.record import CapabilityRecord

    found = getattr(module, "CAPABILITIES", {})
    if not isinstance(found, dict):
        raise InvalidError(f"CAPABILITIES of {module.__name__} is a {type(found).__name__}, expected {{name: CapabilityRecord}}")
    for name, record in found.items():
        if not isinstance(name, str) or not isinstance(record, CapabilityRecord):
            raise InvalidError(
                f"CAPABILITIES[{name!r}] of {module.__name__} is a {type(record).__name__}, expected a CapabilityRecord"
            )
    return found

"""What the reviewers of the council look at a source tree with: a linter, a complexity meter, a search, test discovery.

Each gives findings: {tool, rule, path, line, severity, message}, the worst first, paths relative to the granted directory.
Nothing of the tree is imported or run.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import re2

from apxm import CapabilityError, CapabilityRecord, InvalidError
from apxm.capability.tools.beneath import candidates

FINDINGS_MAX = 500  # of one tool
FILES_MAX = 5_000
FILE_BYTES_MAX = 1_000_000  # a longer file is generated, or data
RUFF_S = 60
RUFF_RULES = "F,E9,B,S,PLE,PLW,RUF006,RUF012,ASYNC,SIM115,PERF,TRY002,UP032"
COMPLEX, VERY_COMPLEX = 10, 15  # cyclomatic complexity from which a function is worth a word, and worth a change
LONG = 60  # lines of code of a function
PARAMETERS = 8
QUOTED = 24  # lines behind that of a finding
SEVERITIES = ("high", "medium", "low")
SKIPPED = frozenset((".git", ".venv", "venv", "node_modules", "__pycache__", "build", "dist", ".tox", ".mypy_cache"))

_HIGH = ("F82", "F63", "F7", "E9", "S1", "S3", "S6", "S7", "B006", "B008", "B012", "B023", "PLE", "ASYNC")
_LOW = ("S101", "PERF", "UP", "SIM", "B905", "PLW2901", "S311", "S603", "S607")
# What a search for words finds that a linter does not, or not as such: rule -> severity, pattern, what to say.
_WORDS = {
    "unfinished": ("medium", r"#.*\b(TODO|FIXME|XXX|HACK)\b", "work that somebody left for later"),
    "debugger": ("high", r"^\s*(breakpoint\(\)|import pdb|from pdb import|pdb\.set_trace\(\))", "a debugger call"),
    "silenced": ("low", r"#\s*(noqa\b[^:]|noqa$|type:\s*ignore($|\s))", "a checker silenced without saying which rule"),
    "secret": (
        "high",
        r"""(?i)\b(password|passwd|secret|api_?key|token)\s*=\s*["'][^"'{}\s]{8,}["']""",
        "a secret in the source",
    ),
    "insecure": ("high", r"verify\s*=\s*False\b", "a certificate check that is turned off"),
}


def lint(folder: str = ".", *, roots: tuple[str, ...]) -> list[dict[str, Any]]:
    """Lint Python files with ruff: bugs, security, error-prone forms; no style."""
    ruff = shutil.which("ruff", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))))
    if ruff is None:
        raise CapabilityError("the linter ruff is not installed", hint='pip install "apxm[demo]"')
    root, top = _folder(folder, roots)
    command = [ruff, "check", "--isolated", "--no-cache", "--exit-zero", "--output-format=json"]
    command += [f"--select={RUFF_RULES}", "--per-file-ignores=test_*.py:S101", str(top)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=RUFF_S, check=False, cwd=root, env={"PATH": os.defpath})
    except subprocess.TimeoutExpired:
        raise CapabilityError(f"ruff did not finish {folder} within {RUFF_S} s") from None
    if done.returncode:
        raise CapabilityError(f"ruff failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    found = []
    for one in json.loads(done.stdout):
        rule = one["code"] or "syntax"
        severity = "low" if rule.startswith(_LOW) else "high" if rule.startswith(_HIGH) or rule == "syntax" else "medium"
        found.append(_finding("ruff", rule, Path(one["filename"]), root, one["location"]["row"], severity, one["message"]))
    return _worst(found)


def complexity(folder: str = ".", *, roots: tuple[str, ...]) -> list[dict[str, Any]]:
    """Measure functions with lizard: cyclomatic complexity, length, number of parameters."""
    import lizard  # type: ignore[import-untyped]

    root, top = _folder(folder, roots)
    found = []
    for path in _python_files(top):
        for function in lizard.analyze_file.analyze_source_code(str(path), _text(path)).function_list:
            paths, lines, parameters = function.cyclomatic_complexity, function.nloc, len(function.parameters)
            if paths >= COMPLEX:
                severity = "high" if paths >= VERY_COMPLEX else "medium"
                said = f"function `{function.name}` has {paths} independent paths (cyclomatic complexity)"
                found.append(_finding("lizard", "complexity", path, root, function.start_line, severity, said))
            if lines > LONG:
                said = f"function `{function.name}` has {lines} lines of code"
                found.append(_finding("lizard", "length", path, root, function.start_line, "medium", said))
            if parameters > PARAMETERS:
                said = f"function `{function.name}` takes {parameters} parameters"
                found.append(_finding("lizard", "parameters", path, root, function.start_line, "low", said))
    return _worst(found)


def search(folder: str = ".", *, roots: tuple[str, ...]) -> list[dict[str, Any]]:
    """Search for words that should not be in finished code. Patterns run in linear time."""
    root, top = _folder(folder, roots)
    patterns = [(rule, severity, re2.compile(pattern), said) for rule, (severity, pattern, said) in _WORDS.items()]
    found = []
    for path in _python_files(top):
        for number, line in enumerate(_text(path).splitlines(), 1):
            for rule, severity, pattern, said in patterns:
                if pattern.search(line):
                    found.append(_finding("search", rule, path, root, number, severity, f"{said}: {line.strip()[:120]}"))
    return _worst(found)


def untested(folder: str = ".", tests: str = "tests", *, roots: tuple[str, ...]) -> list[dict[str, Any]]:
    """Discover tests without running them: modules with public functions or classes that no test file imports."""
    root, top = _folder(folder, roots)
    _, under = _folder(tests, roots)
    imported: set[str] = set()
    for path in _python_files(under):
        imported |= _imports(_tree(path))
    found = []
    for path in _python_files(top):
        tree = _tree(path)
        public = [node.name for node in tree.body if isinstance(node, _DEFINITIONS) and not node.name.startswith("_")]
        if not public or _is_test(path) or path.is_relative_to(under):
            continue
        if not _is_imported(path, root, imported):
            said = f"no test imports this module; it defines {', '.join(f'`{name}`' for name in public[:4])}"
            severity = "medium" if len(public) > 2 else "low"
            found.append(_finding("tests", "untested", path, root, 1, severity, said))
    return _worst(found)


def quote(finding: dict[str, Any], *, roots: tuple[str, ...]) -> str:
    """The lines that a finding is about, numbered. Not what the tool said: it would only bear out itself."""
    _, path = _folder(finding["path"], roots, file=True)
    lines = _text(path).splitlines()
    shown = range(max(1, finding["line"] - 1), min(len(lines), finding["line"] + QUOTED) + 1)
    return "\n".join(f"{number}: {lines[number - 1].rstrip()[:160]}" for number in shown)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _folder(name: str, roots: tuple[str, ...], *, file: bool = False) -> tuple[Path, Path]:
    """The granted directory and what is meant beneath it."""
    for root, steps in candidates(name, roots):
        real = Path(root).resolve()
        path = real.joinpath(*steps)
        if path.is_file() if file else path.is_dir():
            if not path.resolve().is_relative_to(real):
                break
            return real, path
    kind = "file" if file else "folder"
    raise InvalidError(f"there is no {kind} {name!r}", hint=f"looked beneath {', '.join(roots)}")


def _python_files(top: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(one for one in folders if one not in SKIPPED)
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and not path.is_symlink() and path.stat().st_size <= FILE_BYTES_MAX:
                found.append(path)
        if len(found) > FILES_MAX:
            raise InvalidError(f"{top} has more than {FILES_MAX} Python files", hint="review a part of it")
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(_text(path))
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])  # the linter reports it


def _imports(tree: ast.Module) -> set[str]:
    """Every dotted name that a module imports, and what it imports from it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{one.name}" for one in node.names)
    return found


def _is_test(path: Path) -> bool:
    return path.name.startswith(("test_", "conftest")) or path.stem.endswith("_test")


def _is_imported(path: Path, root: Path, imported: set[str]) -> bool:
    """By its dotted name from any folder above it: nobody knows here which of them is on the path."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return any(".".join(parts[start:]) in imported for start in range(len(parts)))


def _finding(tool: str, rule: str, path: Path, root: Path, line: int, severity: str, message: str) -> dict[str, Any]:
    place = os.path.relpath(path, root)
    return {"tool": tool, "rule": rule, "path": place, "line": line, "severity": severity, "message": message}


def _worst(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found.sort(key=lambda one: (SEVERITIES.index(one["severity"]), one["path"], one["line"], one["rule"]))
    return found[:FINDINGS_MAX]


CAPABILITIES = {
    "ruff": CapabilityRecord("Lint Python files with ruff.", lint, effect="read", rooted=True, gives=True, timeout_ms=90_000),
    "complexity": CapabilityRecord(
        "Measure how complex functions are.", complexity, effect="read", rooted=True, gives=True, timeout_ms=90_000
    ),
    "search_code": CapabilityRecord(
        "Search source files for words.", search, effect="read", rooted=True, gives=True, timeout_ms=90_000
    ),
    "discover_tests": CapabilityRecord(
        "Find modules that no test imports.", untested, effect="read", rooted=True, gives=True, timeout_ms=90_000
    ),
    "quote": CapabilityRecord("Quote the lines of a finding.", quote, effect="read", rooted=True),
}

"""Real text that every machine has: the pages of our docs, by section, and the documentation strings of Python itself."""

from __future__ import annotations

import ast
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
BODY_CHARS_MIN = 80  # a shorter text says too little to be found by
_HEADING = re.compile(r"^#{1,4} +(.+)$", re.M)
_SENTENCE = re.compile(r"[.:!?](?:\s|$)|\n\s*\n")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that has a name, and a title that is no part of its body."""

    key: str
    title: str
    body: str


def sections() -> list[Document]:
    """The sections of docs/, and of the README."""
    found = []
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        parts = _HEADING.split(page.read_text(encoding="utf-8"))[1:]
        for number, (title, body) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
            if len(body.strip()) >= BODY_CHARS_MIN:
                found.append(Document(f"{page.relative_to(ROOT)}#{number}", title.strip(), body.strip()))
    return found


def docstrings() -> list[Document]:
    """What the modules of the standard library say of their functions and classes: the first sentence is the title."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Document] = {}
    for path in sorted(library.rglob("*.py")):
        module = path.relative_to(library).with_suffix("")
        if not {"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo"}.intersection(module.parts):
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
            for name, text in _documented(tree, ".".join(part for part in module.parts if part != "__init__")):
                title, body = _split(text)
                if len(body) >= BODY_CHARS_MIN:
                    found.setdefault(body, Document(name, title, body))
    return list({one.key: one for one in found.values()}.values())


def _documented(node: ast.AST, path: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{path}.{child.name}"
            if text := ast.get_docstring(child):
                yield name, text
            yield from _documented(child, name)


def _split(text: str) -> tuple[str, str]:
    end = _SENTENCE.search(text)
    return (text[: end.start() + 1].strip(), text[end.end() :].strip()) if end else (text, "")


def passages(count: int) -> list[str]:
    """Paragraphs of all of it, no two the same, at most `count`."""
    found: dict[str, None] = {}
    for one in [*sections(), *docstrings()]:
        for paragraph in f"{one.title}\n\n{one.body}".split("\n\n"):
            if len(paragraph) >= BODY_CHARS_MIN:
                found[paragraph.strip()] = None
    return list(found)[:count]

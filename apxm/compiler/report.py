"""What every pass did, and where it declined and why: what `apxm compile --explain` prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NOTES_MAX = 1_000  # per pass and kind: a report is read by a person


@dataclass(frozen=True, slots=True)
class Note:
    """One thing done or declined, at one node."""

    flow: str
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.flow}: `{self.node}`: {self.text}"


@dataclass(slots=True)
class PassLog:
    """What one pass did. `counts` has all of it, `did` and `declined` the first NOTES_MAX notes each."""

    name: str
    safe_when: str
    did: list[Note] = field(default_factory=list)
    declined: list[Note] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"did": 0, "declined": 0})

    def do(self, flow: str, node: str, text: str) -> None:
        """Note something that was done."""
        self._note("did", self.did, Note(flow, node, text))

    def decline(self, flow: str, node: str, text: str) -> None:
        """Note something that was not done, with the reason."""
        self._note("declined", self.declined, Note(flow, node, text))

    def _note(self, kind: str, notes: list[Note], note: Note) -> None:
        self.counts[kind] += 1
        if len(notes) < NOTES_MAX:
            notes.append(note)


@dataclass(frozen=True, slots=True)
class Report:
    """What the compiler did to a program."""

    name: str
    level: int
    passes: tuple[PassLog, ...]
    nodes_before: int
    nodes_after: int

    def to_map(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "name": self.name,
            "level": self.level,
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "passes": [
                {
                    "name": log.name,
                    "safe_when": log.safe_when,
                    "counts": dict(log.counts),
                    "did": [{"flow": n.flow, "node": n.node, "text": n.text} for n in log.did],
                    "declined": [{"flow": n.flow, "node": n.node, "text": n.text} for n in log.declined],
                }
                for log in self.passes
            ],
        }

    def lines(self) -> list[str]:
        """The report for a person, line by line."""
        lines = [f"{self.name}: O{self.level}, {self.nodes_before} nodes written, {self.nodes_after} compiled"]
        for log in self.passes:
            lines.append(f"{log.name}: did {log.counts['did']}, declined {log.counts['declined']} (safe when {log.safe_when})")
            lines.extend(f"  + {note}" for note in log.did)
            lines.extend(f"  - {note}" for note in log.declined)
        return lines

"""What a run or an agent may call. Says nothing about what exists."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Grants:
    """Names of capabilities, some with directories beneath which they may work. Equal grants are equal keys of a cache."""

    names: frozenset[str] = frozenset()
    rooted: tuple[tuple[str, str], ...] = ()  # (name, absolute directory), in the order given

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Grants:
        """From `name` and `name=ROOT`; a relative ROOT is taken from the working directory of now."""
        names: set[str] = set()
        rooted: dict[tuple[str, str], None] = {}
        for text in texts:
            name, equals, root = text.partition("=")
            name = name.strip()
            if not name or (equals and not root.strip()):
                raise InvalidError(f"{text!r} is no grant", hint="write `name`, or `name=DIRECTORY` for `read`, `list`, `write`")
            names.add(name)
            if equals:
                rooted[name, os.path.abspath(os.path.expanduser(root.strip()))] = None
        return cls(frozenset(names), tuple(rooted))

    def allows(self, name: str) -> bool:
        return name in self.names

    def roots(self, name: str) -> tuple[str, ...]:
        """The directories granted with this name, in the order given."""
        return tuple(root for granted, root in self.rooted if granted == name)

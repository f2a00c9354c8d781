"""What a run or an agent may call. Says nothing about what exists."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


WRITABLE = ":rw"  # at the end of a directory that code may change as it likes, links included: `bash=DIR:rw`


@dataclass(frozen=True, slots=True)
class Grants:
    """Names of capabilities, some with a scope: a directory, a host. Equal grants are equal keys of a cache."""

    names: frozenset[str] = frozenset()
    scoped: tuple[tuple[str, str], ...] = ()  # (name, what stands behind the `=`), in the order given
    rooted: tuple[tuple[str, str], ...] = ()  # the same as (name, absolute directory)
    bounds: frozenset[str] | None = None  # the only names there may be, those that need no grant included; None: any

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Grants:
        """From `name` and `name=SCOPE`; a relative directory is taken from the working directory of now."""
        names: set[str] = set()
        scoped: dict[tuple[str, str], None] = {}
        rooted: dict[tuple[str, str], None] = {}
        for text in texts:
            name, equals, root = text.partition("=")
            name = name.strip()
            if not name or (equals and not root.strip()):
                raise InvalidError(
                    f"{text!r} is no grant", hint="write `name`, or `name=SCOPE`: a directory for `read`, a host for `http_get`"
                )
            names.add(name)
            if equals:
                scoped[name, root.strip()] = None
                rooted[name, os.path.abspath(os.path.expanduser(root.strip()))] = None
        _refuse_replaceable(rooted)
        return cls(frozenset(names), tuple(scoped), tuple(rooted))

    def allows(self, name: str) -> bool:
        return name in self.names

    def roots(self, name: str) -> tuple[str, ...]:
        """The directories granted with this name, in the order given."""
        return tuple(root for granted, root in self.rooted if granted == name)

    def scopes(self, name: str) -> tuple[str, ...]:
        """What was granted with this name behind the `=`, as it was written."""
        return tuple(scope for granted, scope in self.scoped if granted == name)

    def admits(self, name: str) -> bool:
        """Whether a capability that needs no grant may be used: all of them, unless there are bounds."""
        return self.bounds is None or name in self.bounds

    def only(self, names: Collection[str]) -> Grants:
        """The part of these grants that is about `names`."""
        return Grants(
            self.names & frozenset(names),
            tuple(pair for pair in self.scoped if pair[0] in names),
            tuple(pair for pair in self.rooted if pair[0] in names),
            self.bounds,
        )

    def within(self, names: Collection[str]) -> Grants:
        """These grants for somebody who said to use nothing but `names`: not even what needs no grant."""
        part, wanted = self.only(names), frozenset(names)
        bounds = wanted if self.bounds is None else wanted & self.bounds
        return Grants(part.names, part.scoped, part.rooted, bounds)

    def joined(self, other: Grants) -> Grants:
        """What either of the two allows."""
        bounds = None if self.bounds is None or other.bounds is None else self.bounds | other.bounds
        scoped, rooted = dict.fromkeys((*self.scoped, *other.scoped)), dict.fromkeys((*self.rooted, *other.rooted))
        if self.rooted and other.rooted:
            _refuse_replaceable(rooted)
        return Grants(self.names | other.names, tuple(scoped), tuple(rooted), bounds)


def _refuse_replaceable(rooted: Iterable[tuple[str, str]]) -> None:
    """InvalidError for a granted directory inside of one that code may change: it could put a link in its place."""
    places = [(name, root, os.path.realpath(root.removesuffix(WRITABLE))) for name, root in rooted]
    for outer, root, above in places:
        for inner, given, place in places if root.endswith(WRITABLE) else ():
            if place.startswith(f"{above.rstrip('/')}/"):
                raise InvalidError(
                    f"`{inner}={given}` lies in `{outer}={root}`, where code may put a link in its place",
                    hint="grant directories beside each other, or the outer one without `:rw`",
                )

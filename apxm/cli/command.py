"""What a command is: its options as data, from which parser, help and reference page derive. Parses; runs nothing.

On argparse, not on typer: a typer command starts 130 ms later, more than a small program runs. See docs/adr/0004-argparse.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Option:
    """One option (`--name`) or argument (`file`) of a command.

    An option without `metavar` is a flag. `type` converts the text. `repeat` collects every value in a list: of an argument,
    one or more. An argument
    that is `optional` may be left out.
    """

    name: str
    help: str
    metavar: str | None = None
    short: str | None = None
    type: Callable[[str], Any] = str
    default: Any = None
    choices: tuple[Any, ...] | None = None
    repeat: bool = False
    optional: bool = False

    @property
    def is_argument(self) -> bool:
        """It stands alone, without a name in front."""
        return not self.name.startswith("-")

    @property
    def label(self) -> str:
        """How help and the reference write it."""
        if self.is_argument:
            return f"[{self.metavar}]" if self.optional else f"{self.metavar}{'...' if self.repeat else ''}"
        names = [self.name, self.short] if self.short else [self.name]
        return ", ".join(f"{name} {self.metavar}" if self.metavar else name for name in names)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it says about itself, its options, and the function that carries it out and gives the exit code."""

    name: str
    summary: str
    details: str
    options: tuple[Option, ...]
    run: Callable[[argparse.Namespace], int]

    @property
    def usage(self) -> str:
        """`apxm run FILE [FLOW] [options]`."""
        return " ".join(["apxm", self.name, *(option.label for option in self.options if option.is_argument), "[options]"])

    def parse(self, given: Sequence[str]) -> argparse.Namespace:
        """What was typed. InvalidError for what is not understood; SystemExit after `--help`."""
        parser = self._parser()
        parsed, unknown = parser.parse_known_intermixed_args(list(given))
        if unknown:
            from apxm.cli.text import spelling

            names = [option.name for option in self.options if not option.is_argument]
            wrong = next((word for word in unknown if word.startswith("-")), None)
            if wrong is not None:
                asked = wrong.partition("=")[0]
                places = [option for option in self.options if option.is_argument]
                bare = next((one for one in places if asked in (f"--{one.name}", f"-{one.name[0]}")), None)
                hint = f"{bare.metavar} is given without one: {self.usage}" if bare is not None else spelling(asked, names)
                raise InvalidError(f"`apxm {self.name}` has no option `{wrong}`", hint=hint)
            raise InvalidError(f"`apxm {self.name}` takes no argument `{unknown[0]}`", hint=f"usage: {self.usage}")
        return parsed

    def _parser(self) -> argparse.ArgumentParser:
        parser = _Parser(
            prog=f"apxm {self.name}",
            usage=self.usage,
            description=f"{self.summary}\n\n{self.details}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for option in self.options:
            _add(parser, option)
        return parser


class _Parser(argparse.ArgumentParser):
    """Complains by InvalidError, so that a mistake in the command line is said like every other error."""

    def error(self, message: str) -> NoReturn:
        raise InvalidError(f"{self.prog}: {message}", hint=f"usage: {self.usage}; `{self.prog} --help` explains")


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    if option.is_argument:
        nargs = "?" if option.optional else "+" if option.repeat else None
        parser.add_argument(option.name, metavar=option.metavar, help=option.help, nargs=nargs)
        return
    names = [option.name, option.short] if option.short else [option.name]
    if option.metavar is None:
        parser.add_argument(*names, action="store_true", help=option.help)
        return
    parser.add_argument(
        *names,
        metavar=option.metavar,
        help=option.help,
        type=option.type,
        default=[] if option.repeat else option.default,
        choices=option.choices,
        action="append" if option.repeat else "store",
    )


JSON = Option("--json", "one JSON object on standard output, for errors too")

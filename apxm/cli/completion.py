"""`apxm completion`: a script that lets a shell complete commands, options and values. The shell needs no Python to use it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apxm.cli import flags
from apxm.cli.command import Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable

HELP = Option("--help", "show what the command does and its options", short="-h")
REPEATED_MAX = 16  # places of an argument that repeats, as bash knows them
_PATHS = ("FILE", "FOLDER", "DIR", "PATH", "OUT")  # a value whose placeholder says one of these is a file


@dataclass(frozen=True, slots=True)
class Words:
    """What a shell needs to know: the first words with what they do, and the commands by name."""

    first: dict[str, str]
    second: dict[str, dict[str, str]]
    commands: dict[str, Command]


def collect(commands: Iterable[Command]) -> Words:
    """The words of some commands; a group such as `ops` is a first word that others follow."""
    known = {command.name: command for command in commands}
    first: dict[str, str] = {}
    second: dict[str, dict[str, str]] = {}
    for name, command in known.items():
        head, _, rest = name.partition(" ")
        if rest:
            second.setdefault(head, {})[rest] = command.summary
            first[head] = ", ".join(second[head])
        else:
            first[head] = command.summary
    return Words(first, second, known)


def is_path(option: Option) -> bool:
    """Whether its value is a file or folder; `NAME[=FOLDER]` only ends in one."""
    label = option.metavar or ""
    return "=" not in label and any(word in _PATHS for word in re.findall("[A-Z]+", label))


def options_of(command: Command) -> list[Option]:
    """Everything that begins with a dash."""
    return [option for option in command.options if not option.is_argument] + [HELP]


def arguments_of(command: Command) -> list[Option]:
    """Everything that stands alone, in order."""
    return [option for option in command.options if option.is_argument]


def names_of(option: Option) -> list[str]:
    """`--out` and `-o`."""
    return [option.name, option.short] if option.short else [option.name]


def _all_names(options: Iterable[Option]) -> list[str]:
    return [name for option in options for name in names_of(option)]


# ---- bash ------------------------------------------------------------------------------------------------------------
_BASH = """\
# Completion of apxm for bash. In ~/.bashrc: source <(apxm completion bash)
_apxm() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} name=${COMP_WORDS[1]} word
    local -i at start=2 place=0
    local -a words=() options=() takes=() files=() arguments=()
    COMPREPLY=()
    # readline splits --option=value into three words
    if [[ $cur == = ]]; then cur=''
    elif [[ $prev == = ]] && ((COMP_CWORD > 2)); then prev=${COMP_WORDS[COMP_CWORD - 2]}; fi
    case $name in
        %(groups)s) if ((COMP_CWORD > 2)); then name="$name ${COMP_WORDS[2]}" start=3; fi ;;
    esac
    if ((COMP_CWORD == 1)); then
        words=(%(first)s)
    else
        case $name in
%(cases)s
        esac
        if [[ " ${takes[*]} " == *" $prev "* ]]; then
            # without a reply, readline offers files, and quotes them
            if [[ " ${files[*]} " == *" $prev "* ]]; then return; fi
            case "$name $prev" in
%(choices)s
                *) ;;
            esac
        elif [[ $cur == -* ]]; then
            words=("${options[@]}")
        elif ((${#words[@]} == 0)); then
            for ((at = start; at < COMP_CWORD; at++)); do
                word=${COMP_WORDS[at]}
                if [[ $word == = ]]; then at+=1
                elif [[ " ${takes[*]} " == *" $word "* ]]; then
                    if [[ ${COMP_WORDS[at + 1]} != = ]]; then at+=1; fi
                elif [[ $word != -* ]]; then place+=1; fi
            done
            if [[ ${arguments[place]-} == FILE ]]; then return; fi
            case "$name $place" in
%(values)s
                *) ;;
            esac
        fi
    fi
    compopt +o default 2>/dev/null
    for word in "${words[@]}"; do
        if [[ $word == "$cur"* ]]; then COMPREPLY+=("$(printf %%q "$word")"); fi
    done
}
complete -o default -F _apxm apxm
"""


def bash(known: Words) -> str:
    """The script for bash 4 and newer."""
    cases = [f"            {shlex.quote(head)}) words=({_bash_words(tails)}) ;;" for head, tails in known.second.items()]
    after_options, in_places = [], []
    for name, command in known.commands.items():
        takes = [option for option in options_of(command) if option.metavar]
        parts = {
            "options": _all_names(options_of(command)),
            "takes": _all_names(takes),
            "files": _all_names(filter(is_path, takes)),
            "arguments": [word for option in arguments_of(command) for word in _bash_places(option)],
        }
        said = " ".join(f"{part}=({_bash_words(words)})" for part, words in parts.items() if any(words))
        cases.append(f"            {shlex.quote(name)}) {said} ;;")
        after_options += [_bash_case(f"{name} {each}", option) for option in takes for each in names_of(option)]
        in_places += [_bash_case(f"{name} {place}", option) for place, option in enumerate(arguments_of(command))]
    return _BASH % {
        "groups": "|".join(map(shlex.quote, known.second)) or "''",
        "first": _bash_words(["--help", "--version", *known.first]),
        "cases": "\n".join(cases),
        "choices": "\n".join(filter(None, after_options)),
        "values": "\n".join(filter(None, in_places)),
    }


def _bash_case(when: str, option: Option) -> str:
    found = flags.choices(option)
    return f"                {shlex.quote(when)}) words=({_bash_words(found)}) ;;" if found else ""


def _bash_places(option: Option) -> list[str]:
    """What the places of an argument are for: `FILE`, or what its case says."""
    return ["FILE" if is_path(option) else ""] * (REPEATED_MAX if option.repeat else 1)


def _bash_words(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))


# ---- zsh -------------------------------------------------------------------------------------------------------------
_ZSH = """\
#compdef apxm
# Completion of apxm for zsh. In ~/.zshrc, behind compinit: source <(apxm completion zsh)
_apxm() {
    local name=$words[2]
    local -a found
    if ((CURRENT == 2)); then
        found=(%(first)s)
        _describe command found
        return
    fi
    case $name in
%(groups)s
    esac
    shift words
    ((CURRENT--))
    case $name in
%(cases)s
    esac
}
if [[ $funcstack[1] == _apxm ]]; then _apxm "$@"; else compdef _apxm apxm; fi
"""
_ZSH_GROUP = """\
        %(head)s)
            if ((CURRENT == 3)); then found=(%(tails)s); _describe command found; return; fi
            name="$name $words[3]"
            shift words
            ((CURRENT--)) ;;"""


def zsh(known: Words) -> str:
    """The script for zsh."""
    groups = [_ZSH_GROUP % {"head": shlex.quote(head), "tails": _zsh_described(tails)} for head, tails in known.second.items()]
    cases = []
    for name, command in known.commands.items():
        specs = [spec for option in options_of(command) for spec in _zsh_option(option)]
        specs += [_zsh_argument(place, option) for place, option in enumerate(arguments_of(command), 1)]
        lines = " \\\n".join(f"                {shlex.quote(spec)}" for spec in specs)
        cases.append(f"        {shlex.quote(name)})\n            _arguments \\\n{lines} ;;")
    script = {"first": _zsh_described(known.first), "groups": "\n".join(groups), "cases": "\n".join(cases)}
    return _ZSH % script


def _zsh_described(words: dict[str, str]) -> str:
    return " ".join(shlex.quote(f"{_zsh_escaped(word)}:{summary}") for word, summary in words.items())


def _zsh_option(option: Option) -> list[str]:
    names = names_of(option)
    others = "*" if option.repeat else f"({' '.join(names)})" if len(names) > 1 else ""
    end = f":{_zsh_escaped(option.metavar)}:{_zsh_action(option)}" if option.metavar else ""
    joint = {True: "=", False: "+"}
    return [
        f"{others}{name}{joint[name.startswith('--')] if option.metavar else ''}[{_zsh_escaped(option.help)}]{end}"
        for name in names
    ]


def _zsh_argument(place: int, option: Option) -> str:
    where = "*" if option.repeat else f"{place}"
    return f"{where}:{':' if option.optional else ''}{_zsh_escaped(option.metavar or option.name)}:{_zsh_action(option)}"


def _zsh_action(option: Option) -> str:
    if is_path(option):
        return "_files"
    found = flags.choices(option)
    return f"({' '.join(_zsh_escaped(shlex.quote(value)) for value in found)})"  # without words: nothing, and nothing said


def _zsh_escaped(text: str) -> str:
    for special in "\\:[]":
        text = text.replace(special, f"\\{special}")
    return text


# ---- fish ------------------------------------------------------------------------------------------------------------
_FISH = """\
# Completion of apxm for fish. As a file: apxm completion fish > ~/.config/fish/completions/apxm.fish
function __apxm_at -d 'whether the words before the cursor begin the command line with these'
    set -l words (commandline -opc)
    test (count $words) -gt (count $argv); or return 1
    test (count $argv) -eq 0; and test (count $words) -eq 1; and return 0
    test (count $argv) -gt 0; and test "$words[2..$(math (count $argv) + 1)]" = "$argv"
end
function __apxm_ends -d 'whether nothing stands between these words and the cursor'
    set -l words (commandline -opc)
    test (count $words) -eq (math (count $argv) + 1); and __apxm_at $argv
end
complete -c apxm -f
"""


def fish(known: Words) -> str:
    """The script for fish 3.4 and newer."""
    lines = [_fish_line("__apxm_ends", _fish_words([word]), summary) for word, summary in known.first.items()]
    lines += ["complete -c apxm -n __apxm_ends -l version -d 'show the version'"]
    lines += ["complete -c apxm -n __apxm_ends -l help -d 'list the commands'"]
    for head, tails in known.second.items():
        lines += [_fish_line(f"__apxm_ends {head}", _fish_words([word]), summary) for word, summary in tails.items()]
    for name, command in known.commands.items():
        lines += [_fish_option(f"__apxm_at {name}", option) for option in options_of(command)]
        lines += [_fish_argument(f"__apxm_at {name}", option) for option in arguments_of(command)]
    return _FISH + "\n".join(line for line in lines if line) + "\n"


def _fish_line(when: str, end: str, about: str) -> str:
    return f"complete -c apxm -n {_fish_quoted(when)} {end} -d {_fish_quoted(about)}"


def _fish_words(words: Iterable[str]) -> str:
    """What follows -a: fish reads it as a command line once more, so its words are quoted twice."""
    return f"-a {_fish_quoted(' '.join(map(_fish_quoted, words)))}"


def _fish_option(when: str, option: Option) -> str:
    names = [
        f"-l {_fish_quoted(name[2:])}" if name.startswith("--") else f"-s {_fish_quoted(name[1:])}" for name in names_of(option)
    ]
    found = flags.choices(option)
    if option.metavar:
        names.append("-r -F" if is_path(option) else f"-x {_fish_words(found)}" if found else "-x")
    return _fish_line(when, " ".join(names), option.help)


def _fish_argument(when: str, option: Option) -> str:
    found = flags.choices(option)
    if is_path(option):
        return f"complete -c apxm -n {_fish_quoted(when)} -F"
    return _fish_line(when, _fish_words(found), option.help) if found else ""


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return text if text.replace("_", "").replace("-", "").isalnum() else f"'{escaped}'"


# ---- the command -----------------------------------------------------------------------------------------------------
SHELLS: dict[str, Callable[[Words], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def completion(order: Namespace) -> int:
    """Print the script of one shell; the exit code."""
    from apxm.cli import report
    from apxm.cli.main import COMMANDS as ALL
    from apxm.cli.main import command
    from apxm.cli.text import spelling
    from apxm.errors import InvalidError

    if order.shell not in SHELLS:
        raise InvalidError(f"there is no completion for the shell `{order.shell}`", hint=spelling(order.shell, SHELLS))
    report.emit(SHELLS[order.shell](collect(map(command, ALL))))
    return Exit.OK


COMMANDS = {
    "completion": Command(
        "completion",
        "Print a script that completes apxm in bash, zsh or fish.",
        "Load it where your shell starts; for bash: source <(apxm completion bash). The script says how for the others.",
        (Option("shell", "bash, zsh or fish", "SHELL", choices=tuple(SHELLS)),),
        completion,
    )
}

"""What looks like a secret, or is known to be one, is blacked out of a text before it is kept.

A net, no wall: it knows the secrets that the settings of this process refer to, and the shapes of common ones. A secret that
looks like any other word stays. Every pattern takes linear time, whatever the text.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BLACK = "[redacted]"
KNOWN_CHARS_MIN = 6  # a shorter known secret would black out half of every text

# Keys with a prefix that says whose they are. One without a digit is a name: `sk-learn-contrib-extras`.
_KEYS = (
    r"\b(?:sk|rk|pk)-[A-Za-z0-9_\-]{16,}",
    r"\b(?:sk|rk|pk|whsec)_(?:live|test|prod)?_?[A-Za-z0-9]{16,}",
    r"\bgh[opsru]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bgl(?:pat|cbt|ptt|rt|soat)-[A-Za-z0-9_\-]{16,}",
    r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}",
    r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_\-]{30,}",
    r"\bya29\.[A-Za-z0-9_\-]{20,}",
    r"\b(?:hf|gsk|r8|npm|dop_v1|tvly|xai|pplx|nvapi|pypi)[_-][A-Za-z0-9_\-]{20,}",
    r"\bSG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}",
    r"\b(?i:bearer|basic|token)[ \t]+[A-Za-z0-9._~+/\-]{16,}=*",
)
_JWT = r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?"
_PEM = r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)"
_HEADER = r"(?im)^([ \t>]*(?:(?:proxy-)?authorization|x-api-key|(?:set-)?cookie)[ \t]*:[ \t]*)\S.*$"
_ADDRESS = r"(\b[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s/:@\"'<>]*:)[^\s/@\"'<>]+(@)"
# `name = value`, `"name": "value"`, and that inside of a JSON text. Names of passwords come first: they need no digit.
_PASSWORD = r"pass(?:word|wd|phrase|code)|pwd"
_NAMED = (
    rf"(?i)(\b[A-Za-z0-9_.\-]{{0,60}}(?:({_PASSWORD})|api[_-]?key|access[_-]?key(?:[_-]?id)?|(?:secret|private|signing|encryption)[_-]?key"
    r"|token|secret|credentials?|authorization|cookie)"
    r"(?:\\*[\"'])?\s*(?:=>|[:=])\s*)"
    r"(\\+\"(?:[^\"\\]|\\+[^\"\\])*|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s,;&\"'{}\[\]()<>]+)"
)


class Redactor:
    """Blacks out. `secrets` gives those that are known; it is asked for every text, for they may become known at any time."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        self._secrets = secrets
        self._spellings: dict[str, tuple[str, ...]] = {}

    def __call__(self, text: str) -> str:
        known = sorted((one for one in self._secrets() if len(one) >= KNOWN_CHARS_MIN), key=len, reverse=True)
        for secret in known:
            for spelling in self._spelled(secret):
                text = text.replace(spelling, BLACK)
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")
        for pattern, put in _patterns():
            text = pattern.sub(put, text)
        return text

    def _spelled(self, secret: str) -> tuple[str, ...]:
        """A secret as it is, in JSON and in an address."""
        found = self._spellings.get(secret)
        if found is None:
            import json
            from urllib.parse import quote

            several = (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe=""))
            found = self._spellings[secret] = tuple(dict.fromkeys(several))
        return found


@cache
def _patterns() -> tuple[tuple[Any, Callable[[Any], str]], ...]:
    import re2

    return (
        (re2.compile(_PEM), lambda _: BLACK),
        (re2.compile(_HEADER), lambda found: f"{found.group(1)}{BLACK}"),
        (re2.compile(_ADDRESS), lambda found: f"{found.group(1)}{BLACK}{found.group(2)}"),
        (re2.compile(_JWT), lambda _: BLACK),
        (re2.compile("|".join(f"(?:{key})" for key in _KEYS)), _key),
        (re2.compile(_NAMED), _named),
    )


def _key(found: Any) -> str:
    whole: str = found.group()
    return BLACK if any(one.isdigit() for one in whole) else whole


def _named(found: Any) -> str:
    """The name, and its value blacked out within its quotes; a plain word after a colon is no secret, unless of a password."""
    name, password, value = found.groups()
    bare = value[0] not in "\\\"'"
    if value.strip("\\\"'") in ("", BLACK, "null", "None", "true", "false"):
        return str(found.group())
    if bare and not password and "=" not in name[-3:] and not any(one.isdigit() for one in value):
        return str(found.group())
    if bare:
        return f"{name}{BLACK}"
    opened = value[: len(value) - len(value.lstrip("\\\"'"))]
    closed = value[-1] if value[-1] == opened[-1] and len(value) > len(opened) else ""
    return f"{name}{opened}{BLACK}{closed}"

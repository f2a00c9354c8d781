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
_HEADER = r"(?im)^([ \t>]*(?:(?:(?:proxy-)?authorization|x-api-key)[ \t]*:[ \t]*|(?:set-)?cookie[ \t]*:[ \t]*[^\s=;,]+=))\S.*$"
_SCHEME = (
    r"(?i)(\b(?:proxy-)?authorization(?:\\*[\"'])?\s*[:=]\s*(?:\\*[\"'])?(?:basic|bearer|token|digest|negotiate|apikey|bot)\s+)"
    r"[^\s\"'\\,;]+"
)
_HOOK = r"(?i)(\bhooks\.slack\.com/[a-z]{1,20}/|\bdiscord(?:app)?\.com/api/webhooks/|[?&]sig=)[A-Za-z0-9/_\-%+.=~]+"
_ADDRESS = r"(\b[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s/:@\"'<>]*:)[^\s/@\"'<>]+(@)"
# `name = value`, `"name": "value"`, and that inside of a JSON text. Names of passwords come first: they need no digit.
_PASSWORD = r"pass(?:word|wd|phrase|code)|pwd"
_OTHERS = (
    r"api[_ \-]?key|(?:access|account)[_-]?key(?:[_-]?id)?|(?:secret|private|signing|encryption)[_-]?key"
    r"|token|secret|credentials?|authorization|cookie"
)
_NAME = rf"[A-Za-z0-9_.\-]{{0,60}}(?:({_PASSWORD})|{_OTHERS})"
_QUOTED = r"\\+\"(?:[^\"\\]|\\+[^\"\\])*|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?"
_NAMED = rf"(?i)(\b{_NAME}(?:\\*[\"'])?\s*(?:=>|[:=])\s*[\[({{]*)([bru]{{0,2}}(?:{_QUOTED})|[^\s,;&\"'{{}}\[\]()<>]+)"
_BLOCKS = ("|", ">", "|-", ">-", "|+", ">+")  # that begin one in YAML
# The same as a list of several, an argument of a command, a pair, an element, a block of YAML.
_LISTED = rf"(?i)(\b{_NAME}(?:\\*[\"'])?\s*(?:=>|[:=])\s*\[)([^\[\]]*[\"'][^\[\]]*)\]"
_ARGUMENT = rf"(?i)(\B--?{_NAME}(?:[ \t]+[\"']?|\\*[\"'],\s*\\*[\"']))([^\s\"'\\,\-][^\s\"'\\,]*)"
_PAIR = rf"(?i)([\[(]\s*[bru]{{0,2}}\\*[\"']{_NAME}\\*[\"']\s*,\s*)([bru]{{0,2}}(?:{_QUOTED}))\s*,?\s*[\])]"
_ELEMENT = rf"(?i)(<(?:[A-Za-z0-9_.\-]{{1,40}}:)?{_NAME}(?:\s[^<>]*)?>)([^<>]+)</"
_BLOCK = rf"(?im)^([ \t\-]*[\"']?{_NAME}[\"']?[ \t]*:[ \t]*[|>][+\-0-9]{{0,3}}[ \t]*\n)((?:[ \t]+\S.*\n?|[ \t]*\n)+)"


class Redactor:
    """Blacks out. `secrets` gives those that are known; it is asked for every text, for they may become known at any time."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        self._secrets = secrets
        self._spellings: dict[str, tuple[str, ...]] = {}

    def __call__(self, text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")
        known = sorted((one for one in self._secrets() if len(one) >= KNOWN_CHARS_MIN), key=len, reverse=True)
        for secret in known:
            for spelling in self._spelled(secret):
                text = text.replace(spelling, BLACK)
        for pattern, put in _patterns():
            text = pattern.sub(put, text)
        return text

    def _spelled(self, secret: str) -> tuple[str, ...]:
        """A secret as it is, in capitals and without, in JSON, in an address, and as bytes are written."""
        found = self._spellings.get(secret)
        if found is None:
            import json
            from urllib.parse import quote

            data = secret.encode("utf-8", "replace")
            plain = data.decode("utf-8")
            several = (
                plain, plain.upper(), plain.lower(), json.dumps(secret)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1],
                quote(plain, safe=""), data.hex(), data.hex().upper(), *_in_base64(data),
            )  # fmt: skip
            found = self._spellings[secret] = tuple(dict.fromkeys(several))
        return found


def _in_base64(data: bytes) -> list[str]:
    """What of it does not depend on its neighbours, at each of the three places where bytes may begin."""
    from base64 import b64encode, urlsafe_b64encode

    found = []
    for before in range(3):
        padded = bytes(before) + data
        whole = slice(-(-before * 8 // 6), len(padded) * 8 // 6)
        found += [encode(padded).decode()[whole] for encode in (b64encode, urlsafe_b64encode)]
    return [one for one in found if len(one) >= KNOWN_CHARS_MIN]


@cache
def _patterns() -> tuple[tuple[Any, Callable[[Any], str]], ...]:
    import re2

    return (
        (re2.compile(_PEM), lambda _: BLACK),
        (re2.compile(_SCHEME), lambda found: f"{found.group(1)}{BLACK}"),
        (re2.compile(_HEADER), lambda found: f"{found.group(1)}{BLACK}"),
        (re2.compile(_HOOK), lambda found: f"{found.group(1)}{BLACK}"),
        (re2.compile(_ADDRESS), lambda found: f"{found.group(1)}{BLACK}{found.group(2)}"),
        (re2.compile(_JWT), lambda _: BLACK),
        (re2.compile("|".join(f"(?:{key})" for key in _KEYS)), _key),
        (re2.compile(_BLOCK), _block),
        (re2.compile(_LISTED), lambda found: f"{found.group(1)}{BLACK}]"),
        *((re2.compile(one), _enclosed) for one in (_ARGUMENT, _PAIR, _ELEMENT)),
        (re2.compile(_NAMED), _named),
    )


def _key(found: Any) -> str:
    whole: str = found.group()
    return BLACK if any(one.isdigit() for one in whole) else whole


def _named(found: Any) -> str:
    """The name, and its value blacked out within its quotes; a plain word after a colon is no secret, unless of a password."""
    name, password, value = found.groups()
    quotes = value.lstrip("bruBRU")
    bare = not quotes or quotes[0] not in "\\\"'"
    if value.strip("\\\"'") in ("", BLACK, BLACK[1:-1], "null", "None", "true", "false", *_BLOCKS):
        return str(found.group())
    if bare and not password and "=" not in name[-4:] and not any(one.isdigit() for one in value):
        return str(found.group())
    return f"{name}{BLACK}" if bare else f"{name}{_within_quotes(value)}"


def _within_quotes(value: str) -> str:
    """The quotes of a value, with nothing but black between them."""
    quoted = value.lstrip("bruBRU")
    opened = quoted[: len(quoted) - len(quoted.lstrip("\\\"'"))]
    closed = value[-1] if value[-1] == opened[-1] and len(quoted) > len(opened) else ""
    return f"{value[: len(value) - len(quoted)]}{opened}{BLACK}{closed}"


def _enclosed(found: Any) -> str:
    """What has its value in the second of its parts: blacked out, unless it is a word like any other and no password."""
    whole, (name, password, value) = str(found.group()), found.groups()
    if not value.strip() or not (password or value[-1:] in "\"'" or any(one.isdigit() for one in value)):
        return whole
    black = _within_quotes(value) if value[-1] in "\"'" else BLACK
    return f"{name}{black}{whole[len(name) + len(value) :]}"


def _block(found: Any) -> str:
    """The lines that are indented as the first one is."""
    name, _, text = found.groups()
    lines = text.splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    count = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith(indent)), len(lines))
    end = "\n" if lines[count - 1].endswith("\n") else ""
    return f"{name}{indent}{BLACK}{end}{''.join(lines[count:])}"

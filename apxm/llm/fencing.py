"""Text from elsewhere inside a prompt: marked so that it cannot pass for the prompt, and found again. Fills in nothing."""

from __future__ import annotations

import re
from hashlib import sha256
from unicodedata import normalize

BLOCKS_MAX = 100  # openings looked at in one prompt
_BLOCK = re.compile(r"^<(?P<tag>(?P<name>[a-z]{1,40})(?:-[0-9a-f]{16})?)>$", re.MULTILINE)


def fence(name: str, text: str) -> str:
    """`text` between `<name>` and `</name>`, each on a line of its own; `name` is a word in lower case.

    A text that holds such a tag itself, or what a reader may take for one (`</ NAME >`), gets one that depends on all of it,
    so that nothing in it can end the block.
    """
    tag = name if not _resembles(name, text) else f"{name}-{sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return f"<{tag}>\n{text}\n</{tag}>"


def _resembles(name: str, text: str) -> bool:
    """Whether a part of a text looks like a tag: in other letters, with blanks or what nobody sees in between."""
    plain = text.lower() if text.isascii() else normalize("NFKC", text).lower()
    seen = "".join(filter(str.isprintable, "".join(plain.split())))
    return any(part in seen for part in (f"<{name}", f"/{name}", f"{name}>"))


def fenced(text: str) -> dict[str, str]:
    """The blocks of a prompt by name, the first of each name; what stands inside of a block is none."""
    return parted(text)[1]


def parted(text: str) -> tuple[str, dict[str, str]]:
    """A prompt without its blocks, and the blocks as `fenced` has them."""
    around: list[str] = []
    found: dict[str, str] = {}
    at = 0
    for _ in range(BLOCKS_MAX):
        opening = _BLOCK.search(text, at)
        if opening is None:
            break
        end = text.find(f"\n</{opening['tag']}>", opening.end())
        if end < 0:
            around.append(text[at : opening.end()])
            at = opening.end()
            continue
        found.setdefault(opening["name"], text[opening.end() + 1 : end])
        around.append(text[at : opening.start()])
        at = end + len(f"\n</{opening['tag']}>")
    return "".join([*around, text[at:]]), found

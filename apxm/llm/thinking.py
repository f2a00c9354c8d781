"""Thinking that a model writes into its answer: tells the two apart. Reads text only."""

from __future__ import annotations

import re

_TAGS = "think|thinking|thought|thoughts|reasoning"
_OPENING = re.compile(rf"\s*<(?:{_TAGS})>", re.IGNORECASE)
_CLOSING = re.compile(rf"</(?:{_TAGS})>", re.IGNORECASE)
_ALONE = re.compile(rf"^</(?:{_TAGS})>[ \t]*$", re.IGNORECASE | re.MULTILINE)


def split_thinking(text: str) -> tuple[str, str]:
    """(thinking, answer) of a text. Linear in its length.

    Thinking is `<think>…</think>` at the very beginning, once or several times in a row, up to the first closing tag each.
    Where the model was handed the opening tag, only the closing one is there, on a line of its own: all before it is
    thinking. A text that ends before its thinking does has no answer. Tags further on belong to the answer.
    """
    thought: list[str] = []
    at = 0
    while opening := _OPENING.match(text, at):
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            return "\n".join([*thought, text[opening.end() :].strip()]), ""
        thought.append(text[opening.end() : closing.start()].strip())
        at = closing.end()
    if not thought and (closing := _ALONE.search(text)):
        thought.append(text[: closing.start()].strip())
        at = closing.end()
    return "\n".join(thought), text[at:].strip() if thought else text

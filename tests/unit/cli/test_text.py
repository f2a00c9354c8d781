from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apxm.cli.text import as_json, as_text, count, duration, line, printable, spelling


def test_text_is_said_as_it_stands_and_anything_else_as_json() -> None:
    assert as_text('say "x"\n') == 'say "x"\n'
    assert json.loads(as_text({"a": [1, True, None]})) == {"a": [1, True, None]}


def test_bytes_and_arrays_have_a_json_form() -> None:
    said = json.loads(as_json({"raw": b"\x00\x01", "grid": np.array([[1, 2], [3, 4]], dtype=np.int32)}))
    assert said == {"raw": {"base64": "AAE="}, "grid": {"dtype": "int32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}}


def test_numbers_that_json_cannot_say_become_text() -> None:
    assert json.loads(as_json(np.array([1.0, float("nan"), float("inf")])))["data"] == [1.0, "nan", "inf"]


def test_control_characters_of_a_program_do_not_reach_the_terminal() -> None:
    assert printable("a\udcffb") == "a\\udcffb"
    assert printable("a\x1b[2Jb\x07\tc\n\x9b") == "a\\x1b[2Jb\\x07\tc\n\\x9b"


@given(st.text())
def test_printable_text_has_no_control_character_but_tab_and_newline(text: str) -> None:
    left = {letter for letter in printable(text) if ord(letter) < 32 or 127 <= ord(letter) < 160}
    assert left <= {"\t", "\n"}


@given(st.text(), st.integers(1, 80))
def test_a_line_fits_its_width(text: str, width: int) -> None:
    short = line(text, width)
    assert len(short) <= width
    assert "\n" not in short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0031, "3 ms"), (1.25, "1.25 s"), (12.34, "12.3 s"), (125, "2 m 05 s"), (3725, "1 h 02 m")],
)
def test_durations_have_two_or_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_is_singular() -> None:
    assert (count(1, "node"), count(2, "node"), count(1200, "entry", "entries")) == ("1 node", "2 nodes", "1,200 entries")


def test_a_hint_is_the_nearest_spelling_else_what_there_is() -> None:
    assert spelling("topc", ["topic", "limit"]) == "did you mean `topic`?"
    assert spelling("zzz", ["topic", "limit"]) == "there are: `limit`, `topic`"
    assert spelling("zzz", []) == "there are none"
    assert spelling("zzz", map(str, range(11))).endswith("`8`, …")

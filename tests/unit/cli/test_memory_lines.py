"""Entries as JSON lines: what comes back is what was written, and what is no such line is refused with its number."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apxm.cli import memory_lines
from apxm.cli.memory_lines import entry_line, header_line, read
from apxm.errors import InvalidError
from apxm.memory.ltm.entry import Entry, Put
from apxm.values import digest

ENTRY = Entry(
    "0" * 32, "default", "k", "entry", "v", "text", {"lang": "en", "tags": ["a", "b"]}, ("web",), 1.5, 1795288448.5619535, None, 7
)


def lines(*entries: Entry) -> bytes:
    return "".join(f"{line}\n" for line in [header_line({"name": "hashing"}), *map(entry_line, entries)]).encode()


def puts(data: bytes) -> list[Put]:
    return [found.put for found in read(io.BytesIO(data))]


def refused(data: bytes) -> str:
    with pytest.raises(InvalidError) as error:
        puts(data)
    return str(error.value)


def changed(**fields: Any) -> bytes:
    """A good file whose one entry has these fields; a field that is `...` is not there."""
    said = {**json.loads(entry_line(ENTRY)), **fields}
    kept = {name: value for name, value in said.items() if value is not ...}
    return lines() + json.dumps(kept).encode()


# ---- what comes back -------------------------------------------------------------------------------------------------
def test_an_entry_comes_back_whole() -> None:
    (found,) = read(io.BytesIO(lines(ENTRY)))
    assert found.number == 2
    assert found.put == Put(
        "default", "k", "v", "text", "entry", {"lang": "en", "tags": ["a", "b"]}, ("web",), None, 1.5, 1795288448.5619535
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.text(st.characters(codec="utf-8")), st.floats(0, 1e11))
def test_every_value_comes_back_with_its_type(value: Any, text: str, at: float) -> None:
    one = replace(ENTRY, value=value, text=text, key=f"k{text}", created_at=at)
    data = lines(one)
    assert data.count(b"\n") == 2
    (put,) = puts(data)
    assert digest(put.value) == digest(value)
    assert (put.text, put.key, put.created_at) == (text, f"k{text}", at)


@pytest.mark.parametrize("dtype", ["b1", "i1", "u8", "f2", "f8", "c16"])
def test_an_array_comes_back(dtype: str) -> None:
    (put,) = puts(lines(replace(ENTRY, value={"in": [np.arange(6).reshape(2, 3).astype(dtype)]})))
    (array,) = put.value["in"]
    assert (array.dtype, array.shape, array.tolist()) == (
        np.dtype(dtype),
        (2, 3),
        np.arange(6).reshape(2, 3).astype(dtype).tolist(),
    )


def test_what_json_can_say_is_written_as_json() -> None:
    assert json.loads(entry_line(replace(ENTRY, value={"a": [1, 1.0, None]})))["value"] == {"a": [1, 1.0, None]}
    assert "packed" in json.loads(entry_line(replace(ENTRY, value=[b""])))


def test_a_blank_line_and_a_last_one_without_an_end_are_no_matter() -> None:
    assert len(puts(lines(ENTRY).rstrip(b"\n"))) == 1
    assert len(puts(lines() + b"\n  \n" + lines(ENTRY).splitlines()[1])) == 1


# ---- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "line 1 is no JSON"),
        (b"\x89PNG\r\n\x1a\n", "line 1 is no UTF-8: invalid start byte at byte 0"),
        (b"[]\n", "line 1 is no JSON object, and no header of exported memory"),
        (b'{"event": "RunStarted"}\n', "line 1 is no header of exported memory"),
        (b'{"apxm_memory": 2, "embedder": null}\n', "line 1 is of version 2 of this form, expected 1"),
        (b'{"apxm_memory": true, "embedder": null}\n', "of version True"),
        (b'{"apxm_memory": 1}\n', "line 1 is a header with `apxm_memory`, expected"),
        (b'{"apxm_memory": 1, "embedder": "x"}\n', "is a header with"),
        (b'{"apxm_memory": 1, "embedder": null, "more": 1}\n', "is a header with `apxm_memory`, `embedder`, `more`"),
        (lines(ENTRY) + b'{"a": 1}\n', "line 3 has `a`, expected `created_at`"),
        (lines(ENTRY) + b"{}\n", "line 3 has nothing in it"),
        (lines(ENTRY) + b"\xff\n", "line 3 is no UTF-8"),
        (lines(ENTRY) + b'{"a": \n', "line 3 is no JSON: Expecting value at character"),
        (lines(ENTRY) + b"[" * 100_000, "line 3 is no JSON that can be read"),
        (lines(ENTRY) + b"9" * 10_000, "line 3 is no JSON that can be read"),
    ],
)
def test_what_is_no_export_is_refused_with_its_line(data: bytes, expected: str) -> None:
    assert expected in refused(data)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"value": ...}, "and `value` or `packed`"),
        ({"packed": "wA=="}, "and `value` or `packed`"),
        ({"value": ..., "packed": "not base64"}, "`packed` that is no base64"),
        ({"value": ..., "packed": 3}, "`packed` that is no base64"),
        ({"value": ..., "packed": "3q2+7w=="}, "`packed` that is no value"),
        ({"value": 2**70}, "cannot be stored"),
        ({"value": float("nan")}, "cannot be stored"),
        ({"value": "\ud800"}, "cannot be stored"),
        ({"namespace": 3}, "namespace 3 is not a text"),
        ({"key": None}, "memory key None is not a text"),
        ({"kind": "thing"}, "no kind 'thing', expected entry or fact"),
        ({"kind": ["entry"]}, "no kind ['entry']"),
        ({"text": ["x"]}, "the text is not a text"),
        ({"metadata": []}, "`metadata` [], expected a map"),
        ({"labels": "web"}, "`labels` 'web', expected a list of texts"),
        ({"labels": [1]}, "the labels are not"),
        ({"metadata": {"a": {"b": 1}}}, "expected a text, a number"),
        ({"created_at": None}, "`created_at` None, expected Unix time"),
        ({"created_at": True}, "`created_at` True, expected Unix time"),
        ({"updated_at": float("inf")}, "cannot be stored"),
        ({"updated_at": float("nan")}, "cannot be stored"),
        ({"expires_at": "tomorrow"}, "`expires_at` 'tomorrow', expected Unix time"),
        ({"expires_at": 10**400}, "cannot be stored"),
        ({"seq": 7}, "line 2 has `created_at`, `expires_at`"),
    ],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], expected: str) -> None:
    assert (said := refused(changed(**fields))).startswith("line 2 ")
    assert expected in said


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_lines, "LINE_BYTES_MAX", 400)
    assert len(puts(lines(ENTRY))) == 1

    class Endless(io.RawIOBase):
        given = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= 401
            self.given += 1
            return lines() if self.given == 1 else b"x" * size

    with pytest.raises(InvalidError, match="line 2 is longer than 400 bytes"):
        list(read(Endless()))  # type: ignore[arg-type]

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from apxm.capability.record import CapabilityRecord, record_of
from apxm.errors import CapabilityError, InvalidError
from apxm.graph.ops import Effect


def plain(a: int, b: str = "x") -> str:
    """Join them.

    More about it.
    """
    return f"{a}{b}"


async def later(a: int) -> int:
    return a


def generator() -> Any:
    yield 1


def test_a_capability_that_does_not_say_is_guarded_and_has_half_a_minute() -> None:
    record = CapabilityRecord("Join", plain)
    assert record.effect is Effect.GUARDED
    assert record.timeout_ms == 30_000
    assert not record.repeatable


@pytest.mark.parametrize(
    ("fn", "effect", "run"),
    [(later, "guarded", "inline"), (later, "pure", "inline"), (plain, "pure", "inline"), (plain, "read", "thread")],
)
def test_where_it_runs_follows_from_what_it_is(fn: Any, effect: str, run: str) -> None:
    assert CapabilityRecord("x", fn, effect=effect).run == run


def test_only_a_plain_pure_function_is_for_the_run_loop_itself() -> None:
    assert CapabilityRecord("x", plain, effect="pure").inline_pure
    assert not CapabilityRecord("x", plain, effect="pure", run="thread").inline_pure
    assert not CapabilityRecord("x", later, effect="pure").inline_pure
    assert not CapabilityRecord("x", plain, effect="read", run="inline").inline_pure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effect": "harmless"}, "has the effect 'harmless', expected one of pure, read, idempotent, paid, guarded"),
        ({"run": "cluster"}, "run='cluster', expected inline, thread, process"),
        ({"timeout_ms": 0}, "timeout_ms=0"),
        ({"timeout_ms": "1"}, "timeout_ms='1'"),
        ({"run": "process", "rooted": True}, "works beneath granted directories"),
        ({"parameters": {"properties": {"c": {}}}}, "property `c`"),
        ({"result": {"type": "nope"}}, "the result of capability `plain`"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError) as refused:
        CapabilityRecord("x", plain, **options)
    assert message in str(refused.value)


@pytest.mark.parametrize("fn", [3, None, "no.such.module:f", "os.path:nothing", "os"])
def test_what_is_no_function_is_refused(fn: Any) -> None:
    with pytest.raises(InvalidError):
        CapabilityRecord("x", fn)


def test_arguments_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(InvalidError, match=r"CapabilityRecord\(description, fn\)"):
        CapabilityRecord(plain, "x")  # type: ignore[arg-type]


def test_an_async_function_runs_inline_only() -> None:
    with pytest.raises(InvalidError, match="async"):
        CapabilityRecord("x", later, run="thread")


@pytest.mark.parametrize("fn", [lambda: 1, partial(plain, 1)], ids=["lambda", "partial"])
def test_a_process_needs_a_function_that_it_can_import(fn: Any) -> None:
    with pytest.raises(InvalidError, match="cannot import it"):
        CapabilityRecord("x", fn, run="process")


def test_a_name_of_a_function_means_a_process() -> None:
    record = CapabilityRecord("x", "os.path:basename")
    assert (record.run, record.target) == ("process", "os.path:basename")
    assert record.signature.order == ("p",)


def test_a_result_that_was_not_promised_is_refused() -> None:
    record = CapabilityRecord("x", plain).registered("join", builtin=False)
    assert record.confirm("text") == "text"
    with pytest.raises(CapabilityError, match=r"capability `join` returned 3 \(int\), expected str"):
        record.confirm(3)
    strict = CapabilityRecord("x", plain, result={"type": "string", "maxLength": 2}).registered("join", builtin=False)
    with pytest.raises(CapabilityError, match="result of capability `join` does not fit its schema"):
        strict.confirm("long")


def test_it_describes_itself_as_json() -> None:
    described = record_of(plain, effect="read").registered("join", builtin=False).describe()
    assert described == {
        "name": "join",
        "description": "Join them.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "required": ["a"],
            "additionalProperties": False,
        },
        "result": {"type": "string"},
        "effect": "read",
        "run": "thread",
        "timeout_ms": 30_000,
        "builtin": False,
        "streams": False,
        "approval": False,
        "keyed": False,
    }


def test_a_record_can_be_registered_under_two_names() -> None:
    record = CapabilityRecord("x", plain)
    assert [record.registered(name, builtin=False).name for name in ("a", "b")] == ["a", "b"]
    assert record.name == ""

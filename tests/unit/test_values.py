from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import numpy as np
import pytest

from apxm.errors import ValueRefused
from apxm.values import DEPTH_MAX, SCALARS, check, digest, pack, same, settle, unpack

if TYPE_CHECKING:
    from collections.abc import Callable


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


class Pair(NamedTuple):
    left: int
    right: list[int]


@dataclass
class Thing:
    size: int


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [None, True, 0, -(2**70), 1.5, float("nan"), "text", b"\x00"])
def test_a_scalar_settles_to_itself(value: Any) -> None:
    assert type(value) in SCALARS
    assert settle(value) is value


def test_lists_and_maps_are_copied_at_every_depth() -> None:
    inner = {"b": [1, 2]}
    value = [inner, inner["b"]]
    safe = settle(value)
    inner["b"].append(3)
    assert safe == [{"b": [1, 2]}, [1, 2]]


def test_tuples_and_subclasses_of_containers_become_plain_lists_and_maps() -> None:
    safe = settle({"pair": Pair(1, [2]), "ordered": OrderedDict(a=(1,))})
    assert safe == {"pair": [1, [2]], "ordered": {"a": [1]}}
    assert type(safe["pair"]) is list
    assert type(safe["ordered"]) is dict


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Name("x"), "x"),
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
    ],
)
def test_what_is_only_dressed_up_as_something_else_becomes_the_plain_scalar(value: Any, plain: Any) -> None:
    for safe in (settle(value), settle([value])[0]):
        assert type(safe) is type(plain)
        assert safe == plain


@pytest.mark.parametrize("value", [{1, 2}, Thing(1), Path("x"), object(), 1j, np.longdouble(1), np.ma.array([1]), len])
def test_what_no_token_carries_is_refused_with_its_type(value: Any) -> None:
    with pytest.raises(ValueRefused, match=type(value).__name__):
        settle(value)
    with pytest.raises(ValueRefused, match=type(value).__name__):
        check([value])


def test_a_refusal_names_the_node_and_the_path_inside_the_value() -> None:
    with pytest.raises(ValueRefused) as refused:
        settle({"files": [1, 2, 3, {4}]}, where="node `read`")
    assert str(refused.value).startswith('node `read`: the value at ["files"][3] is a set')
    assert refused.value.code == "value"


def test_a_long_path_is_cut_in_the_middle() -> None:
    with pytest.raises(ValueRefused) as refused:
        settle([[[[[[[[[[[[[[[[object()]]]]]]]]]]]]]]]])
    assert "[0]…[0]" in str(refused.value)


def test_keys_are_str() -> None:
    for act in (settle, check):
        with pytest.raises(ValueRefused, match=r'at \["a"\] is a map with the key 1 of type int'):
            act({"a": {1: 2}})


@pytest.mark.parametrize("act", [settle, check])
def test_depth_is_bounded_and_a_list_inside_itself_is_refused(act: Any) -> None:
    act(nested(DEPTH_MAX))
    with pytest.raises(ValueRefused, match="deep"):
        act(nested(DEPTH_MAX + 1))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueRefused, match="contain itself"):
        act(loop)


@pytest.mark.parametrize("good", [2**63 - 1, -(2**63), 1e308, "ä", {"ä": [None, b"\xff"]}])
def test_the_border_lets_through_what_has_an_encoding(good: Any) -> None:
    check(good)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (float("nan"), "nan"),
        (float("-inf"), "inf"),
        ("\ud800", "Unicode"),
        ({"\ud800": 1}, "Unicode"),
        ((1, 2), "tuple"),
        (True and np.float64(1), "float64"),
    ],
)
def test_the_border_refuses_what_has_none(bad: Any, why: str) -> None:
    with pytest.raises(ValueRefused, match=why):
        check(bad, "node `n`")
    with pytest.raises(ValueRefused, match=r"node `n`: the value at \[0\] "):
        check([bad], "node `n`")
    with pytest.raises(ValueRefused):
        pack(bad)


# --- arrays and tensors -------------------------------------------------------------------------------------------------


def test_an_array_is_settled_as_a_read_only_copy() -> None:
    array = np.arange(3)
    safe = settle(array)
    array[0] = 9
    assert safe.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        safe[0] = 1


def test_a_settled_array_and_its_views_are_not_copied_again() -> None:
    safe = settle(np.arange(6))
    assert settle(safe) is safe
    assert settle(view := safe[1:3]) is view
    assert settle(decoded := unpack(pack(safe))) is decoded


def test_a_read_only_view_of_a_writable_array_is_copied() -> None:
    array = np.arange(3)
    view = array[:2]
    view.setflags(write=False)
    safe = settle(view)
    array[0] = 9
    assert safe.tolist() == [0, 1]


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.array([1], "M8[s]"), np.zeros(1, [("a", "i4")])])
def test_arrays_of_other_things_than_numbers_are_refused(array: Any) -> None:
    for act in (settle, check):
        with pytest.raises(ValueRefused, match="dtype"):
            act([array])


ARRAYS = [
    np.array(3.5),
    np.zeros((0, 3), "i2"),
    np.arange(24).reshape(2, 3, 4)[:, ::2, ::-1],
    np.asfortranarray(np.arange(6, dtype="f2").reshape(2, 3)),
    np.array([True, False]),
    np.array([1, 2], ">i4"),
    np.array([1 + 2j], "c8"),
    np.array([np.nan, np.inf]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays_survive_the_encoding(array: Any) -> None:
    back = unpack(pack({"a": [array]}))["a"][0]
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


@pytest.fixture
def torch() -> Any:
    """Not imported with this file: that takes every process of the tests two seconds."""
    return pytest.importorskip("torch")


TENSORS: dict[str, Callable[[Any], Any]] = {
    "a number": lambda torch: torch.tensor(3.5),
    "empty": lambda torch: torch.zeros(0, 3),
    "strided": lambda torch: torch.arange(24).reshape(2, 3, 4)[:, ::2].transpose(0, 1),
    "bool": lambda torch: torch.tensor([True, False]),
    "float16": lambda torch: torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bfloat16": lambda torch: torch.tensor([1.5, -2.0], dtype=torch.bfloat16).reshape(2, 1).t(),
    "conjugate": lambda torch: torch.tensor([1 + 2j]).conj(),
    "with a gradient": lambda torch: torch.ones(2, requires_grad=True),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_survive_the_encoding(torch: Any, kind: str) -> None:
    tensor = TENSORS[kind](torch)
    back = unpack(pack({"t": [tensor]}))["t"][0]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor.detach().resolve_conj())


def test_a_sparse_tensor_is_refused(torch: Any) -> None:
    with pytest.raises(ValueRefused, match="sparse"):
        settle(torch.eye(2).to_sparse())


def test_tensors_are_compared_by_type_and_content(torch: Any) -> None:
    one = torch.tensor([1])
    assert same(one, torch.tensor([1]))
    for other in (torch.tensor([1.0]), np.array([1])):
        assert not same(one, other)
        assert not same(other, one)
        assert digest(one) != digest(other)
    assert digest(one) == digest(torch.tensor([1]))


# --- encoding -----------------------------------------------------------------------------------------------------------


def test_a_map_of_a_user_is_never_taken_for_an_array() -> None:
    value = {"array": ["<i8", [1], b"12345678"], "tensor": ["int8", [0], b""]}
    assert unpack(pack(value)) == value
    assert unpack(pack({"array": value["array"]})) == {"array": value["array"]}


def packed(value: Any) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


HOSTILE = {
    "nothing": b"",
    "reserved byte": b"\xc1",
    "more after the value": b"\x01\x02",
    "cut short": packed([1, 2, 3])[:-1],
    "an extension": packed(msgpack.ExtType(1, b"x")),
    "an empty extension": b"\xc7\x00\x01",
    "a timestamp": packed(msgpack.Timestamp(1)),
    "an int key": packed({1: 2}),
    "a list as key": b"\x81\x91\x01\x01",
    "a key twice": b"\x82\xa1a\x01\xa1a\x02",
    "nan": packed(float("nan")),
    "an integer of 64 bits without sign": packed(2**64 - 1),
    "no UTF-8": b"\xa1\xff",
    "a length that is not there": b"\xdd\xff\xff\xff\xff",
    "too deep": b"\x91" * 200 + b"\xc0",
    "much too deep": b"\x91" * 5000 + b"\xc0",
    "a bytes key": packed({b"other": ["<i8", [0], b""]}),
    "a bytes key among others": packed({b"array": ["<i8", [0], b""], "a": 1}),
    "an array of the wrong size": packed({b"array": ["<i8", [2], b"12345678"]}),
    "an array of objects": packed({b"array": ["|O8", [1], b"12345678"]}),
    "an array of a format": packed({b"array": ["<i4,<i4", [1], b"12345678"]}),
    "an array that overflows": packed({b"array": ["<i8", [2**62, 2**62, 0], b""]}),
    "an array of negative size": packed({b"array": ["<i8", [-1], b""]}),
    "an array of many dimensions": packed({b"array": ["<i8", [1] * 70, b"12345678"]}),
    "an array whose shape is no list": packed({b"array": ["<i8", "1", b"12345678"]}),
    "a tensor of another kind": packed({b"tensor": ["save", [1], b"1"]}),
    "a tensor of the wrong size": packed({b"tensor": ["int8", [2], b"1"]}),
    "a tensor of half an element": packed({b"tensor": ["int16", [1], b"1"]}),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(ValueRefused):
        unpack(data)


# --- comparing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (None, None),
        ([1, [2.0]], [1.0, [2]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (float("inf"), float("inf")),
    ],
)
def test_equal_values_are_the_same_both_ways(left: Any, right: Any) -> None:
    assert same(left, right)
    assert same(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (True, 1),
        (False, 0.0),
        (False, None),
        ("true", True),
        ("1", 1),
        (b"a", "a"),
        ([1], [True]),
        ([1], [1, 2]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": None}, {"b": None}),
        ([], {}),
        (np.array([1]), np.array([True])),
        (np.array([1]), np.array([[1]])),
        (np.array([1]), [1]),
        (float("nan"), float("nan")),
    ],
)
def test_different_values_are_not_the_same_either_way(left: Any, right: Any) -> None:
    assert not same(left, right)
    assert not same(right, left)


def test_a_digest_goes_by_type_and_content_and_not_by_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert len(digest(None)) == 32
    several = [None, True, 1, 1.0, "1", b"1", [1], {"1": 1}, np.array([1]), np.array([[1]])]
    assert len({digest(value) for value in several}) == len(several)


def test_a_digest_of_something_else_is_refused() -> None:
    with pytest.raises(ValueRefused):
        digest([object()])

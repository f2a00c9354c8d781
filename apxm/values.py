"""What a token may carry, how it is made safe once, checked at a border, compared and encoded. Nothing is ever pickled."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from types import NoneType
from typing import Any, TypeAlias

from apxm.errors import InvalidError, ValueRefused

SCALARS: frozenset[type] = frozenset((NoneType, bool, int, float, str, bytes))
PARTS_MAX = 10_000_000  # items of all containers together, each as often as it would be written
DEPTH_MAX = 100  # containers within containers; also what stops a list that contains itself
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
# numpy's spelling, without the byte order; encoded arrays are little-endian
ARRAY_DTYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"))
TENSOR_DTYPES = frozenset(
    ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128")
)

# A map of ours in the encoding has one bytes key. Maps of users have str keys only, so nothing can be mistaken for it.
_ARRAY, _TENSOR = b"array", b"tensor"
_CARRIED = "null, bool, int, float, str, bytes, list, map with str keys, numpy array, torch tensor"

_CONTAINERS = (dict, list, tuple)

Trail: TypeAlias = tuple["Trail", int | str] | None  # where we are inside a value, innermost step last


def settle(value: Any, *, where: str = "") -> Any:
    """Make what a handler gave safe to emit: nobody else can change it afterwards.

    Scalars pass. Lists, tuples and maps become new lists and maps, arrays read-only copies unless they already are
    read-only all the way down; tensors stay as they are. Subclasses of scalars, numpy scalars and bytearrays become the
    plain value. Ranges of numbers are not looked at here: `check` does that at a border.
    """
    if type(value) in SCALARS:
        return value
    return _settled(value, None, 0, where)


def check(value: Any, where: str = "") -> None:
    """Refuse what may not leave a process or a run: NaN, infinities, integers past 64 bits, text that is not Unicode."""
    refuse_vast(value, where)
    _checked(value, None, 0, where)


def refuse_vast(value: Any, where: str = "") -> None:
    """InvalidError `limit` for a value that would have more than PARTS_MAX parts if it were written down.

    Lists that hold one list twice take no memory until somebody does: thirty steps make a thousand million parts of one.
    """
    if not isinstance(value, _CONTAINERS):
        return
    left, here = PARTS_MAX, [value]
    for _ in range(DEPTH_MAX + 1):  # what is deeper is refused for that
        below: list[Any] = []
        for one in here:
            left -= len(one)
            if left < 0:
                whose = f"{where}: " if where else ""
                text = f"{whose}the value has more than {PARTS_MAX:,} parts"
                raise InvalidError(text, code="limit", hint="does it double itself?")
            items = one.values() if isinstance(one, dict) else one
            if not SCALARS.issuperset(map(type, items)):
                below += [item for item in items if isinstance(item, _CONTAINERS)]
        here = below


def pack(value: Any) -> bytes:
    """Checked msgpack bytes of a value; maps keep their order."""
    check(value)
    return _packed(value)


def unpack(data: bytes | bytearray | memoryview) -> Any:
    """The value behind `pack`ed bytes, from whoever they come. ValueRefused for anything else. Arrays are read-only views."""
    import msgpack

    try:
        value = msgpack.unpackb(
            data, raw=False, strict_map_key=True, max_ext_len=0, ext_hook=_no_extension, object_pairs_hook=_revived
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise ValueRefused(f"these {len(data)} bytes are no encoded value: {str(error) or type(error).__name__}") from error
    check(value, "decoded bytes")
    return value


def digest(value: Any) -> bytes:
    """32 bytes that name a value by type and content; the order of map keys does not count. 1 and 1.0 differ."""
    return blake2b(_packed(_sorted(value)), digest_size=32).digest()


def same(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1, 1 is 1.0, "true" is not true. Arrays and tensors by shape and elements."""
    kind, other = type(left), type(right)
    if kind in SCALARS and other in SCALARS:
        if kind is bool or other is bool:
            return left is right
        return bool(left == right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if _is_array(left) and _is_array(right):
        kinds_agree = (left.dtype.kind == "b") == (right.dtype.kind == "b")
        return kinds_agree and left.shape == right.shape and bool((left == right).all())
    if _is_tensor(left) and _is_tensor(right):
        return left.dtype == right.dtype and left.shape == right.shape and bool((left.cpu() == right.cpu()).all())
    return False


# --- settling ---------------------------------------------------------------------------------------------------------


def _settled(value: Any, trail: Trail, depth: int, where: str) -> Any:
    kind = type(value)
    if kind in SCALARS:
        return value
    if isinstance(value, (list, tuple)):
        depth = _deeper(depth, trail, where)
        if SCALARS.issuperset(map(type, value)):
            return list(value)
        if depth == 1:
            refuse_vast(value, where)
        return [item if type(item) in SCALARS else _settled(item, (trail, i), depth, where) for i, item in enumerate(value)]
    if isinstance(value, dict):
        depth = _deeper(depth, trail, where)
        _refuse_keys(value, trail, where)
        if SCALARS.issuperset(map(type, value.values())):
            return dict(value)
        if depth == 1:
            refuse_vast(value, where)
        return {key: item if type(item) in SCALARS else _settled(item, (trail, key), depth, where) for key, item in value.items()}
    if _is_array(value):
        _refuse_array(value, trail, where)
        return value if _is_frozen(value) else _frozen(value)
    if _is_tensor(value):
        _refuse_tensor(value, trail, where)
        return value
    return _plain(value, trail, where)


def _plain(value: Any, trail: Trail, where: str) -> Any:
    """The scalar inside a subclass of one (an IntEnum, a numpy.float64 …), a numpy scalar or a buffer of bytes."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(memoryview(value))
    np = sys.modules.get("numpy")
    if np is not None and isinstance(value, np.generic):
        item = value.item()
        if type(item) in SCALARS:
            return item
    raise _refusal(f"a {_type_name(value)}, which no token may carry", trail, where, f"carried are {_CARRIED}")


def _frozen(array: Any) -> Any:
    import numpy as np

    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def _is_frozen(array: Any) -> bool:
    """Nobody can write to it: neither through it, nor through what it is a view of."""
    kind = type(array)
    while type(array) is kind:
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or type(array) is bytes


# --- checking ---------------------------------------------------------------------------------------------------------


def _checked(value: Any, trail: Trail, depth: int, where: str) -> None:
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _refuse_surrogates(value, trail, where)
    elif kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise _refusal(f"an integer of {value.bit_length()} bits", trail, where, "integers are signed and of 64 bits")
    elif kind is float:
        if not isfinite(value):
            raise _refusal(f"{value}", trail, where, "numbers are finite; use null for what is missing")
    elif kind is list:
        depth = _deeper(depth, trail, where)
        for i, item in enumerate(value):
            _checked(item, (trail, i), depth, where)
    elif kind is dict:
        _refuse_keys(value, trail, where)
        depth = _deeper(depth, trail, where)
        for key, item in value.items():
            _refuse_surrogates(key, trail, where)
            _checked(item, (trail, key), depth, where)
    elif kind in SCALARS:
        return
    elif _is_array(value):
        _refuse_array(value, trail, where)
    elif _is_tensor(value):
        _refuse_tensor(value, trail, where)
    else:
        raise _refusal(f"a {_type_name(value)}, which no token may carry", trail, where, f"carried are {_CARRIED}")


def _deeper(depth: int, trail: Trail, where: str) -> int:
    if depth >= DEPTH_MAX:
        raise _refusal(f"nested more than {DEPTH_MAX} deep", trail, where, "or does it contain itself?")
    return depth + 1


def _refuse_keys(value: dict[Any, Any], trail: Trail, where: str) -> None:
    for key in value:
        if type(key) is not str:
            raise _refusal(f"a map with the key {key!r:.60} of type {_type_name(key)}", trail, where, "keys are str")


def _refuse_surrogates(text: str, trail: Trail, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refusal(f"text that is not Unicode (character {error.start})", trail, where, "it has a lone surrogate") from None


def _refuse_array(array: Any, trail: Trail, where: str) -> None:
    if array.dtype.str[1:] not in ARRAY_DTYPES:
        raise _refusal(f"an array of dtype {array.dtype}", trail, where, "array elements are numbers or bools")


def _refuse_tensor(tensor: Any, trail: Trail, where: str) -> None:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in TENSOR_DTYPES or str(tensor.layout) != "torch.strided":
        raise _refusal(f"a tensor of {dtype}, {tensor.layout}", trail, where, f"dense ones of {' '.join(sorted(TENSOR_DTYPES))}")


def _refusal(what: str, trail: Trail, where: str, hint: str) -> ValueRefused:
    steps = []
    while trail is not None:
        trail, step = trail
        steps.append(f'["{step:.80}"]' if isinstance(step, str) else f"[{step}]")
    steps.reverse()
    if len(steps) > 12:
        steps[8:-4] = ["…"]
    path = f"at {''.join(steps)} " if steps else ""
    return ValueRefused(f"{where}: the value {path}is {what}" if where else f"the value {path}is {what}", hint=hint)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _is_array(value: Any) -> bool:
    # Not imported means that no value can be one. Subclasses (masked arrays, matrices) would lose their meaning: refused.
    np = sys.modules.get("numpy")
    return np is not None and (type(value) is np.ndarray or type(value) is np.memmap)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


# --- encoding ---------------------------------------------------------------------------------------------------------


def _packed(value: Any) -> bytes:
    import msgpack

    try:
        data: bytes = msgpack.packb(value, default=_tagged, use_bin_type=True, strict_types=True)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueRefused(f"the value cannot be encoded: {error}") from error
    return data


def _tagged(value: Any) -> Any:
    if _is_array(value):
        dtype = value.dtype.newbyteorder("<")
        return {_ARRAY: [dtype.str, list(value.shape), value.astype(dtype, copy=False).tobytes()]}
    if _is_tensor(value):
        import torch

        flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        return {_TENSOR: [str(value.dtype).removeprefix("torch."), list(value.shape), data]}
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"a {_type_name(value)} is no value")


def _revived(pairs: Sequence[tuple[Any, Any]]) -> Any:
    if len(pairs) == 1 and type(pairs[0][0]) is bytes:
        return _array_or_tensor(*pairs[0])
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueRefused("a map in these bytes has a key twice")
    return value


def _array_or_tensor(tag: bytes, parts: Any) -> Any:
    if type(parts) is not list or list(map(type, parts)) != [str, list, bytes]:
        raise ValueRefused(f"a map in these bytes is tagged {tag!r:.20}, but holds no dtype, shape and data")
    dtype, shape, data = parts
    if len(shape) > 32 or any(type(size) is not int or size < 0 for size in shape):
        raise ValueRefused(f"an array in these bytes has the shape {shape!r:.60}")
    try:
        if tag == _ARRAY:
            return _array(dtype, shape, data)
        if tag == _TENSOR:
            return _tensor(dtype, shape, data)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueRefused(f"an array in these bytes does not fit dtype {dtype!r:.20}, shape {shape!r:.60}: {error}") from error
    raise ValueRefused(f"a map in these bytes has the unknown tag {tag!r:.20}")


def _array(dtype: str, shape: list[int], data: bytes) -> Any:
    import numpy as np

    if dtype[:1] not in ("<", "|") or dtype[1:] not in ARRAY_DTYPES:
        raise ValueError("no array dtype of ours")
    return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape)


def _tensor(dtype: str, shape: list[int], data: bytes) -> Any:
    if dtype not in TENSOR_DTYPES:
        raise ValueError("no tensor dtype of ours")
    try:
        import torch
    except ImportError:
        raise ValueRefused("these bytes hold a tensor, and torch is not installed; pip install 'apxm[torch]'") from None
    kind = getattr(torch, dtype)
    flat = torch.frombuffer(bytearray(data), dtype=kind) if data else torch.empty(0, dtype=kind)
    return flat.reshape(shape)


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueRefused(f"these bytes hold a msgpack extension ({code}); values have none")


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """`value` as JSON can say it: bytes as {base64}, arrays and tensors as {dtype, shape, data}."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else str(value)
        case bytes():
            import base64

            return {"base64": base64.b64encode(value).decode("ascii")}
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "data": plain(value.tolist())}
    return str(value)

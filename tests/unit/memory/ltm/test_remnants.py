"""What was freed is not found again in what is allocated, as long as somebody asks for that."""

from __future__ import annotations

import ctypes

import pytest

from apxm.memory.ltm.remnants import overwritten

SECRET = b"secret of a vector that is gone!" * 1_000


@pytest.fixture(scope="module")
def libc():
    found = ctypes.CDLL(None)
    if not hasattr(found, "mallopt"):
        pytest.skip("this C library cannot fill memory")
    found.malloc.restype = ctypes.c_void_p
    found.free.argtypes = [ctypes.c_void_p]
    return found


def found_again(libc) -> bool:
    """Whether memory that had a secret when it was freed has it when it is given out again."""
    place = libc.malloc(len(SECRET))
    ctypes.memmove(place, SECRET, len(SECRET))
    libc.free(place)
    places = [libc.malloc(len(SECRET)) for _ in range(3)]
    found = any(SECRET[-64:] in ctypes.string_at(place, len(SECRET)) for place in places)
    for place in places:
        libc.free(place)
    return found


def test_nothing_is_found_again_while_it_is_asked_for(libc):
    with overwritten():
        assert not found_again(libc)
        with overwritten():
            pass
        assert not found_again(libc)  # not the last one has left
    assert found_again(libc)  # it costs time, so nobody pays who did not ask

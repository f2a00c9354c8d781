"""Vectors of the words and letters that a text is made of. Lexical: it knows spelling, not meaning. No model, no download."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from apxm.errors import ConfigError
from apxm.memory.embed.base import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from apxm.memory.embed.base import Vectors

    Keys = NDArray[np.uint64]

NAME = "hashing"
VERSION = "1"  # of the algorithm: anything that changes a vector changes it, and every memory has to be rebuilt
DIMENSION = 384
DIMENSION_LEAST, DIMENSION_MOST = 16, 65_536

# Texts are taken in groups whose arrays stay in the cache. A longer text is several segments, whose vectors add up.
SEGMENT = 32_768  # characters
ROWS = 256  # texts that are taken together
PIECE = 256  # characters that are normalised together: that takes the square of the length of a run of accents

# How much each kind of n-gram counts, by its number in the lowest bits of a key: words, pairs of words, 3 to 5 letters. Long
# runs of letters say most: found by trying a dozen weights on 3,600 headings and the texts below them.
WORD, PAIR = 0, 1
LETTERS = {3: 2, 4: 3, 5: 4}
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.4, 0.5])
KIND_BITS, ROW_BITS = 3, 8
HASH_BITS = 64 - ROW_BITS
assert ROWS <= 1 << ROW_BITS

_PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(int(_PRIME), -1, 1 << 64))
_NEXT = np.uint64(0xD1B54A32D192ED03)  # tells the first word of a pair from the second
_SEEDS = np.array([0x8EBC6AF09C88C6E3, 0x589965CC75374CC3, 0x1D8E4E27C47D124F, 0xEB44ACCAB455D165, 0x2127599BF4325C37], np.uint64)

# What a character is. Those of scripts without spaces between words are words of their own, so that pairs of them count.
UNSEEN, GAP, LETTER, ALONE = 0, 1, 2, 3
_ALONE = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_ACCENTS = re.compile("[\u0300-\u036f]+")


class HashingEmbedder:
    """Hashes words, pairs of words and runs of 3 to 5 letters into `dimension` numbers, signed, of length 1 in all.

    Texts are near when they share words, or parts of them; capitals, accents and the forms of one character do not count.
    `car` and `automobile` have nothing in common here. A text without letters and digits gives zeros: near nothing.
    The same text gives the same vector in every process and on every machine, up to rounding. Thread-safe.
    """

    def __init__(self, dimension: int = DIMENSION) -> None:
        if not DIMENSION_LEAST <= dimension <= DIMENSION_MOST:
            raise ConfigError(
                f"the dimension of a hashing embedder is {dimension!r}, expected {DIMENSION_LEAST} to {DIMENSION_MOST}"
            )
        self._dimension = dimension
        self._fingerprint = Fingerprint(NAME, VERSION, dimension, normalized=True)

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self._dimension), np.float32)
        for start in range(0, len(texts), ROWS):
            vectors[start : start + ROWS] = self._embedded(texts[start : start + ROWS])
        return vectors

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float64]:
        total = np.zeros((len(texts), self._dimension))
        for owners, segments in _groups(texts):
            total[owners] += _sums(segments, self._dimension)
        lengths = np.sqrt(np.einsum("ij,ij->i", total, total))
        lengths[lengths == 0] = 1.0
        total /= lengths[:, None]
        return total

    def embed_query(self, text: str) -> Vectors:
        vector: Vectors = self.embed([text])[0]
        return vector

    def close(self) -> None:
        """Nothing is held."""


def _groups(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """The texts, folded and cut into segments: which text each is of, and the segment; as many as are hashed in one go.

    No group has two segments of one text: all but the last of a text are as long as a group may be.
    """
    owners: list[int] = []
    segments: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        folded = _folded(text)
        for start in range(0, len(folded), SEGMENT):
            segment = folded[start : start + SEGMENT]
            if segments and size + len(segment) > SEGMENT:
                yield owners, segments
                owners, segments, size = [], [], 0
            owners.append(number)
            segments.append(segment)
            size += len(segment)
    if segments:
        yield owners, segments


def _folded(text: str) -> str:
    """The text without what must not count: capitals, accents, and other forms of the same characters."""
    if text.isascii():
        return text.lower()
    return "".join(_folded_piece(text[start : start + PIECE]) for start in range(0, len(text), PIECE))


def _folded_piece(piece: str) -> str:
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", piece).casefold()))


def _sums(segments: list[str], dimension: int) -> NDArray[np.float64]:
    """One row a segment: its n-grams, each counted once with the weight 1 + ln(times) of its kind, with a sign of its own."""
    codes, rows = _codes(segments)
    kinds = _kinds(codes)
    codes = np.where(kinds == GAP, np.uint64(0), codes)
    keys = np.concatenate([*_word_keys(codes, kinds, rows), *_letter_keys(codes, kinds, rows)])
    keys.sort()
    if not keys.size:
        return np.zeros((len(segments), dimension))
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    times = np.diff(first, append=keys.size)
    keys = keys[first]
    weights = WEIGHTS[keys & np.uint64((1 << KIND_BITS) - 1)] * (1.0 + np.log(times))
    hashes = (keys & np.uint64((1 << HASH_BITS) - 1)) >> np.uint64(KIND_BITS)
    weights[(hashes & np.uint64(1)) == 1] *= -1.0
    places = (keys >> np.uint64(HASH_BITS)) * np.uint64(dimension) + (hashes >> np.uint64(1)) % np.uint64(dimension)
    # Always in the order of the keys of one row: the sums do not depend on what else is in the group.
    sums: NDArray[np.float64] = np.zeros(len(segments) * dimension)
    sums += np.bincount(places.astype(np.int64), weights, minlength=sums.size)
    return sums.reshape(len(segments), dimension)


def _codes(segments: list[str]) -> tuple[Keys, Keys]:
    """The characters of all segments, with a gap before, between and after them; and the segment that each is in."""
    joined = "\0".join(["", *segments, ""])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.fromiter((len(segment) + 1 for segment in segments), np.int64, len(segments))
    lengths[0] += 1
    return codes, np.repeat(np.arange(len(segments), dtype=np.uint64), lengths)


_known = np.zeros(0x110000, np.uint8)  # what each character is, found out when it is first seen


def _kinds(codes: Keys) -> NDArray[np.uint8]:
    kinds = _known[codes]
    if not kinds.all():
        for code in np.unique(codes[kinds == UNSEEN]).tolist():
            _known[code] = _kind(code)
        kinds = _known[codes]
    return kinds


def _kind(code: int) -> int:
    """A letter (or mark, or digit) or a gap, as this Python's Unicode says: one that knows a newer letter makes it a word."""
    if unicodedata.category(chr(code))[0] not in "LMN":
        return GAP
    return ALONE if any(first <= code <= last for first, last in _ALONE) else LETTER


def _word_keys(codes: Keys, kinds: NDArray[np.uint8], rows: Keys) -> tuple[Keys, Keys]:
    """Keys of the words, and of every two that follow each other in one segment."""
    letter, alone = kinds == LETTER, kinds == ALONE
    starts = np.flatnonzero((letter & ~np.roll(letter, 1)) | alone)
    ends = np.flatnonzero((letter & ~np.roll(letter, -1)) | alone) + 1
    # A word is a polynomial of its characters. Sums up to each place give all of them at once, shifted back to power 0.
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * _powers(_PRIME, codes.size))])
    words = _mixed((sums[ends] - sums[starts]) * _powers(_INVERSE, codes.size)[starts])
    row = rows[starts]
    together = row[1:] == row[:-1]
    pairs = (words[:-1] * _NEXT + words[1:])[together]
    return _key(words, WORD, row), _key(pairs, PAIR, row[1:][together])


def _powers(base: np.uint64, count: int) -> Keys:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


def _letter_keys(codes: Keys, kinds: NDArray[np.uint8], rows: Keys) -> Iterator[Keys]:
    """Keys of every 3, 4 and 5 characters in a row, the gaps at both ends of a word among them."""
    inside = kinds != GAP
    windows = codes[:-1] * _PRIME + codes[1:]
    within = np.ones(codes.size - 1, bool)  # of each window: all but its first and last character are no gaps
    for length, kind in LETTERS.items():
        if codes.size < length:
            return
        windows = windows[:-1] * _PRIME + codes[length - 1 :]
        within = within[:-1] & inside[length - 2 : -1]
        at = np.flatnonzero(within)
        yield _key(windows[at], kind, rows[at + 1])


def _key(hashes: Keys, kind: int, rows: Keys) -> Keys:
    """What an n-gram is counted by: its segment in the highest bits, then its hash, then its kind in the lowest."""
    mixed = _mixed(hashes ^ _SEEDS[kind]) >> np.uint64(ROW_BITS + KIND_BITS)
    return rows << np.uint64(HASH_BITS) | mixed << np.uint64(KIND_BITS) | np.uint64(kind)


def _mixed(hashes: Keys) -> Keys:
    """Every bit of a hash depends on every other: the last step of SplitMix64 (Steele, Lea, Flood 2014)."""
    hashes = (hashes ^ hashes >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ hashes >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return hashes ^ hashes >> np.uint64(31)

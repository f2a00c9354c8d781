import itertools
import math
import os
import random
import subprocess
import sys
import threading
import unicodedata

import numpy as np
import pytest

from apxm.errors import ConfigError
from apxm.memory.embed import hashing
from apxm.memory.embed.hashing import PIECE, ROWS, SEGMENT, HashingEmbedder

MASK = (1 << 64) - 1

# Vectors of version 1. When these change, every memory in the world has to be rebuilt: then VERSION changes too.
GOLDEN = {
    "The cat sat on the mat.": [
        *(0.0, 0.1285, 0.0927, -0.0927, -0.0284, -0.4455, -0.139, 0.139),
        *(0.0284, 0.139, -0.139, 0.5455, -0.485, -0.0569, 0.0927, -0.3799),
    ],
    "Straße nach Zürich": [
        *(-0.0565, -0.0815, 0.2036, 0.3665, 0.2036, 0.1629, 0.0815, 0.1629),
        *(-0.2036, 0.0815, -0.2851, -0.448, -0.0407, 0.5294, 0.2444, -0.2036),
    ],
    "東京の天気": [
        *(-0.3667, 0.275, -0.3667, 0.1833, 0.1833, 0.0, 0.0, 0.3667),
        *(0.4583, 0.1833, 0.275, 0.0, 0.3667, 0.0, 0.0, 0.0),
    ],
    "don't panic 42": [
        *(0.1248, 0.2495, 0.0, 0.5614, 0.0, 0.1248, 0.1248, 0.3119),
        *(-0.3119, 0.2495, 0.1871, -0.499, 0.1248, 0.0, -0.1248, 0.0624),
    ],
}


def near(one: str, other: str) -> float:
    embedder = HashingEmbedder()
    return float(embedder.embed_query(one) @ embedder.embed_query(other))


# ---- the same algorithm, one n-gram at a time ---------------------------------------------------------------------------
def mixed(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & MASK
    return number ^ number >> 31


def polynomial(codes: list[int], *, rising: bool) -> int:
    total = 0
    for code in reversed(codes) if rising else codes:
        total = (total * int(hashing._PRIME) + code) & MASK
    return total


def words_of(codes: list[int]) -> list[list[int]]:
    words: list[list[int]] = []
    before = hashing.GAP
    for code in codes:
        kind = hashing._kind(code)
        if kind == hashing.ALONE or (kind == hashing.LETTER and before != hashing.LETTER):
            words.append([])
        if kind != hashing.GAP:
            words[-1].append(code)
        before = kind
    return words


def slowly(text: str, dimension: int) -> list[float]:
    codes = [ord(character) for character in text]
    grams: dict[tuple[int, int], int] = {}

    def count(kind: int, number: int) -> None:
        hashed = mixed(number ^ int(hashing._SEEDS[kind])) >> 11
        grams[kind, hashed] = grams.get((kind, hashed), 0) + 1

    words = [mixed(polynomial(word, rising=True)) for word in words_of(codes)]
    for word in words:
        count(hashing.WORD, word)
    for one, two in itertools.pairwise(words):
        count(hashing.PAIR, (one * int(hashing._NEXT) + two) & MASK)
    padded = [0, *(0 if hashing._kind(code) == hashing.GAP else code for code in codes), 0]
    for length, kind in hashing.LETTERS.items():
        for start in range(len(padded) - length + 1):
            window = padded[start : start + length]
            if all(window[1:-1]):
                count(kind, polynomial(window, rising=False))
    sums = [0.0] * dimension
    for (kind, hashed), times in grams.items():
        sums[(hashed >> 1) % dimension] += (-1 if hashed & 1 else 1) * float(hashing.WEIGHTS[kind]) * (1 + math.log(times))
    return sums


def test_the_vectors_are_those_of_the_algorithm_done_one_n_gram_at_a_time(seed: int) -> None:
    pick = random.Random(seed)
    texts = ["".join(pick.choices("abcde  .,1日本кот\u0301", k=pick.randrange(60))) for _ in range(100)]
    found = HashingEmbedder(64).embed(texts)
    for text, vector in zip(texts, found, strict=True):
        sums = np.array(slowly(hashing._folded(text), 64))
        length = float(np.linalg.norm(sums)) or 1.0
        assert np.allclose(vector, sums / length, atol=1e-6), (seed, text)


# ---- promises -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", GOLDEN)
def test_vectors_of_this_version_never_change(text: str) -> None:
    assert hashing.VERSION == "1"
    assert np.allclose(HashingEmbedder(16).embed_query(text), GOLDEN[text], atol=1e-4)


def test_another_process_gives_the_same_vectors() -> None:
    code = "from apxm.memory.embed.hashing import *; print(HashingEmbedder().embed_query('a day at the sea').tobytes().hex())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert bytes.fromhex(done.stdout) == HashingEmbedder().embed_query("a day at the sea").tobytes()


def test_the_company_of_a_text_does_not_change_its_vector(seed: int) -> None:
    pick = random.Random(seed)
    words = ["".join(pick.choices("aeioulmnrst", k=pick.randint(1, 9))) for _ in range(300)]
    texts = [" ".join(pick.choices(words, k=pick.choice((0, 1, 8, 30, 3000)))) for _ in range(ROWS + 50)]
    embedder = HashingEmbedder()
    together = embedder.embed(texts)
    for number in pick.sample(range(len(texts)), 30):
        assert together[number].tobytes() == embedder.embed_query(texts[number]).tobytes(), (seed, number)


def test_vectors_are_float32_of_length_1_in_the_order_of_the_texts() -> None:
    embedder = HashingEmbedder(100)
    found = embedder.embed(["one two", "three", "one two"])
    assert (found.dtype, found.shape) == (np.float32, (3, 100))
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0)
    assert (found[0] == found[2]).all()
    assert not np.allclose(found[0], found[1])
    assert embedder.embed([]).shape == (0, 100)


@pytest.mark.parametrize("text", ["", " ", "\0", "... !?", "\n\t", "\u0301\u0301", "€–—"])
def test_a_text_without_letters_and_digits_is_near_nothing(text: str) -> None:
    assert not HashingEmbedder().embed_query(text).any()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The QUICK fox", "the quick fox"),
        ("Crème brûlée", "creme brulee"),
        ("Cre\u0300me", "Cr\u00e8me"),
        ("STRASSE", "Straße"),
        ("\ufb01ne \uff21\uff22\uff23", "fine abc"),
        ("snake_case-name", "snake case name"),
        ("한국어", unicodedata.normalize("NFD", "한국어")),
    ],
)
def test_capitals_accents_and_forms_of_a_character_do_not_count(one: str, other: str) -> None:
    assert near(one, other) == pytest.approx(1.0, abs=1e-6)


def test_texts_are_near_when_they_share_words_or_parts_of_them() -> None:
    query = "how to configure the retries of a model"
    assert near(query, "configuring model retries") > near(query, "retries are counted") > near(query, "the capital of France")
    assert near("不要恐慌", "请不要恐慌") > near("不要恐慌", "天气很好")
    assert near("dog bites man", "man bites dog") < 0.999  # the order counts a little: pairs of words
    assert abs(near("car", "automobile")) < 0.1  # it is lexical: a synonym is a stranger


def test_a_word_said_again_counts_less_than_the_first_time() -> None:
    assert near("alpha " * 50 + "beta", "beta") > 0.15
    assert near("alpha " * 2 + "beta", "beta") > near("alpha " * 50 + "beta", "beta")


@pytest.mark.parametrize("text", ["x" * (1 << 20), "day " * (1 << 18), "日本" * (1 << 17), "a" + "\u0316\u0300" * (1 << 17)])
def test_a_long_text_is_read_to_its_end(text: str) -> None:
    embedder = HashingEmbedder()
    vector = embedder.embed_query(text)  # accents without end would take hours, normalised as one
    assert np.isfinite(vector).all()
    assert (vector != embedder.embed_query(f"{text} zebra")).any()


def test_what_is_cut_for_speed_does_not_show() -> None:
    for word in ("é" * 10 + " ü ", "안녕하세요 ", "がぎぐ "):
        assert hashing._folded(word * PIECE) == hashing._folded(word) * PIECE
    words = "word " * SEGMENT
    assert near(words, words[: SEGMENT - 1]) > 0.99


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\U0010ffff", "\x00a\x00", "\ufeffbom"])
def test_no_text_is_refused(text: str) -> None:
    assert np.isfinite(HashingEmbedder().embed_query(text)).all()


def test_many_threads_get_the_same_vectors() -> None:
    texts = [chr(code) * 3 + " word" for code in range(0x400, 0x800)]
    expected = HashingEmbedder().embed(texts)
    hashing._known[:] = hashing.UNSEEN
    found: list[bool] = []

    def work() -> None:
        found.append(bool((HashingEmbedder().embed(texts) == expected).all()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_the_fingerprint_says_what_the_vectors_are() -> None:
    embedder = HashingEmbedder(256)
    assert embedder.fingerprint.to_map() == {"name": "hashing", "version": "1", "dimension": 256, "normalized": True}
    assert HashingEmbedder().fingerprint.dimension == 384
    embedder.close()
    embedder.close()


@pytest.mark.parametrize("dimension", [0, 15, -1, 65_537])
def test_a_dimension_out_of_range_is_refused(dimension: int) -> None:
    with pytest.raises(ConfigError, match=f"{dimension}, expected 16 to 65536"):
        HashingEmbedder(dimension)

import random

import pytest

from apxm.llm.text import CLAUSE_CHARS, SENTENCE_CHARS_MAX, estimate_tokens, plain, sentences, split, stem, terms


def texts(markdown, line=1):
    return [sentence.text for sentence in sentences(markdown, line)]


# ---- words -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "family",
    [
        "schedule schedules scheduled scheduling scheduler",
        "retry retries retried retrying",
        "cancel cancels cancelled cancellation",
        "execute executes executed execution executor",
        "validate validates validated validation",
        "memory memories",
        "budget budgets",
        "resume resumes resumed resumable",
        "fail fails failed failure",
        "safe safely",
    ],
)
def test_the_forms_of_a_word_share_one_stem(family):
    assert len({stem(word) for word in family.split()}) == 1


def test_different_words_keep_different_stems():
    words = ["token", "task", "node", "frame", "edge", "graph", "model", "memory", "event", "error", "value", "label"]
    assert len({stem(word) for word in words}) == len(words)


def test_identifiers_are_found_whole_and_by_their_parts():
    assert terms("max_parallelism") == [stem("max_parallelism"), "max", "parallelism"]
    assert {stem("execution"), "dag"} < set(terms("ExecutionDag"))
    assert terms("what is the") == []


def test_text_without_spaces_is_found_by_pairs_of_signs():
    assert set(terms("工作窃取")) & set(terms("什么是窃取")) == {"窃取"}


def test_tokens_are_estimated_from_characters_and_bytes():
    assert estimate_tokens("") == 0
    assert estimate_tokens("abcde") == 2
    assert estimate_tokens("中文") == 3
    assert estimate_tokens("\ud800") > 0  # a lone surrogate, as a file name may hold


# ---- sentences -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One is here. Two is there.", ["One is here.", "Two is there."]),
        ("It takes e.g. two of them. Then it ends.", ["It takes e.g. two of them.", "Then it ends."]),
        ("Dr. Smith and J. Doe agree. They do.", ["Dr. Smith and J. Doe agree.", "They do."]),
        ("Version 1.2 is out. See file.md for more.", ["Version 1.2 is out.", "See file.md for more."]),
        ("Is it? Yes! It is.", ["Is it?", "Yes!", "It is."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("Call `f(…)` → it runs, … and more", ["Call `f(…)` → it runs, … and more"]),
        ("Wait... what happens", ["Wait... what happens"]),
        ("第一句。第二句。", ["第一句。", "第二句。"]),
        ("It ends here. 中文开始了。", ["It ends here.", "中文开始了。"]),
        ("So do I. Then it ends.", ["So do I.", "Then it ends."]),
        ("ends in a file.txt and goes on", ["ends in a file.txt and goes on"]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, parts):
    assert [piece.strip() for _, piece in split(text) if piece.strip()] == parts


def test_the_pieces_of_a_text_stand_at_their_offsets(seed):
    rng = random.Random(seed)
    for _ in range(200):
        text = "".join(rng.choice(["word ", "End. ", "x; ", "Dr. ", "\n", "A long part of a sentence; "]) for _ in range(60))
        for offset, piece in split(text):
            assert text.startswith(piece, offset)


def test_a_long_sentence_is_quoted_by_its_clauses():
    clause = "this clause goes on for about sixty characters, and it ends"
    pieces = split("; ".join([clause] * 8) + ".")
    assert len(pieces) > 3
    assert all(len(piece) <= CLAUSE_CHARS for _, piece in pieces)


def test_a_text_without_any_end_is_cut_into_bounded_pieces():
    assert max(len(piece) for _, piece in split("word " * 5_000)) <= SENTENCE_CHARS_MAX


# ---- Markdown --------------------------------------------------------------------------------------------------------
DOCUMENT = """\
# The title of the document

The first paragraph says one thing. It goes
on over lines. Then it ends here.

## Details of the matter

- The first item of the list stands here.
- [x] The second item is a task that
  goes on below.

1. A numbered item of the list stands here.

> A quoted line of text that says something.

```python
code_is_never_quoted = "not even this long string here"
```

    indented code is never quoted at all either

<!-- a comment that nobody should see in an answer
over two lines of the file -->
After the comment a sentence stands alone.

Underlined heading of this part
-------------------------------

| head of | the table |
|---------|-----------|
| the row | of a table in dashes |

[ref]: https://example.org/never
***
The last sentence of the whole document.
"""


def test_markdown_gives_its_sentences_and_where_they_begin():
    found = {sentence.text: (sentence.line, sentence.heading) for sentence in sentences(DOCUMENT)}
    assert found == {
        "The first paragraph says one thing.": (3, "The title of the document"),
        "It goes on over lines.": (3, "The title of the document"),
        "Then it ends here.": (4, "The title of the document"),
        "The first item of the list stands here.": (8, "Details of the matter"),
        "The second item is a task that goes on below.": (9, "Details of the matter"),
        "A numbered item of the list stands here.": (12, "Details of the matter"),
        "A quoted line of text that says something.": (14, "Details of the matter"),
        "After the comment a sentence stands alone.": (24, "Details of the matter"),
        "the row — of a table in dashes": (31, "Underlined heading of this part"),
        "The last sentence of the whole document.": (35, "Underlined heading of this part"),
    }


def test_lines_count_from_where_the_passage_begins():
    assert [s.line for s in sentences("A first sentence stands here.\n\nA second one comes below it.", 41)] == [41, 43]


def test_rows_of_tables_are_marked_as_such():
    rows = sentences("| a | b |\n|--|--|\n| this row has cells | with words in them |\n")
    assert [(row.text, row.tabular) for row in rows] == [("this row has cells — with words in them", True)]


def test_front_matter_is_no_text_and_its_lines_still_count():
    found = sentences("---\ntitle: never quoted as a sentence here\n---\nThe text begins after the matter.\n")
    assert [(s.text, s.line) for s in found] == [("The text begins after the matter.", 4)]


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("See [the guide](https://x.y/a_(b).md) for **more** of *it*.", "See the guide for more of it."),
        ("A ![badge](https://x.y/b.svg) and [a link][ref] here", "A and a link here"),
        ("Keep `**kwargs` and `a<b>` as they are", "Keep `**kwargs` and `a<b>` as they are"),
        ("Drop <b>tags</b> but keep Vec<T> and a < b", "Drop tags but keep Vec<T> and a < b"),
        ("Mail <https://x.y/z> about a\\_b &amp; c", "Mail https://x.y/z about a_b & c"),
        ("2 * 3 * 4 is not emphasis", "2 * 3 * 4 is not emphasis"),
        ("two\nlines  and\tspaces", "two lines and spaces"),
    ],
)
def test_a_quote_has_no_markup(markdown, text):
    assert plain(markdown) == text


def test_an_unclosed_comment_in_a_code_block_hides_nothing_after_it():
    assert texts("```html\n<!-- open\n```\nThis sentence comes after the block.\n") == ["This sentence comes after the block."]


def test_what_is_hardly_text_is_not_quoted():
    assert texts("Yes.\n\n== 12 -- 34 == 56 | 78 || 9\n\nx = foo(1, 2) + bar[3] * {4: 5}\n") == []


def test_any_text_gives_sentences_whose_lines_exist(seed):
    rng = random.Random(seed)
    bits = [
        "the cat sat on the mat. ",
        "\n",
        "\n\n",
        "# H\n",
        "- ",
        "| a | b |\n",
        "|-|-|\n",
        "```\n",
        "<!--",
        "-->",
        "> ",
        "---\n",
    ]
    bits += ["[x](y) ", "**b** ", "    ", "What is it? ", "&lt;", "`c` ", "1. ", "…"]
    for _ in range(500):
        text = "".join(rng.choice(bits) for _ in range(rng.randrange(40)))
        for sentence in sentences(text, 5):
            assert 5 <= sentence.line < 5 + len(text.split("\n"))
            assert "\n" not in sentence.text

import pytest

from apxm.llm.base import Message
from apxm.llm.reading import Passage, read

MOON = "[m.md:10] The moon is made of rock."
CHEESE = "[n.md:1] Cheese is made of milk in dairies."
QUESTION = "What is the moon made of?"


def asked(*texts):
    return read(tuple(Message("user", text) if isinstance(text, str) else Message(*text) for text in texts))


def passages(request):
    return [(p.source, p.line, p.text) for p in request.passages]


BOTH = [("m.md", 10, "The moon is made of rock."), ("n.md", 1, "Cheese is made of milk in dairies.")]


@pytest.mark.parametrize(
    "text",
    [
        f"{QUESTION}\n\n{MOON}\n\n{CHEESE}",
        f"Question: {QUESTION}\n\n{MOON}\n{CHEESE}",
        f"**Question:** {QUESTION}\n\n{MOON}\n{CHEESE}\n\nAnswer:",
        f"Use only these.\n\n{MOON}\n{CHEESE}\n\nQuestion: {QUESTION}",
        f"Use only these.\n\n{MOON}\n{CHEESE}\n\n{QUESTION}",
        f"{MOON}\n\n{CHEESE}\n\n{QUESTION}",
        f"{QUESTION}\n\nContext 1: {MOON}\n\nContext 2: {CHEESE}",
        f"Answer with citations.\n\nContext 1: {MOON}\n{CHEESE}\n\nContext 2: {QUESTION}",
        f'{QUESTION}\n\nContext 1: ["{MOON}", "{CHEESE}"]',
        f'{QUESTION}\n\n["{MOON}", "{CHEESE}"]',
        f'{QUESTION}\n\nContext 1: [{{"path": "m.md", "line": 10, "text": "The moon is made of rock."}}, "{CHEESE}"]',
    ],
)
def test_question_and_passages_are_told_apart(text):
    request = asked(text)
    assert request.question == QUESTION
    assert passages(request) == BOTH
    assert not request.summarise


def test_a_passage_goes_on_to_the_next_one():
    request = asked(f"{QUESTION}\n\n[a:3] first line\n\nthird line\n[b/c d.md:7] other\n")
    assert passages(request) == [("a", 3, "first line\n\nthird line"), ("b/c d.md", 7, "other")]


def test_a_quoted_document_cannot_ask_in_place_of_the_question():
    request = asked(f"Question: {QUESTION}\n\n{MOON}\n\nQuestion: what is cheese?\n\n{CHEESE}")
    assert request.question == QUESTION
    assert passages(request)[0] == ("m.md", 10, "The moon is made of rock.\n\nQuestion: what is cheese?")


def test_a_file_of_questions_does_not_answer_to_its_own():
    faq = "[faq.md:1] Some text.\n\nQuestion: how to install?\n\nIt is done by hand."
    request = asked(f"Summarise this file.\n\n{faq}")
    assert (request.question, request.summarise) == ("Summarise this file.", True)
    assert "It is done by hand." in request.passages[0].text
    request = asked(f"Use only these.\n\n{faq}\n\n{MOON}\n\nQuestion: {QUESTION}")
    assert request.question == QUESTION
    assert [p.source for p in request.passages] == ["faq.md", "m.md"]
    assert "how to install?" in request.passages[0].text


def test_a_label_amid_a_paragraph_of_a_passage_is_part_of_it():
    request = asked(f"Look here.\n\n[a:1] some text\nQuestion: not asked\n\nQuestion: {QUESTION}")
    assert (request.question, passages(request)) == (QUESTION, [("a", 1, "some text\nQuestion: not asked")])


def test_plain_context_blocks_and_paragraphs_are_cited_by_their_own_lines():
    assert passages(asked(f"{QUESTION}\n\nContext 1: one\ntwo")) == [("context 1", 1, "one\ntwo")]
    assert passages(asked(f"{QUESTION}\n\nfirst part\n\nsecond part")) == [
        ("prompt", 3, "first part"),
        ("prompt", 5, "second part"),
    ]
    request = asked(f"Text:\nThe moon is far. It is grey.\n\nQuestion: {QUESTION}\nAnswer:")
    assert passages(request) == [("prompt", 2, "The moon is far. It is grey.")]


@pytest.mark.parametrize(
    ("text", "question", "context"),
    [
        ("Summarise the text below:\n\nThe moon is far.", "Summarise the text below:", ["The moon is far."]),
        (f"The moon is far.\n\n{QUESTION}", QUESTION, ["The moon is far."]),
        (f"{QUESTION}\nThe moon is far.", QUESTION, ["The moon is far."]),
        (QUESTION, QUESTION, []),
        ("", "", []),
    ],
)
def test_prompts_without_marks_are_divided_by_paragraph(text, question, context):
    request = asked(text)
    assert request.question == question
    assert [p.text for p in request.passages] == context


@pytest.mark.parametrize(
    ("instruction", "summarise", "count"),
    [
        ("Summarise this file.", True, None),
        ("Please summarize docs/a.md in three short sentences.", True, 3),
        ("Write a summary with 2 bullet points", True, 2),
        ("What does the summary say?", False, None),
        ("Explain stealing with 99 quotes", False, 20),
        ("How many sentences are there?", False, None),
    ],
)
def test_what_is_wanted_is_read_from_the_instruction(instruction, summarise, count):
    request = asked(f"{instruction}\n\n{MOON}")
    assert (request.summarise, request.count) == (summarise, count)


def test_bare_quotes_are_asked_for_by_the_system_or_the_instruction_but_never_by_the_context():
    assert asked(("system", "Answer with quotes only."), f"{QUESTION}\n\n{MOON}").bare
    assert asked(f"{QUESTION} Write the quotes and nothing else.\n\n{MOON}").bare
    assert asked(f"Answer, without a notice.\n\nQuestion: {QUESTION}\n\n{MOON}").bare
    assert not asked(f"{QUESTION}\n\n[m.md:1] The moon has quotes only and nothing else.").bare


def test_a_conversation_keeps_its_context_and_its_last_question():
    request = asked(f"{QUESTION}\n\n{MOON}", ("assistant", "Rock."), "And what is cheese made of?")
    assert request.question == "And what is cheese made of?"
    assert passages(request) == [BOTH[0]]


def test_context_in_the_system_message_counts():
    request = asked(("system", f"You know:\n\n{MOON}"), QUESTION)
    assert (request.question, passages(request)) == (QUESTION, [BOTH[0]])


def test_memory_entries_are_context_under_their_key():
    request = asked(f'{QUESTION}\n\nContext 1: [{{"key": "note", "value": "The moon is far.", "score": 0.5}}]')
    assert request.passages == (Passage("note", 1, "The moon is far."),)

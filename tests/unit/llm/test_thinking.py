import pytest

from apxm.llm.thinking import split_thinking


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>Is it Lyon?</think>\n\nParis", "Is it Lyon?", "Paris"),
        ("  <THINKING>\nLyon?\n</Thinking> Paris\n", "Lyon?", "Paris"),
        ("<think>a</think>\n<thought>b</thought>\nParis", "a\nb", "Paris"),
        ("Is it Lyon?\n</think>\n\nParis", "Is it Lyon?", "Paris"),  # the opening tag was part of the prompt
        ("<think>It might be", "It might be", ""),  # cut off
        ("<think></think>Paris", "", "Paris"),
        ("<think>a</think>", "a", ""),
    ],
)
def test_thinking_before_the_answer_is_told_apart_from_it(text, thinking, answer):
    assert split_thinking(text) == (thinking, answer)


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "",
        "  Paris, as it is\n",
        "Write <think>…</think> around it.",  # an answer about tags
        "A closing tag is `</think>` there.",
        "<thinker>x</thinker>",
    ],
)
def test_an_answer_is_left_as_it_is(text):
    assert split_thinking(text) == ("", text)


@pytest.mark.parametrize("piece", ["<think>", "</think>", "<think></think>", "\n</think>", " ", "<think>\n"])
def test_any_number_of_tags_is_read_in_one_go(piece):
    thinking, answer = split_thinking(piece * 200_000)
    assert len(thinking) + len(answer) <= len(piece) * 200_000

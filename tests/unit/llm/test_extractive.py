import asyncio
import threading

import pytest

from apxm.errors import ModelError
from apxm.llm.base import LanguageModel, Message, Prompt, prompt_tokens
from apxm.llm.extractive import INLINE_CHARS, NOTICE, ExtractiveModel
from apxm.llm.text import estimate_tokens

GUIDE = """\
[docs/guide.md:12] # Scheduler

The scheduler keeps a deque for every worker. An idle worker steals the oldest half
of a victim's deque. Stealing keeps all workers busy because nobody waits for a slow one.

| setting | meaning |
|---|---|
| max_parallelism | how many operations may wait at once |

The default of max_parallelism is 64.

[docs/budget.md:1] # Budgets

A budget limits calls and tokens. What may be spent is reserved before a call.

```python
budget = "the scheduler steals code that nobody may quote"
```

<!-- The scheduler has a hidden comment about stealing. -->
"""


def ask(question, context=GUIDE, *, model=None, system=None, **settings):
    messages = (Message("system", system),) if system else ()
    prompt = Prompt((*messages, Message("user", f"Question: {question}\n\n{context}")), **settings)
    return asyncio.run((model or ExtractiveModel(notice=False)).complete(prompt))


def test_the_best_sentence_comes_first_with_its_file_and_its_own_line():
    lines = ask("What do workers do with the deque?").text.split("\n")
    assert lines == [
        "- The scheduler keeps a deque for every worker. [docs/guide.md:14]",
        "- An idle worker steals the oldest half of a victim's deque. [docs/guide.md:14]",
    ]


def test_a_definition_and_a_number_are_found():
    assert "The default of max_parallelism is 64. [docs/guide.md:21]" in ask("What is the default of max_parallelism?").text
    assert "A budget limits calls and tokens. [docs/budget.md:3]" in ask("What is a budget?").text


def test_headings_code_comments_and_table_syntax_are_never_quoted():
    for question in ("What is the scheduler?", "What steals code?", "What is hidden in the comment?", "What is max_parallelism?"):
        text = ask(question).text
        assert not any(banned in text for banned in ("#", "nobody may quote", "hidden comment", "|", "setting"))


def test_a_row_of_a_table_is_quoted_as_text_when_it_answers_best():
    assert (
        "max_parallelism — how many operations may wait at once [docs/guide.md:19]" in ask("What does max_parallelism mean?").text
    )


def test_without_an_answer_it_says_so():
    text = ask("What is the capital of France?").text
    assert text == "Nothing in the context answers this: What is the capital of France?"
    assert ask("What is it?", "").text.startswith("There is no context to answer from")


def test_what_the_context_lacks_is_named():
    text = ask("How does the scheduler paint zebras?").text
    assert "[docs/guide.md:" in text
    assert text.endswith("The context does not mention: paint, zebras.")


def summarise(context, count="two"):
    prompt = Prompt((Message("user", f"Summarise this in {count} sentences.\n\n{context}"),))
    return asyncio.run(ExtractiveModel(notice=False).complete(prompt)).text


def test_a_summary_takes_central_sentences_in_their_order():
    text = summarise(
        "[a:1] The rain fell on the roof of the house.\nA worker has a deque of ready work.\n"
        "Some notes follow on other matters of the day.\nA busy worker keeps the newest ready work of its deque.\n"
        "The scheduler lets an idle worker steal ready work from the deque of a busy worker."
    )
    assert text == (
        "A busy worker keeps the newest ready work of its deque. [a:4] "
        "The scheduler lets an idle worker steal ready work from the deque of a busy worker. [a:5]"
    )


def test_a_definition_outranks_a_mere_mention():
    context = "[a:1] The frame is closed and the frame goes away. A frame is one activation of one plan with its own tokens."
    assert ask("What is a frame?", context).text.startswith("- A frame is one activation")


def test_the_first_sentence_under_a_heading_answers_for_it():
    context = (
        "[a:1] ## Session service\n\nSource of truth for all data of an agent. It has two backends.\n\n"
        "[a:9] ## Setup\n\nThe first step is the setup of logs. The last step is the session.\n"
    )
    assert ask("What is the session service?", context).text.startswith("- Source of truth for all data of an agent. [a:3]")


def test_a_sentence_beside_others_on_the_subject_outranks_one_that_stands_alone():
    alone = "[a:1] The victim owns a deque. Rain fell over the old house.\n\n"
    beside = "[b:1] Rain fell on thieves who steal. The victim keeps a deque. It is on the left side.\n"
    answer = ask("How do thieves steal the deque of a victim?", alone + beside).text
    assert answer.index("keeps a deque") < answer.index("owns a deque")


def test_words_that_questions_are_made_of_need_not_be_in_the_context():
    context = "[a:1] Stealing is done by idle workers. Rain fell over the old house."
    question = "Please list and cite every section, file or text that gives a description or an example of stealing."
    assert ask(question, context).text == "Stealing is done by idle workers. [a:1]"


def test_quotes_are_left_out_whole_when_there_is_no_room_for_them():
    context = "\n\n".join(f"[f{i}:1] Stealing of kind {word} happens at place {word}." for i, word in enumerate("abcdefghij"))
    reply = ask("Where does stealing happen?", context, max_output_tokens=40)
    assert reply.finish == "stop"
    assert 1 < reply.text.count("[f") < 5
    assert reply.text.endswith(":1]")


def test_the_same_sentence_from_two_passages_is_quoted_once():
    twice = "[a:1] Stealing keeps the workers busy.\n\n[b:9] Stealing keeps the workers busy.\n"
    assert ask("What does stealing keep?", twice).text == "Stealing keeps the workers busy. [a:1]"


def test_the_number_of_sentences_is_obeyed():
    context = "\n\n".join(f"[f{i}:1] Stealing of kind {word} happens at place {word}." for i, word in enumerate("abcdefghij"))
    assert ask("Where does stealing happen?", context).text.count("[f") == 5
    assert ask("Where does stealing happen? Give eight quotes.", context).text.count("[f") == 8


# ---- what it says about itself ---------------------------------------------------------------------------------------
def test_it_says_once_what_it_is_unless_told_not_to():
    model = ExtractiveModel()
    assert ask("What is a budget?", model=model).text.count(NOTICE) == 1
    assert ask("What is the capital of France?", model=model).text.endswith(NOTICE)
    assert NOTICE not in ask("What is a budget?", model=model, metadata={"notice": False}).text
    assert NOTICE not in ask("What is a budget?", model=model, system="Answer with quotes only.").text
    assert NOTICE not in ask("What is a budget?").text


def test_it_refuses_to_pretend_that_it_can_answer_in_json():
    with pytest.raises(ModelError, match="quotes sentences and cannot answer in this JSON"):
        ask("What is a budget?", output_schema={"type": "boolean"})


def test_it_never_quotes_its_own_notice():
    assert ask("What does the model quote?", f"[a:1] {NOTICE} The model may quote a budget.").text.startswith(
        "The model may quote"
    )


# ---- as a model ------------------------------------------------------------------------------------------------------
def test_it_is_a_language_model_that_counts_what_it_used():
    model = ExtractiveModel()
    assert isinstance(model, LanguageModel)
    prompt = Prompt((Message("user", f"What is a budget?\n\n{GUIDE}"),))
    reply = asyncio.run(model.complete(prompt))
    assert reply.usage.input_tokens == prompt_tokens(model, prompt)
    assert reply.usage.output_tokens == estimate_tokens(reply.text)
    assert reply.usage.estimated
    assert (reply.model, reply.finish) == ("extractive", "stop")


@pytest.mark.parametrize("limit", [1, 5, 20, 30, 60, 1000])
def test_an_answer_never_exceeds_its_output_limit(limit):
    reply = ask("How do workers steal?", model=ExtractiveModel(), max_output_tokens=limit)
    assert reply.usage.output_tokens <= limit
    assert reply.finish == ("length" if limit < 20 else reply.finish if limit < 100 else "stop")


def test_stop_texts_end_the_answer():
    assert ask("What is a budget?", stop=("limits",)).text.endswith("A budget ")


def test_answers_are_the_same_every_time():
    assert len({ask("How do workers steal?").text for _ in range(5)}) == 1


def test_a_long_prompt_does_not_hold_the_loop():
    threads = set()

    class Watching(ExtractiveModel):
        def count_tokens(self, text):
            threads.add(threading.current_thread())
            return super().count_tokens(text)

    ask("What is a budget?", model=Watching())
    assert threads == {threading.main_thread()}
    threads.clear()
    ask("What is a budget?", GUIDE + "[pad:1] " + "Filling words stand here. " * (INLINE_CHARS // 20), model=Watching())
    assert threading.main_thread() not in threads

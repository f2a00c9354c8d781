"""Every operation that asks, with the model that everybody has: it quotes, and where it cannot it says so."""

import pytest

from apxm import Graph, ModelError, RunOptions, Runtime
from apxm.llm.filling import ONE_STEP

NOTES = "The north bridge opens on 3 May 2024. It was built by the city in two years. The old ferry stops on the same day."
QUOTE = "The north bridge opens on 3 May 2024."


def run(add, notes=NOTES, **options):
    graph = Graph("main")
    add(graph, graph.param("notes"))
    with Runtime() as runtime:
        return runtime.execute(graph, notes=notes, run=RunOptions(**options)).value


def test_ask_think_and_reason_quote_what_answers():
    for name in ("ask", "think", "reason"):
        said = run(
            lambda graph, notes, name=name: getattr(graph, name)("When does the bridge open?\n\nContext 1: {notes}", notes=notes)
        )
        assert said.startswith(f"{QUOTE} [context 1:1]")


def test_plan_is_one_step_that_quotes_the_goal():
    said = run(lambda graph, notes: graph.plan("Open the bridge."))
    assert said == {"plan": [{"description": "Open the bridge.", "priority": 0, "dependencies": []}], "result": ONE_STEP}


def test_reflect_quotes_and_recommends_nothing():
    said = run(lambda graph, notes: graph.reflect("What is to be learned?", notes))
    assert QUOTE in said["insights"][0]
    assert said["patterns"] == said["recommendations"] == []
    assert QUOTE in said["summary"]


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("The north bridge opens on 3 May.", "confirmed"),
        ("The north bridge opens on 4 May.", "insufficient"),
        ("The south bridge opens on 3 May.", "insufficient"),
    ],
)
def test_verify_compares_words(claim, verdict):
    said = run(lambda graph, notes: graph.verify(claim, evidence="{notes}", notes=notes))
    assert said["verdict"] == verdict


def test_what_cannot_be_quoted_fails_and_says_what_to_do():
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    with pytest.raises(ModelError, match=r"cannot answer in this JSON: `open` is .*; register a language model that can"):
        run(lambda graph, notes: graph.ask("Is it open?\n\nContext 1: {notes}", notes=notes, output_schema=schema))


def test_tools_are_never_called():
    said = run(
        lambda graph, notes: graph.ask("When does the bridge open?\n\nContext 1: {notes}", notes=notes, tools=["read"]),
        grants=["read=."],
    )
    assert said.startswith(QUOTE)

"""Every graph in the spellings of the public reference: loaded, checked, compiled, bound, and run where its operations run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Artifact, RunOptions, Runtime, compile
from apxm.capability.isolation.sandbox import absence
from apxm.config import RuntimeConfig
from apxm.graph.contract import from_json
from apxm.graph.validate import validate
from apxm.llm.scripted import ScriptedModel
from apxm.observability.events import Paused, Printed

if TYPE_CHECKING:
    from apxm.graph.model import Graph, Program
    from apxm.llm.base import Prompt
    from apxm.observability.events import Event

REFERENCE = {path.stem: path for path in sorted((Path(__file__).parents[2] / "artifacts" / "reference").glob("*.json"))}


def said(node: str, text: str) -> str:
    return f"<{node}: {text}>"


def answer(prompt: Prompt) -> str:
    """Says who was asked and what: an answer shows where its prompt came from."""
    return said(str(prompt.metadata["node"]), str(prompt.messages[-1].content))


@dataclass
class Expected:
    """What one graph is given, and what must come out."""

    outputs: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)  # by node; the others say what they were asked
    printed: list[str] = field(default_factory=list)
    fetched: str | None = "the data"
    task: str | None = None  # lies in the queue `drafts`
    decided: str | None = None  # the answer to the checkpoint `edit-42`
    person: str | None = None  # says this to whatever it is asked


FOUND = [{"title": "tide tables", "url": "https://example.org/3"}]
CLIMATES = [
    said("north", "Describe the climate of the north coast."),
    said("middle", "Describe the climate of the plains."),
    said("south", "Describe the climate of the mountains."),
]
ERROR = {
    "code": "transient",
    "class": "transient",
    "message": "capability `fetch` raised ConnectionError: no network",
    "node": "risky",
    "op": "INV",
    "attempts": 1,
}
TIDE = "It is the case that the tide is high."
VERDICT = {"verdict": "refuted", "confidence": 0.75, "reasoning": "The notes say May."}
OUTLINE = said("outline", "Outline an article about tides in five points.")
DRAFT = said("draft", f"Write the article along this outline.\n\n{OUTLINE}")
POLISHED = said("polish", "Say it shorter: " + said("polish", "Say it shorter: " + said("polish", f"Say it shorter: {TIDE}")))

JUDGED = {"insights": ["short"], "patterns": [], "recommendations": [], "summary": "It is short."}
PLANNED = {"plan": [{"description": "Say when.", "priority": 1, "dependencies": []}], "result": "One step."}

EXPECTED: dict[str, list[Expected]] = {
    "example_01_hello": [Expected({"greet": said("greet", "Greet a new colleague by name: Ada")}, {"colleague": "Ada"})],
    "example_02_tool_use": [Expected({"sum_up": said("sum_up", f"Sum up these results: {json.dumps(FOUND)}")})],
    "example_03_multi_flow": [
        Expected(
            {"write": said("write", "Write it as a note to the team.\n\nContext 1: Start with the roof.")},
            {"matter": "the house"},
            {"conclude": json.dumps({"result": "Start with the roof."})},
        )
    ],
    "spellings_agents": [
        Expected(
            {"tell": PLANNED, "ask_a_person": "yes"},
            {"text": "a note on tides"},
            {"judge": json.dumps(JUDGED), "advice": json.dumps(PLANNED)},
            [f"Noted: {json.dumps(PLANNED)}"],
            person="yes",
        )
    ],
    "spellings_errors": [
        Expected({"result": ["the data"]}),
        Expected({"result": [f"could not fetch: {json.dumps(ERROR)}"]}, fetched=None),
    ],
    "spellings_loop": [Expected({"done": POLISHED})],
    "spellings_memory": [Expected({"history": [], "goal": "set"})],
    "spellings_routing": [Expected({"show": "we pay back"}, printed=["Reply: we pay back"])],
    "template_ask": [
        Expected({"answer": said("answer", "Answer in two sentences: why do tides come twice a day?")}),
    ],
    "template_conditional": [
        Expected(
            {"reply": said("thank", "Write a short thank-you note.\n\nContext 1: true")},
            {"review": "Good."},
            {"mood": "true"},
        ),
        Expected({"reply": said("apologise", "Write a short apology.\n\nContext 1: no")}, {"review": "Bad."}, {"mood": "no"}),
    ],
    "template_fan_out": [
        Expected(
            {
                "all": [
                    said("gains", "List what is gained by remote work."),
                    said("losses", "List what is lost by remote work."),
                    said("costs", "List what remote work costs."),
                ]
            }
        )
    ],
    "spellings_coordination": [Expected({"answer": "yes"}, task="a draft", decided="yes")],
    "template_pipeline": [Expected({"edit": said("edit", f"Correct and shorten:\n\n{DRAFT}")}, {"subject": "tides"})],
    "template_verify": [Expected({"check": VERDICT}, answers={"check": json.dumps(VERDICT)})],
    "template_map_reduce": [Expected({"compare": said("compare", f"Compare the three regions: {json.dumps(CLIMATES)}")})],
}


# What binding says to the others.
def load(name: str) -> Graph | Program:
    authored = from_json(REFERENCE[name].read_text(encoding="utf-8"))
    assert validate(authored) == []
    return authored


def runtime_for(expected: Expected, folder: Path) -> Runtime:
    model = ScriptedModel(rules=[*expected.answers.items(), (".", answer)])
    runtime = Runtime(RuntimeConfig(state_dir=str(folder)), model=model)
    if expected.task is not None:
        runtime.coordination.queues.put("drafts", expected.task)
    if expected.decided is not None:
        runtime.coordination.checkpoints.open("edit-42", "asked before")
        runtime.coordination.checkpoints.answer("edit-42", expected.decided)
    if expected.person is not None:

        def answer_at_once(run_id: str, event: Event) -> None:
            if isinstance(event, Paused):
                runtime.coordination.checkpoints.answer(event.checkpoint, expected.person)

        runtime.subscribe(answer_at_once)
    runtime.models.register("on_this_machine", model, provider="local")

    @runtime.capability(effect="read")
    def search(query: str, limit: int, fields: list[str]) -> list[dict[str, str]]:
        known = {"title": query, "url": f"https://example.org/{limit}", "text": "..."}
        return [{name: known[name] for name in fields}]

    @runtime.capability(effect="read")
    def fetch(url: str) -> str:
        if expected.fetched is None:
            raise ConnectionError("no network")
        return expected.fetched

    return runtime


CASES = [
    pytest.param(name, number, id=f"{name}-{number}") for name, several in EXPECTED.items() for number in range(len(several))
]


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_reference_graph_means_what_it_says(name: str, number: int, level: int, tmp_path: Path) -> None:
    expected = EXPECTED[name][number]
    if name == "spellings_coordination" and (reason := absence()) is not None:
        pytest.skip(f"its code needs a sandbox, and there is none: {reason}")
    dag = Artifact.from_bytes(compile(load(name), level=level).to_bytes()).into_dag()
    with runtime_for(expected, tmp_path) as runtime:
        result = runtime.execute(dag, expected.parameters, run=RunOptions(trace=True, wait=expected.person is not None))
    assert result.outputs == expected.outputs
    assert [event.text for event in result.events() if isinstance(event, Printed)] == expected.printed


def test_every_reference_graph_runs() -> None:
    assert len(REFERENCE) >= 15
    assert EXPECTED.keys() == REFERENCE.keys()

"""Events as JSON, and back."""

from __future__ import annotations

import json

import pytest

from apxm.observability import events

PATH = ((3, "body"), (1, 4))
ALL = [
    events.RunStarted("r", "default.f", 2, 1_700_000_000.5, {"file": "x.py"}, seq=1),
    events.NodeStarted(PATH, 1, "a", "ASK", 3, seq=2, at=0.5),
    events.NodeEnded(PATH, 1, "a", "ASK", "failed", 2.5, "no", 0, "raised", seq=3, at=0.6),
    events.NodeRetried((), 1, 2, 0.1, "busy", seq=4),
    events.FrameOpened(PATH, "body", 2, None, seq=5),
    events.FrameOpened(PATH, "body", 2, 7, seq=6),
    events.FrameClosed(PATH, "done", seq=7),
    events.Printed(PATH, 1, "text", seq=8),
    events.Paused(PATH, 1, "c1", "May I?", 1_700_000_000.5, seq=8),
    events.Called(PATH, 1, "model", "m", 1.5, True, {"llm_calls": 1}, None, {"finish": "stop"}, {"prompt": "p"}, seq=9),
    events.Chunk(PATH, 1, "spell", 3, "c", seq=9),
    events.Spliced(PATH, 1, "p", "plan:1a", 1, 0, 2, "1a2b", ["look"], {"INV": 1}, {"name": "p", "nodes": []}, seq=9),
    events.Gap(3, 9, seq=9),
    events.RunEnded("r", "done", 3.0, None, {"executed": 2}, seq=10, at=1.0),
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_an_event_survives_json(event):
    assert events.from_map(json.loads(json.dumps(events.to_map(event)))) == event


def test_every_kind_is_tried():
    assert {type(event) for event in ALL} == set(events.KINDS.values())


@pytest.mark.parametrize("data", [{"event": "Nothing"}, {}, {"event": "Printed"}, {"event": "Printed", "colour": 1}])
def test_what_is_no_event_is_refused(data):
    with pytest.raises((KeyError, TypeError)):
        events.from_map(data)

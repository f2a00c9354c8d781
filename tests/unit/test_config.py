"""What RunOptions refuses when it is built, and what the message says to write instead."""

from __future__ import annotations

import pytest

from apxm.budget import Limits
from apxm.config import RunOptions
from apxm.errors import ConfigError


def test_a_budget_that_is_no_limits_is_refused_with_their_names():
    with pytest.raises(ConfigError, match=r"RunOptions.budget is \{'llm_calls': 1\}, expected Limits\(...\)") as caught:
        RunOptions(budget={"llm_calls": 1})
    assert "llm_calls=..." in caught.value.hint
    assert RunOptions(budget=Limits(llm_calls=1)).budget.llm_calls == 1


def test_one_grant_without_its_list_is_refused_with_the_list_to_write():
    with pytest.raises(ConfigError, match=r"RunOptions\.grants is 'read=docs', expected a list") as caught:
        RunOptions(grants="read=docs")
    assert caught.value.hint == "grants=['read=docs']"
    assert RunOptions(grants=("read=docs",)).grants == ("read=docs",)


@pytest.mark.parametrize("machines", [None, ["a"], "a"])
def test_machines_that_are_no_map_are_refused(machines):
    with pytest.raises(ConfigError, match=r"RunOptions\.machines is a .*, expected a map by agent; pass on what"):
        RunOptions(machines=machines)


@pytest.mark.parametrize("session", ["", 3, "x" * 1_001])
def test_a_session_has_a_name(session):
    with pytest.raises(ConfigError, match=r"RunOptions\.session is .*, expected a name of 1 to 1,000 characters"):
        RunOptions(session=session)
    assert RunOptions(session="chat").session == "chat"

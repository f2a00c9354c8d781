"""`--trust`, its setting, and what `apxm analyze` says beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apxm.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

MAILS = """
from apxm import CapabilityRecord, flow, step


def send(to: str, text: str) -> str:
    return f"sent to {to}"


def post(text: str) -> str:
    return "posted"


CAPABILITIES = {
    "send": CapabilityRecord("Send.", send),
    "post": CapabilityRecord("Post.", post, trusts=["llm:*"]),
}


@flow
def mails(question: str):
    said = step.ask(f"{question}?", name="said")
    step.inv("post", text=said)
    return step.inv("send", to="bob", text=said, name="mail")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APXM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mails.py").write_text(MAILS)
    return tmp_path


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


RUN = ("run", "mails.py", "--param", "question=x", "--quiet")


def test_a_run_says_what_to_type_and_then_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = typed(capsys, *RUN)
    assert code == 3
    assert "--trust 'llm:extractive=send'" in err
    code, out, _ = typed(capsys, *RUN, "--trust", "llm:extractive=send")
    assert (code, out) == (0, "sent to bob\n")


def test_a_configuration_may_trust_and_the_command_line_adds_to_it(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "apxm.toml").write_text('trust = ["web"]\n')
    assert typed(capsys, *RUN)[0] == 3
    assert typed(capsys, *RUN, "--trust", "llm:*")[0] == 0
    (here / "apxm.toml").write_text('trust = ["llm:*=send"]\n')
    assert typed(capsys, *RUN)[0] == 0


@pytest.mark.parametrize(("trust", "said"), [("llm:*=sned", "did you mean `send`"), ("=send", "LABEL=CAPABILITY")])
def test_trust_in_something_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], trust: str, said: str) -> None:
    code, _, err = typed(capsys, *RUN, "--trust", trust)
    assert code == 2
    assert said in err


def test_analyze_says_beforehand_what_a_run_will_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "analyze", "mails.py")
    assert code == 0
    assert "untrusted text reaches" in out
    assert "send at mail of default.mails: llm:*" in out
    assert "post at" not in out
    code, out, _ = typed(capsys, "analyze", "mails.py", "--json")
    assert json.loads(out)["untrusted"] == [{"flow": "default.mails", "node": "mail", "capability": "send", "labels": ["llm:*"]}]

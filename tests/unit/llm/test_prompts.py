"""Whose system prompt counts: that of the configuration, of a file, or the built-in one."""

import pytest

from apxm import ConfigError, PromptConfig, Runtime, RuntimeConfig
from apxm.graph.ops import OPERATIONS as ROWS
from apxm.graph.ops import attribute_of
from apxm.llm.prompts.own import CHARS_MAX, OPERATIONS, read_prompts


def test_every_operation_with_a_system_prompt_can_be_given_one():
    assert set(OPERATIONS) == {name.lower() for name, row in ROWS.items() if attribute_of(row, "system_prompt") is not None}


def test_a_text_goes_before_a_file_and_a_runtime_reads_both_once(tmp_path):
    (tmp_path / "ask.md").write_text("From the file.\n")
    (tmp_path / "think.md").write_text("Think, says the file.")
    (tmp_path / "README.md").write_text("What these are.")
    (tmp_path / "notes.txt").write_text("x")
    config = PromptConfig(texts={"ask": "From the text."}, folder=str(tmp_path))
    wanted = {"ask": "From the text.", "think": "Think, says the file."}
    assert read_prompts(config) == wanted
    with Runtime(RuntimeConfig(prompt_config=config)) as runtime:
        (tmp_path / "think.md").unlink()
        assert runtime.models.prompts == wanted


def test_without_configuration_there_are_none():
    assert read_prompts(PromptConfig()) == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"aks": "x"}, "there is no operation `aks` that has a system prompt; close: `ask`"),
        ({"inv": "x"}, "there are ask, think, reason, plan, reflect, verify"),
        ({"ask": " "}, "the system prompt of `ask` is ' ', expected a text"),
        ({"ask": 7}, "the system prompt of `ask` is 7, expected a text"),
    ],
)
def test_a_wrong_text_is_refused_when_the_runtime_is_made(texts, message):
    with pytest.raises(ConfigError, match=message):
        Runtime(RuntimeConfig(prompt_config=PromptConfig(texts=texts)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("aks.md", b"x", r"aks\.md is for no operation that has a system prompt; close: `ask`"),
        ("ask.md", b" \n", r"ask\.md is empty"),
        ("ask.md", b"\xff", r"ask\.md is not UTF-8 text: byte 0"),
        ("ask.md", b"x" * (CHARS_MAX + 1), r"ask\.md is longer than 100,000 characters"),
        ("ask.txt", b"x", r"has no prompt; expected ask\.md, think\.md"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(PromptConfig(folder=str(tmp_path)))


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder of prompts .*nowhere cannot be read: No such file"):
        read_prompts(PromptConfig(folder=str(tmp_path / "nowhere")))
    (tmp_path / "ask.md").mkdir()
    with pytest.raises(ConfigError, match=r"the prompt .*ask\.md cannot be read: Is a directory"):
        read_prompts(PromptConfig(folder=str(tmp_path)))

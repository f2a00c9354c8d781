"""Models of a configuration: their tables, references to secrets, and when one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apxm import AgentGraph, Edge, Graph, Node, Program, compile
from apxm.errors import ConfigError, InvalidError
from apxm.llm.extractive import ExtractiveModel
from apxm.llm.scripted import ScriptedModel
from apxm.settings import Settings, load
from apxm.settings.models import asked_for
from apxm.settings.secret import Secret, is_secret

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = "sk-very-secret-text"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "script.json").write_text('{"rules": [], "default": "scripted"}')
    return tmp_path


def settings_of(folder: Path, text: str, environment: dict[str, str] | None = None) -> Settings:
    (folder / "apxm.toml").write_text(text)
    return load(environment={"XDG_CONFIG_HOME": str(folder / "user"), **(environment or {})}, folder=str(folder))


def test_a_table_becomes_a_model_with_paths_from_where_the_file_lies(folder: Path) -> None:
    settings = settings_of(folder, '[models.fast]\nkind = "scripted"\nfile = "script.json"\ndefault = true\n')
    name, model = settings.default_model()
    assert (name, type(model)) == ("fast", ScriptedModel)
    assert settings.models["fast"].values == {"file": str(folder / "script.json")}


def test_without_a_choice_the_default_is_the_extractive_model_whatever_else_there_is(folder: Path) -> None:
    settings = settings_of(folder, '[models.fast]\nkind = "scripted"\nfile = "script.json"\n')
    assert isinstance(settings.default_model()[1], ExtractiveModel)


@pytest.mark.parametrize("chosen", ["extractive", "scripted:script.json"])
def test_a_model_without_a_table_is_called_by_its_kind_so_that_labels_say_it(folder: Path, chosen: str) -> None:
    assert settings_of(folder, f'run.model = "{chosen}"\n').default_model()[0] == chosen.partition(":")[0]


def test_run_model_goes_before_the_default_of_the_tables(folder: Path) -> None:
    tables = '[models.a]\nkind = "extractive"\ndefault = true\n[models.b]\nkind = "extractive"\n'
    assert settings_of(folder, tables).default_model_name() == "a"
    assert settings_of(folder, f'run.model = "b"\n{tables}').default_model_name() == "b"
    assert settings_of(folder, tables, {"APXM_RUN_MODEL": "extractive"}).default_model_name() == "extractive"


def test_the_user_s_table_replaces_that_of_the_project_and_its_default_counts(folder: Path) -> None:
    (folder / "user" / "apxm").mkdir(parents=True)
    (folder / "user" / "apxm" / "apxm.toml").write_text('[models.b]\nkind = "extractive"\ndefault = true\n')
    project = '[models.a]\nkind = "extractive"\ndefault = true\n[models.b]\nkind = "scripted"\nfile = "script.json"\n'
    settings = settings_of(folder, project)
    assert (settings.default_model_name(), settings.models["b"].kind) == ("b", "extractive")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "scriptd"', r"apxm.toml:1: models.m has the kind scriptd; did you mean `scripted`\?"),
        ('file = "x"', "models.m has no `kind`; there are: `extractive`, `scripted`"),
        ('kind = "scripted"', "models.m has no `file`"),
        (
            'kind = "scripted"\nfiel = "x"',
            r"apxm.toml:3: models.m.fiel: models of kind `scripted` have no `fiel`; did you mean `file`",
        ),
        ('kind = "scripted"\nfile = 3', "models.m.file is 3, expected a text or a reference"),
        ('kind = "scripted"\nfile = { evn = "X" }', r"models.m.file is no reference to a secret; write `\{ env = "),
        ('kind = "scripted"\nfile = { file = "a\\u0000b" }', "models.m.file is no reference"),
        ('kind = "scripted"\nfile = { env = "X", file = "y" }', "models.m.file is no reference"),
        ('kind = "extractive"\ndefault = 1', "models.m.default is no true or false"),
    ],
)
def test_a_mistake_in_a_table_is_said_with_its_place(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_of(folder, f"[models.m]\n{text}\n")


def test_names_that_mean_something_else_and_two_defaults_are_refused(folder: Path) -> None:
    for name in ("scripted", "extractive", '"scripted:x"'):
        with pytest.raises(ConfigError, match="a model cannot have this name"):
            settings_of(folder, f'[models.{name}]\nkind = "extractive"\n')
    with pytest.raises(ConfigError, match=r"models\.a and models\.b both are the default"):
        settings_of(folder, "".join(f'[models.{name}]\nkind = "extractive"\ndefault = true\n' for name in "ab"))


# ---- secrets -------------------------------------------------------------------------------------------------------------
def test_a_secret_in_plain_text_is_refused_and_not_repeated(folder: Path) -> None:
    for key in ("api_key", "token", "auth_token", "password", "client-secret"):
        with pytest.raises(
            ConfigError, match=r"apxm.toml:3: models.m.* holds a secret in plain text; write where it is"
        ) as caught:
            settings_of(folder, f'[models.m]\nkind = "extractive"\n{key} = "{PLAIN}"\n')
        assert PLAIN not in str(caught.value)


def test_a_key_that_only_sounds_like_a_secret_is_none() -> None:
    assert not any(map(is_secret, ("max_tokens", "tokenizer", "file", "secretary", "keyboard")))


def test_a_reference_is_resolved_only_when_the_model_is_built(folder: Path) -> None:
    text = '[models.m]\nkind = "scripted"\nfile = { env = "SCRIPT" }\n'
    settings = settings_of(folder, text)
    assert settings.models["m"].values["file"] == Secret("env", "SCRIPT")
    said = r"models.m.file refers to the environment variable SCRIPT, which is not set"
    with pytest.raises(ConfigError, match=said):
        settings.models["m"].build({})
    assert isinstance(settings.models["m"].build({"SCRIPT": str(folder / "script.json")}), ScriptedModel)


def test_a_reference_to_a_file_is_meant_from_where_the_configuration_lies(folder: Path) -> None:
    settings = settings_of(folder, '[models.m]\nkind = "scripted"\nfile = { file = "where.txt" }\n')
    with pytest.raises(ConfigError, match=r"models.m.file refers to the file .*where.txt: No such file"):
        settings.models["m"].build()
    (folder / "where.txt").write_text(f"{folder}/script.json\n")
    assert isinstance(settings.models["m"].build(), ScriptedModel)
    (folder / "where.txt").write_text("\n")
    with pytest.raises(ConfigError, match="which is empty"):
        settings.models["m"].build()


# ---- which models a program asks for ------------------------------------------------------------------------------------
def graph(name: str, *models: str | None) -> Graph:
    nodes = [
        Node(place, f"ask{place}", "ASK", {"template_str": "x"} | ({"model": model} if model else {}))
        for place, model in enumerate(models, 1)
    ]
    return Graph(name, nodes, [])


def test_the_models_of_a_program_are_those_that_its_nodes_name() -> None:
    assert asked_for(compile(graph("f", "a", None)).into_dag()) == {"a", None}
    assert asked_for(compile(Graph("g", [Node(1, "x", "CONST_STR", {"value": 1})])).into_dag()) == set()


def test_those_of_regions_and_of_other_flows_of_the_program_count() -> None:
    body = graph("body", "inner")
    body.nodes.append(Node(9, "out", "YIELD"))
    body.edges.append(Edge(1, 9))
    items = Node(1, "items", "CONST_STR", {"value": [1]})
    main = Graph("main", [items, Node(2, "each", "MAP", {}, {"body": body})], [Edge(1, 2)])
    program = Program([AgentGraph("one", flows=[main, graph("beside", "other")])])
    assert asked_for(compile(program).into_dag("one.main")) == {"inner", "other"}


def test_an_unreadable_script_is_named(folder: Path) -> None:
    settings = settings_of(folder, '[models.m]\nkind = "scripted"\nfile = "nowhere.json"\n')
    with pytest.raises(InvalidError, match=r"nowhere\.json cannot be read"):
        settings.models["m"].build()

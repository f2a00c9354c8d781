"""Which settings hold: the order of the layers, how they are joined, and what each mistake is answered with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from apxm.budget import QUANTITIES, UNLIMITED, Limits
from apxm.capability.tools.search import SearchProvider
from apxm.config import MemoryConfig, PromptConfig, RunOptions, RuntimeConfig
from apxm.errors import ConfigError
from apxm.settings import Settings, kinds, load
from apxm.settings.keys import KEYS, Budget
from apxm.settings.layers import OTHER_VARIABLES, project_file

if TYPE_CHECKING:
    from pathlib import Path


class Place:
    """A project and the home of a user, as the layers see them."""

    def __init__(self, folder: Path) -> None:
        self.project, self.user = folder / "project", folder / "config" / "apxm"
        self.project.mkdir()
        self.user.mkdir(parents=True)
        (self.project / ".git").mkdir()
        self.environment = {"XDG_CONFIG_HOME": str(self.user.parent), "XDG_STATE_HOME": str(folder / "state")}

    def write(self, text: str) -> None:
        (self.project / "apxm.toml").write_text(text)

    def write_user(self, text: str) -> None:
        (self.user / "apxm.toml").write_text(text)

    def load(self, environment: dict[str, str] | None = None, **more: Any) -> Settings:
        return load(environment={**self.environment, **(environment or {})}, folder=str(self.project), **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---- layers --------------------------------------------------------------------------------------------------------------
def test_without_any_layer_a_runtime_is_what_it_is_by_default(place: Place) -> None:
    settings = place.load()
    assert settings.files == ()
    assert settings.runtime_config() == RuntimeConfig()
    assert settings.run_options() == RunOptions()
    assert settings.limits() is UNLIMITED
    assert {settings.origin(key) for key in KEYS} == {"default"}


def test_a_state_directory_that_somebody_set_is_that_of_the_runtime(place: Place, tmp_path: Path) -> None:
    settings = place.load({"APXM_STATE_DIR": str(tmp_path / "mine")})
    assert settings.runtime_config() == RuntimeConfig(state_dir=str(tmp_path / "mine"))


def test_each_layer_goes_before_the_one_below_it(place: Place) -> None:
    place.write("[run]\nmax_parallelism = 1\n")
    assert (place.load().run.max_parallelism, place.load().origin("run.max_parallelism")) == (1, "apxm.toml:2")
    place.write_user("run.max_parallelism = 2\n")
    assert (place.load().run.max_parallelism, place.load().origin("run.max_parallelism")) == (2, f"{place.user}/apxm.toml:1")
    variable = {"APXM_RUN_MAX_PARALLELISM": "3"}
    by_environment = place.load(variable)
    assert by_environment.run.max_parallelism == 3
    assert by_environment.origin("run.max_parallelism") == "environment APXM_RUN_MAX_PARALLELISM"
    by_flag = place.load(variable, flags={"run.max_parallelism": ("--max-parallelism", 4)})
    assert (by_flag.run.max_parallelism, by_flag.origin("run.max_parallelism")) == (4, "flag --max-parallelism")
    assert by_flag.runtime_config().scheduler_config.max_parallelism == 4


def test_a_search_provider_has_its_key_from_where_a_reference_says(place: Place) -> None:
    assert place.load().search_provider() is None
    place.write('[search]\nprovider = "brave"\napi_key = { env = "MY_KEY" }\n')
    provider = place.load({"MY_KEY": "k3y"}).search_provider()
    assert provider == SearchProvider("brave", "https://api.search.brave.com/res/v1/web/search", "k3y")
    with pytest.raises(ConfigError, match="refers to the environment variable MY_KEY, which is not set"):
        place.load().search_provider()
    (place.project / "key").write_text("k3y\n")
    place.write('[search]\nprovider = "tavily"\nurl = "http://127.0.0.1:8/x"\napi_key = { file = "key" }\n')
    assert place.load().search_provider() == SearchProvider("tavily", "http://127.0.0.1:8/x", "k3y")
    place.write('[search]\nprovider = "searxng"\n')
    with pytest.raises(ConfigError, match=r"search\.url is not set"):
        place.load().search_provider()
    place.write('[search]\nprovider = "brave"\n')
    with pytest.raises(ConfigError, match=r"search\.api_key is not set"):
        place.load().search_provider()


@pytest.mark.parametrize("written", ['"s3cret"', '{ env = "A", file = "b" }', '{ env = "" }', "{ file = 3 }", '["s3cret"]'])
def test_a_key_in_plain_text_is_refused_without_repeating_it(place: Place, written: str) -> None:
    place.write(f"[search]\napi_key = {written}\n")
    with pytest.raises(ConfigError, match=r"search\.api_key is no reference to a secret, expected") as refused:
        place.load()
    assert "s3cret" not in str(refused.value)
    place.write("")
    with pytest.raises(ConfigError, match="no reference to a secret") as refused:
        place.load({"APXM_SEARCH_API_KEY": "s3cret"})
    assert "s3cret" not in str(refused.value)


def test_a_granted_host_is_no_path(place: Place) -> None:
    place.write('grants = ["http_get=example.org", "communicate=http://127.0.0.1:9000", "read=notes"]\n')
    given = place.load({"APXM_GRANTS": "http_get = *"}).grants
    assert given == (
        "http_get=example.org",
        "communicate=http://127.0.0.1:9000",
        f"read={place.project}/notes",
        "http_get=*",
    )


def test_the_bounds_of_plans_can_be_set(place: Place) -> None:
    place.write("[run]\nmax_splices = 1\nmax_splice_depth = 2\nmax_splice_nodes = 3\nmax_spliced_firings = 4\n")
    made = place.load().runtime_config().scheduler_config
    assert (made.max_splices, made.max_splice_depth, made.max_splice_nodes, made.max_spliced_firings) == (1, 2, 3, 4)


def test_a_budget_is_joined_quantity_by_quantity(place: Place) -> None:
    place.write("[budget]\nnodes = 10\nllm_calls = 5\n")
    settings = place.load({"APXM_BUDGET_NODES": "20"}, flags={"budget.cost_usd": ("--budget", 1.5)})
    assert settings.limits() == Limits(nodes=20, llm_calls=5, cost_usd=1.5)


def test_grants_and_capabilities_add_up_and_each_knows_who_gave_it(place: Place) -> None:
    place.write('grants = ["read=notes", "search"]\ncapabilities = ["tools.py", "some.module"]\n')
    place.write_user('grants = ["search", "write=~/out"]\n')
    settings = place.load({"APXM_GRANTS": "list=., x"}, flags={"grants": ("--grant", ["read=here"])})
    home = os.path.expanduser("~")
    given = (f"read={place.project}/notes", "search", f"write={home}/out", f"list={place.project}", "x", "read=here")
    assert settings.grants == given
    layers = [origin.layer for origin in settings.origins("grants")]
    assert layers == ["project", "project", "user", "environment", "environment", "flag"]
    assert settings.capabilities == (f"{place.project}/tools.py", "some.module")
    assert settings.run_options().grants == settings.grants


def test_system_prompts_are_joined_text_by_text_and_their_folder_is_meant_from_where_the_file_lies(place: Place) -> None:
    place.write('[prompts]\nask = "Ours."\nverify = "Judge."\nfolder = "texts"\n')
    place.write_user('[prompts]\nask = "Mine."\n')
    wanted = PromptConfig({"ask": "Mine.", "verify": "Judge."}, f"{place.project}/texts")
    assert place.load().runtime_config().prompt_config == wanted
    assert place.load({"APXM_PROMPTS_ASK": "Now."}).runtime_config().prompt_config.texts["ask"] == "Now."


def test_paths_of_a_file_are_meant_from_where_it_lies(place: Place) -> None:
    below = place.project / "a" / "b"
    below.mkdir(parents=True)
    place.write('state_dir = "state"\n[run]\nmodel = "scripted:script.json"\n')
    settings = load(environment=place.environment, folder=str(below))
    assert settings.state_dir == f"{place.project}/state"
    assert settings.run.model == f"scripted:{place.project}/script.json"


def test_every_setting_of_one_value_can_be_given_by_its_variable(place: Place) -> None:
    texts = {"true or false": "no", "seconds, 0 or more": "1.5", "an amount of dollars, 0 or more": "0.5"}
    texts |= {kinds.URL.expected: "http://127.0.0.1:4318", kinds.PORT.expected: "9464", kinds.SECRET.expected: "env:KEY"}
    texts |= {kinds.PEERS.expected: "reviewer=http://127.0.0.1:9000", kinds.DAYS.expected: "1.5"}
    for key in KEYS.values():
        text = texts.get(key.kind.expected, "7" if "number" in key.kind.expected else "extractive")
        if key.kind.choices and key.kind.expected not in texts:
            text = next(choice for choice in key.kind.choices if choice != key.default)
        if key.default is False:
            text = "yes"
        settings = place.load({key.variable: text})
        assert settings.origin(key.name) == f"environment {key.variable}"
        assert settings.value(key.name) not in (key.default, None)


def test_the_table_of_memory_is_its_configuration(place: Place, tmp_path: Path) -> None:
    place.write(
        '[memory]\nfolder = "kept"\nlock_timeout_s = 0.5\nexact_max = 3\nepisodic = "sqlite"\nepisode_scope = "all"\n'
        'episodes = 5\nepisode_days = 1.5\nepisode_bytes = 9\nepisode_content = "digest"\nstm_entries = 7\nstm_bytes = 8\n'
    )
    made = place.load().runtime_config().memory_config
    assert made == MemoryConfig(
        folder=f"{place.project}/kept",
        lock_timeout_ms=500.0,
        exact_max=3,
        episodic="sqlite",
        episode_scope="all",
        episodes=5,
        episode_days=1.5,
        episode_bytes=9,
        episode_content="digest",
        stm_entries=7,
        stm_bytes=8,
    )
    place.write('[memory]\nepisodic = "disk"\n')
    with pytest.raises(ConfigError, match=r"apxm.toml:2: memory.episodic is 'disk', expected off, memory or sqlite"):
        place.load()


def test_memory_lies_in_the_state_directory_unless_a_folder_is_set(place: Place, tmp_path: Path) -> None:
    assert place.load().memory_folder() == tmp_path / "state" / "apxm" / "memory"
    assert (tmp_path / "state" / "apxm" / "memory").stat().st_mode & 0o777 == 0o700
    given = place.load({"APXM_MEMORY_FOLDER": str(tmp_path / "mine")})
    assert given.memory_folder() == tmp_path / "mine"
    (tmp_path / "mine").chmod(0o750)
    with pytest.raises(ConfigError, match=r"the memory folder .*mine \(environment APXM_MEMORY_FOLDER\) is open to others"):
        given.memory_folder()


def test_an_empty_variable_says_nothing(place: Place) -> None:
    assert place.load({"APXM_RUN_DEADLINE_S": "", "APXM_GRANTS": " "}).run_options() == RunOptions()


def test_the_budget_table_has_the_quantities_of_the_ledger() -> None:
    assert tuple(key.partition(".")[2] for key in KEYS if key.startswith("budget.")) == QUANTITIES
    assert isinstance(Budget.nodes, type(KEYS["budget.nodes"]))


# ---- which files ---------------------------------------------------------------------------------------------------------
def test_the_nearest_file_upwards_is_that_of_the_project(place: Place) -> None:
    below = place.project / "a" / "b"
    below.mkdir(parents=True)
    place.write("")
    assert project_file(str(below)) == f"{place.project}/apxm.toml"
    (below.parent / "apxm.toml").write_text("")
    assert project_file(str(below)) == f"{below.parent}/apxm.toml"


def test_nothing_above_a_repository_is_read(place: Place) -> None:
    (place.project.parent / "apxm.toml").write_text("")
    assert project_file(str(place.project)) is None
    (place.project / ".git").rmdir()
    assert project_file(str(place.project)) is not None


def test_nothing_above_the_home_of_the_user_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.project / ".git").rmdir()
    (place.project.parent / "apxm.toml").write_text("")
    monkeypatch.setenv("HOME", str(place.project))
    assert project_file(str(place.project)) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_another_user_put_there_is_refused_until_it_is_named(place: Place) -> None:
    place.write("[run]\ndeadline_s = 1\n")
    os.chown(place.project / "apxm.toml", 12345, -1)
    with pytest.raises(
        ConfigError, match=r"belongs to the user with the id 12345, not to you; --config .* takes it all the same"
    ):
        place.load()
    assert place.load(config="apxm.toml").run.deadline_s == 1


def test_a_named_file_takes_the_place_of_the_nearest_one(place: Place) -> None:
    place.write("[run]\ndeadline_s = 1\n")
    place.write_user("[run]\nmax_parallelism = 2\n")
    (place.project / "other.toml").write_text('[run]\non_failure = "continue"\n')
    for settings in (place.load(config="other.toml"), place.load({"APXM_CONFIG": "other.toml"})):
        assert (settings.run.deadline_s, settings.run.on_failure, settings.run.max_parallelism) == (None, "continue", 2)


def test_none_reads_no_file_at_all(place: Place) -> None:
    place.write("this is [no TOML")
    place.write_user("[run]\nmax_parallelism = 2\n")
    assert place.load(config="none").files == ()
    settings = place.load({"APXM_CONFIG": "none", "APXM_RUN_DEADLINE_S": "3"})
    assert (settings.files, settings.run.deadline_s) == ((), 3)


# ---- mistakes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[run]\ndedline_s = 3\n", r"apxm.toml:2: there is no setting `run.dedline_s`; did you mean `run.deadline_s`\?"),
        ("deadline_s = 3\n", r"apxm.toml:1: there is no setting `deadline_s`; did you mean `run.deadline_s`\?"),
        ("\n[bugdet]\nnodes = 3\n", r"apxm.toml:2: there is no setting `bugdet`; did you mean `budget`\?"),
        ("bugdet.nodes = 3\nbugdet.splices = 4\n", r"apxm.toml:1: there is no setting `bugdet`"),
        ("run = 3\n", r"apxm.toml:1: run is 3, expected a table \[run\]"),
        ('[run]\ndeadline_s = "soon"\n', r"apxm.toml:2: run.deadline_s is 'soon', expected seconds, 0 or more"),
        ("[run]\ndeadline_s = nan\n", "run.deadline_s is nan, expected seconds"),
        ("[run]\ndeadline_s = -1\n", "run.deadline_s is -1, expected seconds"),
        ("[run]\nmax_parallelism = 0\n", "run.max_parallelism is 0, expected a whole number, at least 1"),
        ("[budget]\nnodes = true\n", "budget.nodes is True, expected a whole number, 0 or more"),
        ("[budget]\nnodes = 1.5\n", "budget.nodes is 1.5, expected a whole number"),
        ('[run]\non_failure = "panic"\n', "run.on_failure is 'panic', expected fail_fast or continue"),
        ('[log]\nlevel = "loud"\n', "log.level is 'loud', expected debug, info, warning, error or off"),
        ("[records]\nenabled = 1\n", "records.enabled is 1, expected true or false"),
        ('grants = "read"\n', "grants is 'read', expected a list of `NAME` and `NAME=FOLDER`"),
        ('grants = ["read="]\n', "expected a list of `NAME` and `NAME=FOLDER`"),
        ('peers = ["reviewer"]\n', "expected a list of `NAME=URL`"),
        ("capabilities = [3]\n", "expected a list of `FILE.py` and modules"),
        ('state_dir = ""\n', "state_dir is '', expected the path of a folder"),
        ('[prompts]\nask = ""\n', "apxm.toml:2: prompts.ask is '', expected a text"),
        ('[prompts]\naks = "x"\n', r"there is no setting `prompts.aks`; did you mean `prompts.ask`\?"),
        ("[run\n", r"apxm.toml:1:5: expected '\]' at the end of a table declaration"),
        ('a = "x\n', "apxm.toml:1:7: illegal character"),
        (
            '[run]\nmodel = "gtp"\n',
            "apxm.toml:2: run.model is 'gtp'; expected `extractive` or `scripted:FILE`, or the name of a model",
        ),
    ],
)
def test_a_mistake_in_a_file_is_said_with_its_place_and_what_was_expected(place: Place, text: str, said: str) -> None:
    place.write(text)
    with pytest.raises(ConfigError, match=said):
        place.load()


def test_what_is_no_text_or_too_long_is_no_configuration(place: Place) -> None:
    (place.project / "apxm.toml").write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"apxm\.toml is not UTF-8 text: byte 5"):
        place.load()
    (place.project / "apxm.toml").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="longer than 1,048,576 bytes"):
        place.load()
    with pytest.raises(ConfigError, match=r"cannot read the configuration nowhere\.toml: No such file"):
        place.load(config="nowhere.toml")


@pytest.mark.parametrize("text", [".".join("a" * 5_000) + " = 1", "a = " + "[" * 5_000 + "]" * 5_000, "a = " + "1" * 5_000])
def test_what_would_break_the_reader_is_refused_too(place: Place, text: str) -> None:
    place.write(text)
    with pytest.raises(ConfigError, match=r"apxm\.toml(:| is nested)"):
        place.load()


def test_an_unknown_variable_is_refused_with_the_nearest_one(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"variable APXM_BUDGT_NODES is no setting; did you mean `APXM_BUDGET_NODES`\?"):
        place.load({"APXM_BUDGT_NODES": "3"})
    with pytest.raises(ConfigError, match="APXM_RUN_DEADLINE_S is 'soon', expected seconds"):
        place.load({"APXM_RUN_DEADLINE_S": "soon"})


def test_variables_that_are_no_settings_but_known_are_left_alone(place: Place) -> None:
    service = {"APXM_SERVICE_HOST": "10.0.0.1", "APXM_SERVICE_PORT_HTTP": "80", "APXM_PORT": "tcp://10.0.0.1:80"}
    service |= {"APXM_PORT_80_TCP_ADDR": "10.0.0.1", "APXM_WORKER_PORT_80_TCP": "tcp://10.0.0.1:80"}
    known = {name: "" if name == "APXM_CONFIG" else "1" for name in OTHER_VARIABLES}
    assert place.load(known | service).run_options() == RunOptions()


def test_a_key_on_several_lines_or_inline_is_found_on_its_first_line(place: Place) -> None:
    place.write(
        '# text\ngrants = [\n  "a",\n  "b",\n]\nrun.deadline_s = 3\nbudget = { nodes = 1, splices = 2 }\n[log]\n\nlevel="info"'
    )
    settings = place.load()
    keys = ("grants", "run.deadline_s", "budget.nodes", "budget.splices", "log.level")
    assert [settings.origin(key) for key in keys] == [f"apxm.toml:{line}" for line in (2, 6, 7, 7, 10)]

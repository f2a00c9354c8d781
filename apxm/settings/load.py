"""What holds after every layer has spoken: defaults, then project, user, environment, flags. The last one that says it wins."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from apxm.budget import UNLIMITED, Limits
from apxm.config import MemoryConfig, PromptConfig, RunOptions, RuntimeConfig, SchedulerConfig
from apxm.errors import ConfigError
from apxm.settings.keys import KEYS, SECTIONS, Budget, General, Log, Memory, Prompts, Records, Run, Search, Telemetry, Value
from apxm.settings.layers import files, from_environment, from_file, from_flags
from apxm.settings.origin import DEFAULT
from apxm.settings.state import MEMORY, private_folder, xdg_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from apxm.capability.tools.search import SearchProvider
    from apxm.config import FailurePolicy
    from apxm.llm.base import LanguageModel
    from apxm.settings.layers import Layer
    from apxm.settings.models import ModelTable
    from apxm.settings.origin import File, Origin
    from apxm.settings.secret import Secret


class Settings(General):
    """Every setting, as attributes: `settings.run.deadline_s`, `settings.grants`. `files` are those that were read."""

    __slots__ = ("budget", "environment", "files", "log", "memory", "models", "prompts", "records", "run", "search", "telemetry")

    def __init__(
        self,
        values: Mapping[str, Value],
        models: Mapping[str, ModelTable],
        read: Iterable[File],
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(values)
        self.run, self.budget, self.records, self.log = Run(values), Budget(values), Records(values), Log(values)
        self.telemetry, self.prompts, self.search = Telemetry(values), Prompts(values), Search(values)
        self.memory = Memory(values)
        self.models, self.files, self.environment = models, tuple(read), environment

    def origins(self, key: str) -> tuple[Origin, ...]:
        """Who gave the value of a key: one origin, or one for each item of a joined list that is not empty."""
        found = self.values.get(key)
        return (DEFAULT,) if found is None else found.origins

    def origin(self, key: str) -> str:
        """Who gave the value of a key, for a person."""
        return ", ".join(dict.fromkeys(map(str, self.origins(key))))

    def value(self, key: str) -> Any:
        """The value of a key by its dotted name."""
        found = self.values.get(key)
        return KEYS[key].default if found is None else found.value

    # ---- what follows from them --------------------------------------------------------------------------------------
    def runtime_config(self) -> RuntimeConfig:
        """What a Runtime is made with."""
        texts = self._given("prompts")
        return RuntimeConfig(
            scheduler_config=SchedulerConfig(
                max_parallelism=self.run.max_parallelism,
                max_splices=self.run.max_splices,
                max_splice_depth=self.run.max_splice_depth,
                max_splice_nodes=self.run.max_splice_nodes,
                max_spliced_firings=self.run.max_spliced_firings,
            ),
            prompt_config=PromptConfig(folder=texts.pop("folder", None), texts=texts),
            memory_config=self.memory_config(),
            state_dir=None if self.origins("state_dir") == (DEFAULT,) else self.state_dir,
        )

    def memory_config(self) -> MemoryConfig:
        """What is remembered, and where."""
        from apxm.settings.embedders import embedder_of

        given = {name: value for name, value in self._given("memory").items() if not name.startswith("embedder")}
        if "lock_timeout_s" in given:
            given["lock_timeout_ms"] = given.pop("lock_timeout_s") * 1e3
        return MemoryConfig(**given, embedder=embedder_of(self.values, self.environment))

    def limits(self) -> Limits:
        """What a run may spend."""
        given = self._given("budget")
        return Limits(**given) if given else UNLIMITED

    def _given(self, section: str) -> dict[str, Any]:
        """What somebody set in a section, by the names of its keys."""
        parts = ((key.partition("."), value.value) for key, value in self.values.items())
        return {name: value for (head, _, name), value in parts if head == section and name}

    def run_options(self, *, wait: bool = False, trace: bool = False, metadata: Mapping[str, str] | None = None) -> RunOptions:
        """What a run is started with."""
        return RunOptions(
            deadline_s=self.run.deadline_s,
            budget=self.limits(),
            grants=self.grants,
            trust=self.trust,
            on_failure=cast("FailurePolicy", self.run.on_failure),
            wait=wait,
            trace=trace,
            metadata=metadata or {},
        )

    def search_provider(self) -> SearchProvider | None:
        """Whom `search_web` asks, with its key as of now; None: whom the environment names. ConfigError for what is missing."""
        from apxm.capability.tools.search import ADDRESSES, SearchProvider

        name = self.search.provider
        secret: Secret | None = self.search.api_key
        if name is None:
            return None
        where = self.origins("search.provider")[0].where("search.provider")
        url = self.search.url or ADDRESSES.get(name)
        if url is None or (secret is None and name in ADDRESSES):
            raise ConfigError(f"{where} is {name!r}, and search.{'url' if url is None else 'api_key'} is not set")
        key = (
            "" if secret is None else secret.resolve(self.origins("search.api_key")[0].where("search.api_key"), self.environment)
        )
        return SearchProvider(name, url, key)

    def state_folder(self) -> Path:
        """The state directory, which is there afterwards with mode 0700; ConfigError when it cannot be or is not private."""
        return private_folder(self.state_dir, self.origin("state_dir"))

    def memory_folder(self) -> Path:
        """Where long-term memory and episodes are kept, there afterwards and private; ConfigError as for the state directory."""
        if self.memory.folder is None:
            return private_folder(str(self.state_folder() / "memory"), self.origin("state_dir"), what=MEMORY, setting="state_dir")
        return private_folder(self.memory.folder, self.origin("memory.folder"), what=MEMORY, setting="memory.folder")

    def default_model_name(self) -> str:
        """What is meant by nodes that name no model: `extractive`, `scripted:FILE` or the name of one of `models`."""
        chosen = self.run.model
        if chosen is None:
            return next((name for name, table in self.models.items() if table.default), "extractive")
        if chosen in self.models or chosen == "extractive" or (chosen.startswith("scripted:") and chosen != "scripted:"):
            return chosen
        raise self._no_model(chosen)

    def default_model(self) -> tuple[str, LanguageModel]:
        """The model of nodes that name none, built, and the name to register it under."""
        from apxm.settings.models import MODEL_KINDS

        chosen = self.default_model_name()
        if chosen in self.models:
            return chosen, self.models[chosen].build(self.environment)
        kind, _, file = chosen.partition(":")
        return kind, MODEL_KINDS[kind].build({"file": file})

    def _no_model(self, name: str) -> ConfigError:
        from apxm.settings.nearest import nearest

        hint = "expected `extractive` or `scripted:FILE`, or the name of a model in apxm.toml"
        near = nearest(name, self.models) if self.models else ""
        where = self.origins("run.model")[0].where("run.model")
        return ConfigError(f"{where} is {name!r:.60}", hint=f"{hint}; {near}" if near else hint)


def load(
    *,
    config: str | None = None,
    flags: Mapping[str, tuple[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> Settings:
    """Read every layer and join them; ConfigError for the first thing that is wrong in one of them.

    `config` (else the variable APXM_CONFIG) is a project file to take instead of the nearest one, or `none`: no file at
    all. `flags` gives values by key, each with the flag that it came by. `folder` is the working directory.
    """
    known = os.environ if environment is None else environment
    here = _working_directory() if folder is None else folder
    found = files(config or known.get("APXM_CONFIG") or None, here, known)
    layers = [from_file(file) for file in found]
    layers += [from_environment(known, here), from_flags(flags or {})]
    default_state = Value(xdg_folder("XDG_STATE_HOME", "~/.local/state", known), (DEFAULT,))
    values, models = _joined(layers)
    settings = Settings({"state_dir": default_state, **values}, models, found, known)
    settings.default_model_name()  # a name that no model has is a mistake wherever it stands, used or not
    return settings


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        raise ConfigError("the working directory is gone", hint="change to one that exists") from None


def _joined(layers: Iterable[Layer]) -> tuple[dict[str, Value], dict[str, ModelTable]]:
    values: dict[str, Value] = {}
    models: dict[str, ModelTable] = {}
    for layer in layers:
        for key, value in layer.values.items():
            values[key] = _appended(values[key], value) if KEYS[key].joined and key in values else value
        if any(table.default for table in layer.models.values()):
            models = {name: table._replace(default=False) for name, table in models.items()}
        models |= layer.models
    return values, models


def _appended(before: Value, after: Value) -> Value:
    """The items of both, each once, with the origin of the first that had it."""
    origins: dict[str, Origin] = {}
    for value in (before, after):
        for item, origin in zip(value.value, value.origins):
            origins.setdefault(item, origin)
    return Value(tuple(origins), tuple(origins.values()))


assert set(SECTIONS) == {
    "run",
    "budget",
    "prompts",
    "search",
    "memory",
    "records",
    "log",
    "telemetry",
}  # Settings.__init__ makes one of each

"""Which settings there are: the one table from which reading, messages, `apxm config show` and the reference derive.

A setting is an attribute of the class of its section. To add one is to add a line here, and to read it somewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, overload

from apxm.config import MemoryConfig, SchedulerConfig
from apxm.settings import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.settings.kinds import Kind
    from apxm.settings.origin import Origin

T = TypeVar("T")

PREFIX = "APXM_"


class Value(NamedTuple):
    """A value and who gave it: one origin, or one for each item of a list that was joined."""

    value: Any
    origins: tuple[Origin, ...]


class Key(Generic[T]):
    """One setting: its kind, what it is when nobody says, what it means. Lists are joined, the rest is replaced.

    `shown` is how the reference writes a default that is not the same everywhere.
    """

    __slots__ = ("default", "doc", "joined", "kind", "name", "shown")

    def __init__(self, kind: Kind, default: T, doc: str, *, shown: str | None = None) -> None:
        self.kind, self.default, self.doc, self.shown = kind, default, doc, shown
        self.joined = isinstance(default, tuple)
        self.name = ""

    def __set_name__(self, owner: type[Section], name: str) -> None:
        self.name = f"{owner.section}.{name}" if owner.section else name
        KEYS[self.name] = self

    @overload
    def __get__(self, section: None, owner: type[Section]) -> Key[T]: ...
    @overload
    def __get__(self, section: Section, owner: type[Section]) -> T: ...
    def __get__(self, section: Section | None, owner: type[Section]) -> Key[T] | T:
        if section is None:
            return self
        found = section.values.get(self.name)
        value: T = self.default if found is None else found.value
        return value

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.replace(".", "_").upper()


KEYS: dict[str, Key[Any]] = {}  # by dotted name, in the order of this page


class Section:
    """The settings of one table of the file, as attributes; `values` has those that somebody gave, by dotted name."""

    section: ClassVar[str] = ""
    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values


class General(Section):
    """What stands above all tables."""

    __slots__ = ()
    state_dir = Key(
        kinds.FOLDER,
        "",
        "where records and other state are kept; made with mode 0700, refused when others may enter it",
        shown="`$XDG_STATE_HOME/apxm`, else `~/.local/state/apxm`",
    )
    grants = Key[tuple[str, ...]](
        kinds.GRANTS, (), "what programs may call, as with --grant; a name that a program does not have is passed over"
    )
    trust = Key[tuple[str, ...]](
        kinds.TRUST, (), "labels whose values may reach guarded capabilities, as with --trust: `LABEL` or `LABEL=CAPABILITY`"
    )
    peers = Key[tuple[str, ...]](
        kinds.PEERS, (), "agents in other processes that programs may send messages to: `NAME=URL`; see COMMUNICATE"
    )
    capabilities = Key[tuple[str, ...]](
        kinds.MODULES, (), "files and modules whose CAPABILITIES programs get, as with --capabilities; they are imported"
    )


class Run(Section):
    """How programs are run."""

    section = "run"
    __slots__ = ()
    deadline_s = Key[float | None](kinds.SECONDS, None, "end a run after this time")
    on_failure = Key(
        kinds.choice("fail_fast", "continue"), "fail_fast", "whether the first failure ends the run, or the rest is finished"
    )
    max_parallelism = Key(
        kinds.POSITIVE, SchedulerConfig().max_parallelism, "how many operations may wait at once (model calls, tools)"
    )
    max_splices = Key(kinds.COUNT, SchedulerConfig().max_splices, "how many plans that models made may run")
    max_splice_depth = Key(kinds.COUNT, SchedulerConfig().max_splice_depth, "how many of them within each other")
    max_splice_nodes = Key(kinds.POSITIVE, SchedulerConfig().max_splice_nodes, "how many nodes each of them may have")
    max_spliced_firings = Key(
        kinds.POSITIVE, SchedulerConfig().max_spliced_firings, "how many nodes may fire in a run after the first of them"
    )
    model = Key[str | None](
        kinds.MODEL, None, "the model of nodes that name none; goes before `default = true` of a model", shown="`extractive`"
    )


class Budget(Section):
    """What one run may spend; without a value, as much as it likes."""

    section = "budget"
    __slots__ = ()
    llm_calls = Key[int | None](kinds.COUNT, None, "calls of models")
    input_tokens = Key[int | None](kinds.COUNT, None, "tokens that models are sent")
    output_tokens = Key[int | None](kinds.COUNT, None, "tokens that models answer with")
    cost_usd = Key[float | None](kinds.DOLLARS, None, "what models charge, in US dollars")
    tool_calls = Key[int | None](kinds.COUNT, None, "calls of capabilities")
    nodes = Key[int | None](kinds.COUNT, None, "firings of nodes, in all frames")
    splices = Key[int | None](kinds.COUNT, None, "plans that models made and that are run")


class Prompts(Section):
    """What models are told by nodes without a `system_prompt`; without a value, the built-in text."""

    section = "prompts"
    __slots__ = ()
    folder = Key[str | None](
        kinds.FOLDER, None, "a folder of files `ask.md`, `think.md`, … with such texts; a text of this table goes before a file"
    )
    ask = Key[str | None](kinds.TEXT, None, "for ASK")
    think = Key[str | None](kinds.TEXT, None, "for THINK")
    reason = Key[str | None](kinds.TEXT, None, "for REASON")
    plan = Key[str | None](kinds.TEXT, None, "for PLAN")
    reflect = Key[str | None](kinds.TEXT, None, "for REFLECT")
    verify = Key[str | None](kinds.TEXT, None, "for VERIFY")


class Search(Section):
    """The service that `search_web` asks; without a provider, the one that BRAVE_API_KEY, TAVILY_API_KEY or SEARXNG_URL names."""

    section = "search"
    __slots__ = ()
    provider = Key[str | None](kinds.choice("brave", "tavily", "searxng"), None, "what it speaks")
    url = Key[str | None](kinds.URL, None, "where it answers; searxng needs it", shown="the address of the service")
    api_key = Key[Any](kinds.SECRET, None, "its key, by reference; brave and tavily need it")


class Memory(Section):
    """What is remembered, where and within which bounds."""

    section = "memory"
    __slots__ = ()
    folder = Key[str | None](
        kinds.FOLDER,
        None,
        "where long-term memory and episodes are kept; made with mode 0700, refused when others may enter it",
        shown="`memory` in the state directory",
    )
    lock_timeout_s = Key(
        kinds.SECONDS, MemoryConfig().lock_timeout_ms / 1e3, "how long to wait while another process owns the folder"
    )
    exact_max = Key(
        kinds.COUNT, MemoryConfig().exact_max, "a namespace with more vectors is searched with the index, any other exactly"
    )
    episodic = Key(
        kinds.choice("off", "memory", "sqlite"),
        MemoryConfig().episodic,
        "whether episodes are kept, and where: in the process of the run, or in the folder",
    )
    episode_scope = Key(
        kinds.choice("effects", "all"),
        MemoryConfig().episode_scope,
        "of what: of calls to the world, or of every firing of a node",
    )
    episodes = Key(kinds.POSITIVE, MemoryConfig().episodes, "how many are kept; the oldest go first")
    episode_days = Key[float | None](kinds.DAYS, None, "how long they are kept")
    episode_bytes = Key(kinds.POSITIVE, MemoryConfig().episode_bytes, "how many bytes they may take in the folder")
    episode_content = Key(
        kinds.choice("off", "digest", "text"),
        MemoryConfig().episode_content,
        "what they keep of prompts, replies, arguments and results; what looks like a secret is blacked out",
    )
    embedder = Key[str | None](
        kinds.choice("hashing", "onnx", "torch", "openai", "ollama", "cohere"),
        None,
        "what makes vectors of texts; after a change, `apxm memory rebuild`",
        shown="`hashing`",
    )
    embedder_path = Key[str | None](kinds.FOLDER, None, "the folder of the model; onnx and torch need it")
    embedder_url = Key[str | None](
        kinds.URL, None, "where the service answers: http://127.0.0.1:11434, or http://HOST/v1 of one that speaks like OpenAI"
    )
    embedder_model = Key[str | None](kinds.TEXT, None, "the model of the service; openai, ollama and cohere need it")
    embedder_api_key = Key[Any](kinds.SECRET, None, "the key of the service, by reference")
    embedder_dimension = Key[int | None](
        kinds.POSITIVE, None, "how many numbers a vector has, of hashing and of services that can be asked for it"
    )
    embedder_query_prefix = Key[str | None](kinds.TEXT, None, "what models want before a query, such as `query: `")
    embedder_text_prefix = Key[str | None](kinds.TEXT, None, "what models want before a text that is to be found")
    stm_entries = Key(kinds.POSITIVE, MemoryConfig().stm_entries, "how many entries the short-term memory of a run holds")
    stm_bytes = Key(kinds.POSITIVE, MemoryConfig().stm_bytes, "how many bytes they may take")


class Records(Section):
    """What is kept of past runs, in the state directory."""

    section = "records"
    __slots__ = ()
    enabled = Key(kinds.SWITCH, True, "keep the events of each run, to look at later")
    runs_max = Key(kinds.POSITIVE, 200, "how many runs are kept; the oldest go first")
    bytes_max = Key(kinds.POSITIVE, 256 * 1024 * 1024, "how many bytes all kept runs may take; the oldest go first")


class Log(Section):
    """What is written about what happens, for operators."""

    section = "log"
    __slots__ = ()
    level = Key(kinds.choice("debug", "info", "warning", "error", "off"), "off", "the least severe messages that are written")
    format = Key(kinds.choice("console", "json"), "console", "lines for a person, or one JSON object a line")


class Telemetry(Section):
    """Where traces and metrics of `apxm run` go."""

    section = "telemetry"
    __slots__ = ()
    otlp_endpoint = Key[str | None](
        kinds.URL, None, "send traces to this collector, by OTLP over HTTP: http://localhost:4318 is usual"
    )
    metrics_port = Key[int | None](kinds.PORT, None, "answer Prometheus on this port of 127.0.0.1 while a program runs")
    content = Key(kinds.SWITCH, False, "let traces carry what was said to models and tools, and the texts of errors")


SECTIONS: dict[str, type[Section]] = {
    kind.section: kind for kind in (Run, Budget, Prompts, Search, Memory, Records, Log, Telemetry)
}

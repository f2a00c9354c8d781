"""The embedder of a configuration: which of the `[memory]` keys each kind has, and how it is made when it is first used."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from apxm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.memory.embed.base import Embedder, Fingerprint, Vectors
    from apxm.memory.embed.http import ServiceKind
    from apxm.settings.keys import Value
    from apxm.settings.secret import Secret

PREFIX = "embedder_"


class EmbedderKind(NamedTuple):
    """The keys that a kind needs and those that it may have, without PREFIX."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


_FOLDER = EmbedderKind(("path",), ("query_prefix", "text_prefix"))
_SERVICE = EmbedderKind(("model",), ("url", "api_key", "dimension", "query_prefix", "text_prefix"))
EMBEDDER_KINDS: Mapping[str, EmbedderKind] = {
    "hashing": EmbedderKind(may=("dimension",)),
    "onnx": _FOLDER,
    "torch": _FOLDER,
    "openai": _SERVICE,
    "ollama": _SERVICE,
    "cohere": _SERVICE,
}


def embedder_of(values: Mapping[str, Value], environment: Mapping[str, str]) -> Embedder | None:
    """What the settings choose, checked but not made; None when they choose nothing. ConfigError for keys that do not fit.

    Keys of another kind are a mistake beside the choice; those of a layer below it, which chose otherwise, are passed over.
    """
    prefix = f"memory.{PREFIX}"
    given = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    chosen = values.get("memory.embedder")
    kind = "hashing" if chosen is None else chosen.value
    known = (*EMBEDDER_KINDS[kind].needs, *EMBEDDER_KINDS[kind].may)
    for name, value in given.items():
        if name not in known and (chosen is None or value.origins[0].layer == chosen.origins[0].layer):
            kinds = [f"`{one}`" for one, each in EMBEDDER_KINDS.items() if name in (*each.needs, *each.may)]
            raise ConfigError(
                f"{value.origins[0].where(prefix + name)}: the embedder is `{kind}`, which has no such key",
                hint=f"set `memory.embedder` to {', '.join(kinds[:-1])} or {kinds[-1]}, or leave it out",
            )
    for name in EMBEDDER_KINDS[kind].needs:
        if chosen is not None and name not in given:
            where = chosen.origins[0].where("memory.embedder")
            raise ConfigError(f"{where} is {kind!r}, and {prefix}{name} is not set")
    fitting = {name: value for name, value in given.items() if name in known}
    return ChosenEmbedder(kind, fitting, environment) if chosen is not None or fitting else None


class ChosenEmbedder:
    """Makes the embedder when it is first asked for something: only then are libraries loaded and secrets read."""

    def __init__(self, kind: str, given: Mapping[str, Value], environment: Mapping[str, str]) -> None:
        self.kind = kind
        self._given, self._environment = given, environment
        self._made: Embedder | None = None
        self._making = threading.Lock()

    def __repr__(self) -> str:
        return f"ChosenEmbedder({self.kind!r})"

    @property
    def fingerprint(self) -> Fingerprint:
        return self._embedder().fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedder().embed(texts)

    def embed_query(self, text: str) -> Vectors:
        return self._embedder().embed_query(text)

    def close(self) -> None:
        with self._making:
            if self._made is not None:
                self._made.close()

    def _embedder(self) -> Embedder:
        with self._making:
            if self._made is None:
                self._made = _make(self.kind, self._options())
            return self._made

    def _options(self) -> dict[str, Any]:
        options = {name: value.value for name, value in self._given.items()}
        if "api_key" in options:
            secret: Secret = options["api_key"]
            where = self._given["api_key"].origins[0].where(f"memory.{PREFIX}api_key")
            options["api_key"] = secret.resolve(where, self._environment)
        return options


def _make(kind: str, options: dict[str, Any]) -> Embedder:
    match kind:
        case "hashing":
            from apxm.memory.embed.hashing import HashingEmbedder

            return HashingEmbedder(**options)
        case "onnx":
            from apxm.memory.embed.onnx import OnnxEmbedder

            return OnnxEmbedder(**options)
        case "torch":
            from apxm.memory.embed.torch import TorchEmbedder

            return TorchEmbedder(**options)
        case _:
            from apxm.memory.embed.http import HttpEmbedder

            return HttpEmbedder(cast("ServiceKind", kind), **options)

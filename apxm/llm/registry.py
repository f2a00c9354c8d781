"""Which model a name means. Thread-safe; it never calls one."""

from __future__ import annotations

from difflib import get_close_matches
from threading import Lock
from typing import TYPE_CHECKING

from apxm.errors import BindError, InvalidError
from apxm.llm.base import LanguageModel
from apxm.llm.resilience import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODELS_MAX = 1_000  # far beyond any runtime; a model registered per request is a leak, and this names it
EXTRACTIVE = "extractive"


class ModelRegistry:
    """The models of one runtime by name, and which of them is meant when nobody says.

    The default is the one registered with `default=True`, else the first one registered, else the offline extractive
    model, which is always there under the name `extractive` unless that name is registered. `generation` grows with every
    change, so that what was bound before can be told apart; readers take no lock. `retry` says how calls are repeated,
    `prompts` what models are told by nodes that say nothing themselves: operation in lower case -> system prompt.
    """

    def __init__(self, retry: RetryPolicy | None = None, prompts: Mapping[str, str] | None = None) -> None:
        self.retry = retry or RetryPolicy()
        self.prompts: Mapping[str, str] = prompts or {}
        self.generation = 0
        self._lock = Lock()
        self._built_in: LanguageModel | None = None  # made when first asked for: most runtimes have a model of their own
        self._models: Mapping[str, LanguageModel] = {}
        self._default: str | None = None

    def register(self, name: str, model: LanguageModel, default: bool = False, *, provider: str | None = None) -> None:
        """Add a model under a name that is still free; with `default` it is what nodes without a model get.

        Several providers may offer a model of one name: with `provider` its full name is `provider/name`.
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidError(f"model name {name!r} is empty")
        if provider is not None:
            if not isinstance(provider, str) or not provider.strip() or "/" in provider:
                raise InvalidError(f"model `{name}`: {provider!r} is no name of a provider", hint="a text without `/`")
            name = f"{provider}/{name}"
        if not isinstance(model, LanguageModel):
            missing = [part for part in ("name", "complete", "count_tokens") if not hasattr(model, part)]
            raise InvalidError(f"model `{name}`: a {type(model).__name__} has no {', '.join(missing)}", hint="see LanguageModel")
        with self._lock:
            if name in self._models:
                raise InvalidError(f"model `{name}` is registered already", hint="unregister it first, or choose another name")
            if len(self._models) >= MODELS_MAX:
                raise InvalidError(f"model `{name}` is one more than the {MODELS_MAX} that a runtime holds")
            self._models = {**self._models, name: model}
            if default or self._default is None:
                self._default = name
            self.generation += 1

    def unregister(self, name: str) -> None:
        """Forget a model. When it was the default, the first one left is."""
        with self._lock:
            if name not in self._models:
                raise self._unknown(name)
            self._models = {other: model for other, model in self._models.items() if other != name}
            if self._default == name:
                self._default = next(iter(self._models), None)
            self.generation += 1

    def resolve(self, name: str | None = None, provider: str | None = None) -> tuple[str, LanguageModel]:
        """The full name and the model that `name` (None: the default) means; BindError when there is none.

        With `provider` it is the one of that provider, and without a name its default or first one. Without, a name that
        only providers offer means the one that was registered first.
        """
        models = self._models
        if provider is not None:
            return self._of_provider(name, provider)
        wanted = name if name is not None else self._default or EXTRACTIVE
        model = models.get(wanted)
        if model is not None:
            return wanted, model
        if wanted == EXTRACTIVE:
            return EXTRACTIVE, self._extractive()
        for full, offered in models.items():
            if full.endswith(f"/{wanted}"):
                return full, offered
        raise self._unknown(wanted)

    def _of_provider(self, name: str | None, provider: str) -> tuple[str, LanguageModel]:
        models = self._models
        offered = [full for full in models if full.startswith(f"{provider}/")]
        if not offered:
            known = dict.fromkeys(full.partition("/")[0] for full in models if "/" in full)
            hint = f"there are: {_quoted(known)}" if known else "give `provider` when you register a model"
            raise BindError(f"no model of the provider `{provider}` is registered", hint=hint)
        if name is None:
            full = self._default if self._default in offered else offered[0]
        else:
            full = name if name in offered else f"{provider}/{name}"
        if full in models:
            return full, models[full]
        raise BindError(f"provider `{provider}` offers no model `{name}`", hint=f"it offers {_quoted(offered[:10])}")

    def _extractive(self) -> LanguageModel:
        from apxm.llm.extractive import ExtractiveModel

        with self._lock:
            if self._built_in is None:
                self._built_in = ExtractiveModel()
            return self._built_in

    def get(self, name: str | None = None) -> LanguageModel:
        """The model that `name` (None: the default) means; BindError when there is none."""
        return self.resolve(name)[1]

    def names(self) -> list[str]:
        """Every name that resolves, the default first."""
        default = self._default or EXTRACTIVE
        return [default, *(name for name in dict.fromkeys((*self._models, EXTRACTIVE)) if name != default)]

    def _unknown(self, name: str) -> BindError:
        known = self.names()
        close = get_close_matches(name, known, n=1)
        hint = f"close: `{close[0]}`" if close else f"there are: {_quoted(known[:10])}"
        return BindError(f"model `{name}` is not registered", hint=hint)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

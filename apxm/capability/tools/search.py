"""Providers of `search_web`: how each is asked, and how its answer reads. One comes from the environment; keys stay there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from apxm.capability.http.exchange import HttpLimits
from apxm.capability.http.reach import Reach, read_url
from apxm.errors import CapabilityError, ConfigError, TransientError, UnknownEffectError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.capability.http.broker import Broker

COUNT_MAX = 20
QUERY_MAX = 400  # what Brave takes
TITLE_MAX, SNIPPET_MAX, URL_SHOWN_MAX = 300, 2_000, 2_000
LIMITS = HttpLimits(bytes_max=2 * 1024 * 1024, total_s=20.0)

ADDRESSES = {"brave": "https://api.search.brave.com/res/v1/web/search", "tavily": "https://api.tavily.com/search"}
FORMATS = (*ADDRESSES, "searxng")
# Looked at in this order: the variable that names a provider, and what it holds.
VARIABLES = {"BRAVE_API_KEY": "brave", "TAVILY_API_KEY": "tavily", "SEARXNG_URL": "searxng"}
SET_ONE = "set BRAVE_API_KEY or TAVILY_API_KEY to your key, or SEARXNG_URL to the address of a SearXNG server that gives JSON"


@dataclass(frozen=True, slots=True)
class SearchProvider:
    """A service that speaks one of FORMATS at `url`. Its `key` appears in no text.

    The host chose `url`: unlike one that a program names, it may be of one's own network.
    """

    format: str
    url: str
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"the search provider speaks {self.format!r:.40}, expected one of {', '.join(FORMATS)}")
        if not self.key.isascii() or not self.key.isprintable():
            raise ConfigError(f"the key of the search provider {self.format} is no key: it has odd characters")
        read_url(self.url)

    async def search(self, broker: Broker, query: str, count: int) -> list[dict[str, str]]:
        """[{title, url, snippet}], at most `count`; CapabilityError when the provider refuses, TransientError when it is busy."""
        method, url, headers, body = self._request(query, count)
        reach = Reach.parse((), private=[read_url(self.url).peer])
        try:
            answer = await broker.request(method, url, reach=reach, headers=headers, body=body, limits=LIMITS)
        except UnknownEffectError as error:  # a POST that only reads
            raise TransientError(error.message) from error.__cause__
        self._refused(answer.status)
        try:
            hits = self._hits(json.loads(answer.body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CapabilityError(f"the search provider {self.format} answers with something that is no result") from None
        return [hit for hit in hits if hit["url"].startswith(("http://", "https://"))][:count]

    def _request(self, query: str, count: int) -> tuple[str, str, dict[str, str], bytes | None]:
        accept = {"Accept": "application/json"}
        if self.format == "brave":
            asked = urlencode({"q": query, "count": count, "text_decorations": "false"})
            return "GET", f"{self.url}?{asked}", {**accept, "X-Subscription-Token": self.key}, None
        if self.format == "tavily":
            body = json.dumps({"query": query, "max_results": count}).encode()
            return "POST", self.url, {**accept, "Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}, body
        return "GET", f"{self.url.rstrip('/')}/search?{urlencode({'q': query, 'format': 'json'})}", accept, None

    def _hits(self, answer: Any) -> list[dict[str, str]]:
        found = answer.get("web", {}).get("results", []) if self.format == "brave" else answer["results"]
        about = "description" if self.format == "brave" else "content"
        return [
            {
                "title": _short(hit.get("title"), TITLE_MAX),
                "url": _short(hit.get("url"), URL_SHOWN_MAX),
                "snippet": _short(hit.get(about), SNIPPET_MAX),
            }
            for hit in found
        ]

    def _refused(self, status: int) -> None:
        if status == 200:
            return
        said = f"the search provider {self.format} answers with status {status}"
        if status == 429 or status >= 500:
            raise TransientError(said)
        raise CapabilityError(said, hint="is its key right, and allowed to search?" if status in (401, 403) else None)


def from_environment(environment: Mapping[str, str]) -> SearchProvider:
    """The provider that a variable names; ConfigError says which ones are looked at."""
    for variable, name in VARIABLES.items():
        value = environment.get(variable, "").strip()
        if value and name == "searxng":
            return SearchProvider(name, value)
        if value:
            return SearchProvider(name, ADDRESSES[name], value)
    raise ConfigError("`search_web` has no provider", hint=SET_ONE)


def _short(text: Any, length: int) -> str:
    said = "" if text is None else str(text)
    return said if len(said) <= length else f"{said[: length - 1]}…"

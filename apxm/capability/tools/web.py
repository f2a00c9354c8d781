"""The tools `http_get` and `search_web`: what strangers wrote, through the broker. Everything they give is labelled `web`."""

from __future__ import annotations

import base64
import codecs
import os
import re
from typing import TYPE_CHECKING, Any

from apxm.capability.http.exchange import HttpLimits
from apxm.capability.http.reach import Reach
from apxm.capability.record import CapabilityRecord
from apxm.capability.tools.search import COUNT_MAX, QUERY_MAX, from_environment
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from apxm.capability.http.broker import Broker
    from apxm.capability.tools.search import SearchProvider

BYTES_MAX = 16 * 1024 * 1024
SECONDS_MAX = 60.0
RECORD_MS = (SECONDS_MAX + 5) * 1e3  # so that the limit of the broker counts, whose message says more

_TOLD = ("date", "etag", "last-modified", "content-language", "content-length", "location", "retry-after")  # headers passed on
_TEXT = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml|yaml|javascript|x-ndjson|x-www-form-urlencoded)|image/svg\+xml")
_CHARSET = re.compile(r"""charset=["']?([\w.:-]+)""", re.I)
# Those that pages use; others of Python's decode no text, or take quadratic time.
_CODECS = ("utf-8", "utf-16", "utf-32", "ascii", "iso8859", "cp125", "koi8", "shift_jis", "euc_", "gb", "big5")


class Web:
    """The tools with the broker that they share. `provider` None: the one that the environment names at the call."""

    def __init__(self, broker: Broker, provider: SearchProvider | None = None) -> None:
        self._broker = broker
        self.provider = provider

    async def http_get(
        self, url: str, max_bytes: int = 1024 * 1024, timeout_s: float = 20.0, *, hosts: tuple[str, ...]
    ) -> dict[str, Any]:
        """Get a page or a file from a granted host.

        Gives {status, url, content_type, headers, text, base64}: `text` or, for what is none, `base64`; the other is null.

        Args:
            url: begins with http:// or https://
            max_bytes: refuse more than that, unpacked
            timeout_s: seconds for everything together
        """
        if not 1 <= max_bytes <= BYTES_MAX:
            raise InvalidError(f"max_bytes is {max_bytes}, expected 1 to {BYTES_MAX}")
        if not 0 < timeout_s <= SECONDS_MAX:
            raise InvalidError(f"timeout_s is {timeout_s:g}, expected above 0, at most {SECONDS_MAX:g}")
        limits = HttpLimits(bytes_max=max_bytes, total_s=timeout_s)
        answer = await self._broker.request("GET", url, reach=Reach.parse(hosts), limits=limits)
        content_type = answer.headers.get("content-type", "")
        text = _text(answer.body, content_type)
        return {
            "status": answer.status,
            "url": answer.url,
            "content_type": content_type,
            "headers": {name: answer.headers[name] for name in _TOLD if name in answer.headers},
            "text": text,
            "base64": base64.b64encode(answer.body).decode() if text is None else None,
        }

    async def search_web(self, query: str, count: int = 5) -> list[dict[str, str]]:
        """Search the web; gives [{title, url, snippet}], the best first.

        Args:
            query: what you would type into a search box
            count: results to give at most
        """
        if not query.strip() or len(query) > QUERY_MAX:
            raise InvalidError(f"the query has {len(query)} characters, expected 1 to {QUERY_MAX} that are not all blank")
        if not 1 <= count <= COUNT_MAX:
            raise InvalidError(f"count is {count}, expected 1 to {COUNT_MAX}")
        provider = self.provider or from_environment(os.environ)
        return await provider.search(self._broker, query, count)

    def records(self) -> dict[str, CapabilityRecord]:
        """Both tools. They change nothing, though a server may count who asks."""
        get = CapabilityRecord(
            "Get a page or a file from a granted host by HTTP.",
            self.http_get,
            effect="read",
            timeout_ms=RECORD_MS,
            gives=True,
            hosted=True,
            source="web",
        )
        search = CapabilityRecord(
            "Search the web for pages.", self.search_web, effect="read", timeout_ms=RECORD_MS, gives=True, source="web"
        )
        return {"http_get": get, "search_web": search}


def _text(body: bytes, content_type: str) -> str | None:
    """The body as text, by what its type says; None when that is none, or does not decode."""
    charset = _CHARSET.search(content_type)
    if content_type and not charset and not _TEXT.fullmatch(content_type.partition(";")[0].strip().lower()):
        return None
    try:
        codec = codecs.lookup(charset[1] if charset else "utf-8").name
        text = body.decode(codec) if codec.startswith(_CODECS) else "\0"
    except (ValueError, LookupError):
        return None
    return None if "\0" in text else text

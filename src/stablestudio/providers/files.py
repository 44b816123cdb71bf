"""Result files at addresses that are not the vendor's own: fetched without its key, under the guard of our own network."""

from __future__ import annotations

import asyncio
import re
import time
from itertools import count

from stablestudio.media.addresses import FetchPolicy, FetchRefused, redirected
from stablestudio.media.fetch import FetchFailed, MediaFetcher
from stablestudio.providers.answers import TRANSIENT, Lost
from stablestudio.providers.home import Home
from stablestudio.providers.patience import Patience

# Said by the guarded fetch, and no better later.
_FINAL = ("is larger than", "compressed body", "redirects", "too small pieces")
PATIENCE = 3  # answers with an error status until a result file counts as lost


class ForeignFiles:
    """Fetches for the vendor called `name`; where it is on the loopback itself, from its own port there as well."""

    def __init__(
        self, name: str, home: Home, *, patience: Patience, seconds: float, fetcher: MediaFetcher | None = None
    ) -> None:
        """Take the parts; `seconds` is how long one download may take."""
        self._seconds = seconds
        self._name = name
        self._home = home
        self._patience = patience
        self._fetcher = fetcher or MediaFetcher(total_seconds=seconds)

    async def fetch(self, url: str, *, max_bytes: int, ends: float) -> bytes:
        """Return a file, until `ends` of the monotonic clock. Raises `Lost`, and `Unanswered` where that may change."""
        for attempt in count():
            try:
                async with asyncio.timeout(max(0.1, ends - time.monotonic())):
                    return (await self._guarded(url).get(url, max_bytes=max_bytes)).data
            except FetchRefused as error:
                raise Lost(f"{self._name}'s result: {error.message}") from error
            except FetchFailed as error:
                if not _may_change(error.message, attempt):
                    raise Lost(f"{self._name}'s result: {error.message}") from error
                why = error.message
            except TimeoutError:
                why = "it took too long"
            await self._patience.pause(attempt, ends=ends, why=why)
        raise AssertionError("the deadline ends the loop")

    async def follow(self, place: str, location: str, *, max_bytes: int, ends: float) -> bytes:
        """Return the file that the vendor's own `place` redirects to, as `fetch` does."""
        try:
            url = redirected(place, location)
        except FetchRefused as error:
            raise Lost(f"{self._name}'s result: {error.message}") from error
        return await self.fetch(url, max_bytes=max_bytes, ends=ends)

    def _guarded(self, url: str) -> MediaFetcher:
        """Return the fetcher of public files; one for a file beside the vendor where that is on the loopback."""
        if url[:5].lower() == "data:":
            raise Lost(f"{self._name}'s result is a data: URI where an address was expected")
        port = self._home.loopback_port(url)
        if port is None:
            return self._fetcher
        policy = FetchPolicy(
            schemes=frozenset({"http", "https"}), ports=frozenset({port}), permits=lambda each: each.is_loopback
        )
        return MediaFetcher(policy=policy, total_seconds=self._seconds)


def _may_change(message: str, attempt: int) -> bool:
    """Tell whether a failed fetch is worth repeating; a store may need a moment before it shows a new file."""
    if any(words in message for words in _FINAL):
        return False
    status = re.search(r"answered with status (\d{3})", message)
    if status is None or int(status[1]) >= 500 or int(status[1]) in TRANSIENT:
        return True
    return attempt + 1 < PATIENCE

"""The files of an order to be: looked at once, for whoever shows a payment that holds, before it is taken."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from stablestudio.catalog import MediaInput, OfferingInput
from stablestudio.catalog.limits import Measured
from stablestudio.catalog.reading import require_rules
from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.media.copies import Copies, Foreign
from stablestudio.media.decoding import DECODER
from stablestudio.media.inputs import InputReader
from stablestudio.media.probe import Probe

# Each file is held in memory while it is looked at, and somebody's server sends it.
_AT_ONCE = 24
_AT_ONCE_EACH = 4
_FAULTS = 20
_FAULTS_MS = 600_000


class TooManyBadFiles(StudioError):
    """This wallet has named too many files that cannot be used."""

    status = 429
    retryable = True
    hint = "Check that each address leads to the file itself, then try again later; nothing was charged."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An input whose files were found good; `intake` names the copies that were made of those from elsewhere."""

    input: OfferingInput
    intake: str | None = None


class Intake:
    """Fetches, confirms and measures what an input points to, and keeps what came from elsewhere."""

    def __init__(self, reader: InputReader, copies: Copies, *, clock: Clock) -> None:
        self._reader = reader
        self._copies = copies
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._turns = _Turns(_AT_ONCE_EACH)
        self._faults = Faults(clock)

    async def check(self, given: OfferingInput, *, wallet: str) -> Checked:
        """Return the input as it was found to be. Nothing is charged where this raises.

        Raises `InvalidInput` with an issue for each field at fault, `TooManyBadFiles`, and any error of ours that passes.
        """
        media = given.media()
        if not media:
            return Checked(input=given)
        self._faults.require_few(wallet)
        foreign: dict[str, Foreign] = {}
        try:
            found = self._require_read(media, await self._look(media, wallet, foreign))
            given = given.with_kinds([each.kind for each in found])
            require_rules(given)
            _require_fitting(given, found)
        except InvalidInput:
            self._faults.note(wallet)
            raise
        return Checked(input=given, intake=await self._copies.keep(foreign) if foreign else None)

    async def _look(
        self, media: Sequence[MediaInput], wallet: str, foreign: dict[str, Foreign]
    ) -> Mapping[str, Probe | StudioError]:
        """Return what each address leads to, or why nothing; a file that is named twice is fetched once."""
        urls = list(dict.fromkeys(each.url for each in media))
        seen = await asyncio.gather(*(self._look_at(url, wallet, foreign) for url in urls))
        return dict(zip(urls, seen, strict=True))

    async def _look_at(self, url: str, wallet: str, foreign: dict[str, Foreign]) -> Probe | StudioError:
        try:
            async with self._turns.of(wallet), self._all:
                file = await self._reader.open(url, wallet=wallet)
                probe = await DECODER.probe(file.media)
        except StudioError as error:
            if error.retryable:
                raise
            return error
        if file.foreign and isinstance(file.media, bytes):
            foreign[url] = Foreign(data=file.media, content_type=probe.content_type)
        return probe

    def _require_read(self, media: Sequence[MediaInput], seen: Mapping[str, Probe | StudioError]) -> list[Measured]:
        found: list[Measured] = []
        issues: list[Issue] = []
        for each in media:
            probe = seen[each.url]
            if isinstance(probe, StudioError):
                issues.append(Issue(each.path, probe.code, probe.message))
            else:
                found.append(_measured(each, probe))
        _refuse(issues)
        return found


class Faults:
    """Counts the refused inputs of each wallet: whoever cannot be charged must not have us fetch for ever."""

    def __init__(self, clock: Clock, *, most: int = _FAULTS, window_ms: int = _FAULTS_MS) -> None:
        self._clock = clock
        self._most = most
        self._window_ms = window_ms
        self._noted: dict[str, deque[int]] = {}

    def require_few(self, wallet: str) -> None:
        """Raise `TooManyBadFiles` where a wallet had too many of them lately."""
        noted = self._noted.get(wallet)
        if noted is None or len(noted) < self._most:
            return
        wait_ms = noted[0] + self._window_ms - self._clock.now_ms()
        if wait_ms > 0:
            raise TooManyBadFiles(headers={"Retry-After": str(wait_ms // 1000 + 1)})

    def note(self, wallet: str) -> None:
        """Count one, and forget the wallets whose last one is long ago."""
        now = self._clock.now_ms()
        self._noted = {key: at for key, at in self._noted.items() if at[-1] > now - self._window_ms}
        self._noted.setdefault(wallet, deque(maxlen=self._most)).append(now)


class _Turns:
    """So many at once for each wallet; a wallet without work is forgotten."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._users: defaultdict[str, int] = defaultdict(int)
        self._locks: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def of(self, wallet: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(wallet, asyncio.Semaphore(self._each))
        self._users[wallet] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[wallet] -= 1
            if not self._users[wallet]:
                del self._users[wallet], self._locks[wallet]


def _measured(media: MediaInput, probe: Probe) -> Measured:
    return Measured(
        media=media,
        kind=probe.kind,
        content_type=probe.content_type,
        width=probe.width,
        height=probe.height,
        seconds=probe.seconds,
    )


def _require_fitting(given: OfferingInput, found: Sequence[Measured]) -> None:
    """Raise `InvalidInput` where a file is of another kind than its field takes, or measures what no field takes."""
    files = [replace(file, media=media) for file, media in zip(found, given.media(), strict=True)]
    _refuse([_wrong_kind(file) for file in files if file.kind != file.media.kind])
    _refuse(list(given.misfits(files)))


def _wrong_kind(file: Measured) -> Issue:
    told = f"This must be of the kind {file.media.kind}, but the file is of the kind {file.kind} ({file.content_type})."
    return Issue(file.media.path, "wrong_kind_of_media", told, allowed=(file.media.kind,))


def _refuse(issues: Sequence[Issue]) -> None:
    if issues:
        raise InvalidInput(issues[0].message, issues=list(issues))

"""The files of an order to be: looked at once, for whoever shows a payment that holds, before it is taken."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from stablestudio.catalog import MediaInput, OfferingInput
from stablestudio.catalog.limits import Measured
from stablestudio.catalog.reading import require_rules
from stablestudio.catalog.spelling import label
from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.media.addresses import FetchFailed
from stablestudio.media.copies import Copies
from stablestudio.media.decoding import DOOR
from stablestudio.media.inputs import InputReader
from stablestudio.media.probe import Probe
from stablestudio.media.turns import Turns

# Files that other servers send at the same time; each is held in memory until it is kept.
_AT_ONCE = 24
_AT_ONCE_EACH = 4
_PATIENCE = 10.0  # seconds until somebody is told that there is no room
_FAULTS = 20
_FAULTS_MS = 600_000


class TooManyBadFiles(StudioError):
    """This wallet has named too many files that cannot be used."""

    status = 429
    retryable = True
    hint = "Check that each address leads to the file itself, then try again later; nothing was charged."


class IntakeBusy(StudioError):
    """The files of too many orders are looked at at this moment."""

    status = 503
    retryable = True
    hint = "Send the same request with the same payment again; nothing was charged."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An input whose files were found good; `intake` names the copies that were made of those from elsewhere."""

    input: OfferingInput
    intake: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What an address leads to, or why it cannot be used; `costly` where it was fetched or decoded for that."""

    costly: bool
    kept: bool = False
    probe: Probe | None = None
    error: StudioError | None = None


class Intake:
    """Fetches, confirms and measures what an input points to, and keeps what came from elsewhere."""

    def __init__(self, reader: InputReader, copies: Copies, *, clock: Clock) -> None:
        self._reader = reader
        self._copies = copies
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._decoding = asyncio.Semaphore(DOOR.processes)
        self._turns = Turns(_AT_ONCE_EACH)
        self._faults = Faults(clock)

    async def check(self, given: OfferingInput, *, wallet: str) -> Checked:
        """Return the input as it was found to be. Nothing is charged where this raises.

        Raises `InvalidInput` with an issue for each field at fault, `TooManyBadFiles`, and any error of ours that passes.
        """
        media = given.media()
        if not media:
            return Checked(input=given)
        self._faults.require_few(wallet)
        intake = secrets.token_hex(16)
        try:
            looks = await self._look(media, wallet, intake)
            checked = _checked(given, looks)
        except InvalidInput:
            self._faults.note(wallet, max(1, _vain(looks)) if any(look.costly for look in looks.values()) else 0)
            await self._copies.discard(intake)
            raise
        except Exception:
            await self._copies.discard(intake)
            raise
        return Checked(input=checked, intake=intake if any(look.kept for look in looks.values()) else None)

    async def forget(self, checked: Checked, *, wallet: str) -> None:
        """Let go of what was looked at in vain: its payment was not taken, or did not move."""
        self._faults.note(wallet)
        if checked.intake is not None:
            await self._copies.discard(checked.intake)

    async def _look(self, media: Sequence[MediaInput], wallet: str, intake: str) -> Mapping[str, _Look]:
        """Return what each address leads to; a file that is named twice is fetched once."""
        urls = list(dict.fromkeys(each.url for each in media))
        tasks = (self._look_at(url, wallet, intake) for url in urls)
        looks = await asyncio.gather(*tasks, return_exceptions=True)  # none goes on while its copies are discarded
        for look in looks:
            if isinstance(look, BaseException):
                raise look
        return {url: look for url, look in zip(urls, looks, strict=True) if isinstance(look, _Look)}

    async def _look_at(self, url: str, wallet: str, intake: str) -> _Look:
        costly = False
        try:
            async with (
                self._turns.of(wallet),
                self._room(self._all) if self._reader.is_elsewhere(url) else nullcontext(),
            ):
                file = await self._reader.open(url, wallet=wallet)
                costly = True
                async with self._room(self._decoding):
                    probe = await DOOR.probe(file.media)
                if file.foreign and isinstance(file.media, bytes):
                    await self._copies.keep(url, file.media, content_type=probe.content_type, intake=intake)
                return _Look(probe=probe, kept=file.foreign, costly=costly)
        except StudioError as error:
            if error.retryable:
                raise
            return _Look(error=error, costly=costly or isinstance(error, FetchFailed))

    @asynccontextmanager
    async def _room(self, room: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(room.acquire(), _PATIENCE)
        except TimeoutError:
            raise IntakeBusy(headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            room.release()


class Faults:
    """Counts what was fetched in vain for each wallet: whoever is not charged must not have us ask others for ever."""

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

    def note(self, wallet: str, count: int = 1) -> None:
        """Count so many, and forget the wallets whose last one is long ago."""
        if not count:
            return
        now = self._clock.now_ms()
        self._noted = {key: at for key, at in self._noted.items() if at[-1] > now - self._window_ms}
        self._noted.setdefault(wallet, deque(maxlen=self._most)).extend([now] * count)


def _vain(looks: Mapping[str, _Look]) -> int:
    return sum(look.costly and look.error is not None for look in looks.values())


def _checked(given: OfferingInput, looks: Mapping[str, _Look]) -> OfferingInput:
    """Return the input with what its files were found to be; raise `InvalidInput` where they do not fit it."""
    found = _require_read(given.media(), looks)
    given = given.with_kinds([each.kind for each in found])
    require_rules(given)
    _require_fitting(given, found)
    return given


def _require_read(media: Sequence[MediaInput], looks: Mapping[str, _Look]) -> list[Measured]:
    """Return what the files measure, in the order of the input; raise `InvalidInput` where one cannot be used."""
    found: list[Measured] = []
    issues: list[Issue] = []
    for each in media:
        look = looks[each.url]
        if look.probe is not None:
            found.append(_measured(each, look.probe))
        elif look.error is not None:
            issues.append(Issue(each.path, look.error.code, f"{label(each.path)}: {look.error.message}"))
    _refuse(issues)
    return found


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
    told = f"{label(file.media.path)} takes {file.media.kind}, but this file is {file.kind} ({file.content_type})"
    return Issue(file.media.path, "wrong_kind_of_media", told, allowed=(file.media.kind,))


def _refuse(issues: Sequence[Issue]) -> None:
    if issues:
        raise InvalidInput(issues[0].message, issues=list(issues))

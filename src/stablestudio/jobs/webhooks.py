"""Webhooks: tell buyers who asked for it that their job has ended, at least once, and again for a day until it is heard."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.decisions import shift_of
from stablestudio.loops import every
from stablestudio.media.post import Posted, Poster
from stablestudio.protocols.webhooks import WebhookKeys
from stablestudio.store import webhooks as store
from stablestudio.store.database import Database
from stablestudio.store.webhooks import Try, WebhookEvent

log = logging.getLogger(__name__)
# Seconds after each try that was not heard; some 28 hours in all.
PAUSES = (5, 60, 300, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200)
_LONGEST_WISH = 3_600  # seconds that a receiver may ask for
_INTERVAL = 5.0
_AT_ONCE = 64
_LEASE_SLACK_S = 5
_GONE = 410


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a try: its message's state, and the pause in seconds before the next one."""

    state: str
    pause: float = 0.0


def judge(answer: Posted | None, *, tries: int, shift: float = 0.0) -> Verdict:
    """Decide what follows the try number `tries`; `answer` is None where there was none.

    `shift`, from -1 to 1, makes a pause up to a tenth shorter or longer, so that many do not come back at one moment.
    """
    if answer is not None and 200 <= answer.status < 300:
        return Verdict("delivered")
    if (answer is not None and answer.status == _GONE) or tries > len(PAUSES):
        return Verdict("given_up")
    wish = min((answer and answer.retry_after) or 0, _LONGEST_WISH)
    return Verdict("pending", max(PAUSES[tries - 1] * (1 + shift / 10), wish))


class WebhookWorker:
    """Takes what is due, sends it and writes down how that went. Two workers never send one try both."""

    def __init__(
        self,
        database: Database,
        *,
        poster: Poster,
        keys: WebhookKeys,
        render: Callable[[WebhookEvent], bytes],
        clock: Clock,
    ) -> None:
        """Take the parts; `render` writes a message as it is true now."""
        self._database = database
        self._poster = poster
        self._keys = keys
        self._render = render
        self._clock = clock
        self._wake = asyncio.Event()
        self._busy: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()

        def hear(told: frozenset[str]) -> None:
            if store.NEWS in told:
                with suppress(RuntimeError):  # the loop has ended; the next start looks for itself
                    loop.call_soon_threadsafe(self._wake.set)

        self._database.listen(hear)
        try:
            await every(_INTERVAL, self._begin, name="webhooks", wake=self._wake)
        finally:
            for task in self._busy:
                task.cancel()
            await asyncio.gather(*self._busy, return_exceptions=True)

    async def work_once(self) -> None:
        """Try everything that is due now, once."""
        await self._begin()
        await asyncio.gather(*self._busy)

    async def _begin(self) -> None:
        """Begin what is due, as far as there is room: one receiver that is slow must not hold the others up."""
        room, now = _AT_ONCE - len(self._busy), self._clock.now_ms()
        if room <= 0:
            return
        for event in await self._database.read(lambda connection: store.due(connection, now=now, limit=room)):
            task = asyncio.create_task(self._try(event))
            self._busy.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        if len(self._busy) == _AT_ONCE:
            self._wake.set()
        self._busy.discard(task)

    async def _try(self, event: WebhookEvent) -> None:
        try:
            await self._deliver(event)
        except Exception:
            log.exception("webhook_faulted", extra={"order": event.order_id, "webhook": event.id})

    async def _deliver(self, event: WebhookEvent) -> None:
        now = self._clock.now_ms()
        lease = now + round((self._poster.total_seconds + _LEASE_SLACK_S) * 1000)
        if not await self._database.write(lambda connection: store.take(connection, event=event, now=now, until=lease)):
            return
        reach("webhook.taken")
        number, started = event.tries + 1, time.monotonic()
        answer, reason = await self._send(event)
        took = round((time.monotonic() - started) * 1000)
        reach("webhook.sent")
        status = answer.status if answer is not None else None
        done = Try(event_id=event.id, number=number, at=now, milliseconds=took, status=status, reason=reason)
        verdict = judge(answer, tries=number, shift=shift_of(event.id))
        due_at = self._clock.now_ms() + round(verdict.pause * 1000)
        await self._database.write(
            lambda connection: store.record(connection, done=done, state=verdict.state, due_at=due_at)
        )
        told = {"order": event.order_id, "webhook": event.id, "try": number, "status": status, "reason": reason}
        log.info("webhook_tried", extra={**told, "state": verdict.state})

    async def _send(self, event: WebhookEvent) -> tuple[Posted | None, str | None]:
        """Return the answer, or why there is none."""
        body = await self._database.look(lambda: self._render(event))
        now_s = self._clock.now_ms() // 1000
        headers = self._keys.headers(event.id, job_id=event.order_id, now_s=now_s, body=body)
        try:
            return await self._poster.post(event.url, body=body, headers=headers), None
        except StudioError as error:
            return None, error.message

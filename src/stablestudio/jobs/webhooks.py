"""Webhooks: tell buyers who asked for it that their job has ended, at least once, and again for a day until it is heard."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.decisions import shift_of
from stablestudio.jobs.webhook_turns import choose, crowded
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
AGAIN_SECONDS = 60  # from one try to the next that a buyer may ask for
_LEASE_SLACK_S = 5
_GONE = 410


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a try: its message's state, and the pause in seconds before the next one."""

    state: str
    pause: float = 0.0


def judge(answer: Posted | None, *, tries: int, shift: float = 0.0) -> Verdict:
    """Decide what follows the scheduled try number `tries`; `answer` is None where there was none.

    `shift`, from -1 to 1, makes a pause up to a tenth shorter or longer, so that many do not come back at one moment.
    """
    if answer is not None and 200 <= answer.status < 300:
        return Verdict("delivered")
    if (answer is not None and answer.status == _GONE) or tries > len(PAUSES):
        return Verdict("given_up")
    wish = min((answer and answer.retry_after) or 0, _LONGEST_WISH)
    return Verdict("pending", max(PAUSES[tries - 1] * (1 + shift / 10), wish))


def judge_asked(answer: Posted | None, *, before: str, left: float = 0.0) -> Verdict:
    """Decide what follows a try that somebody asked for: it may end a message's tries, and never brings the end nearer.

    `before` is the state that the message had, `left` the seconds until its next scheduled try if it was pending.
    """
    heard = judge(answer, tries=1)
    return Verdict(before, left) if heard.state == "pending" else heard


class NoWebhook(StudioError):
    """Nobody is told of this job: the request that paid named no address."""

    status = 409
    hint = "Read the job itself; for the next one, name an address in the header Webhook-Url of the paid request."


class RedeliveryTooSoon(StudioError):
    """The last try to tell of this job is less than a minute ago."""

    status = 429
    hint = "Send the request again, with a new signature, after the seconds in Retry-After."
    retryable = True


def redeliver(connection: sa.Connection, *, order_id: str, now: int) -> None:
    """Have its buyer told of an order once more; raise `NoWebhook` or `RedeliveryTooSoon`."""
    if store.url_of(connection, order_id) is None:
        raise NoWebhook
    began = store.last_try_at(connection, order_id)
    wait_ms = 0 if began is None else began + AGAIN_SECONDS * 1000 - now
    if wait_ms > 0:
        raise RedeliveryTooSoon(headers={"Retry-After": str(math.ceil(wait_ms / 1000))})
    store.redeliver(connection, order_id=order_id, now=now)


class WebhookWorker:
    """Takes what is due, sends it and writes down how that went. Two workers never send one try both."""

    def __init__(
        self,
        database: Database,
        *,
        poster: Poster,
        keys: WebhookKeys,
        render: Callable[[WebhookEvent], Awaitable[bytes]],
        clock: Clock,
    ) -> None:
        """Take the parts; `render` writes a message as it is true now."""
        self._database = database
        self._poster = poster
        self._keys = keys
        self._render = render
        self._clock = clock
        self._wake = asyncio.Event()
        self._busy: dict[asyncio.Task[None], WebhookEvent] = {}

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
        while self._busy:
            await asyncio.gather(*self._busy)
            await self._begin()

    async def _begin(self) -> None:
        """Begin what is due, as far as there is room: one receiver that is slow must not hold the others up."""
        now, busy = self._clock.now_ms(), list(self._busy.values())
        for event in await self._database.read(lambda connection: choose(connection, now=now, busy=busy)):
            task = asyncio.create_task(self._try(event))
            self._busy[task] = event
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Look for more at once where others may have waited for this try's place."""
        if crowded(self._busy.values(), by=self._busy[task]):
            self._wake.set()
        del self._busy[task]

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
        verdict = self._judge(event, answer)
        due_at = self._clock.now_ms() + round(verdict.pause * 1000)
        await self._database.write(
            lambda connection: store.record(connection, done=done, state=verdict.state, due_at=due_at)
        )
        told = {"order": event.order_id, "webhook": event.id, "try": number, "status": status, "reason": reason}
        log.info("webhook_tried", extra={**told, "state": verdict.state})

    def _judge(self, event: WebhookEvent, answer: Posted | None) -> Verdict:
        if event.asked is None:
            return judge(answer, tries=event.scheduled + 1, shift=shift_of(event.id))
        left = 0 if event.later_at is None else max(event.later_at - self._clock.now_ms(), 0)
        return judge_asked(answer, before=event.asked, left=left / 1000)

    async def _send(self, event: WebhookEvent) -> tuple[Posted | None, str | None]:
        """Return the answer, or why there is none."""
        body = await self._render(event)
        now_s = self._clock.now_ms() // 1000
        headers = self._keys.headers(event.id, job_id=event.order_id, now_s=now_s, body=body)
        try:
            return await self._poster.post(event.url, body=body, headers=headers), None
        except StudioError as error:
            return None, error.message

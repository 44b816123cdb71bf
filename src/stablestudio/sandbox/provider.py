"""The sandbox provider: pretends to be every vendor, with real files, selectable delays and failures.

What it is told by marks in the prompt, so that any client can rehearse any outcome:
`[sandbox:delay=3]` (seconds), `[sandbox:refuse]` (moderation), `[sandbox:fail]` (the vendor gives up after accepting),
`[sandbox:reject]` (the vendor does not accept the work), `[sandbox:stubborn]` (the vendor does not stop when it is told to).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.ids import new_id
from stablestudio.media.inputs import InputReader
from stablestudio.providers import leaving
from stablestudio.providers.provider import (
    LOOK_PATIENCE,
    Accepted,
    Failed,
    FailureKind,
    Made,
    NotAccepted,
    Output,
    Running,
    Work,
)
from stablestudio.sandbox.renderer import Brief, render
from stablestudio.store.database import Database
from stablestudio.store.tables import sandbox_tasks

_MARK = re.compile(r"\[sandbox:(?P<verb>[a-z]+)(?:=(?P<value>\d+(?:\.\d+)?))?\]")
_MAX_DELAY = 3600.0
_TASK = "SELECT id, created_at, ready_at FROM sandbox_tasks WHERE id = ?"
_NEVER = -1  # in place of when a task is ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a prompt asks the sandbox to play."""

    delay: float
    refuse: bool
    fail: bool
    reject: bool
    stubborn: bool


def rehearse(prompt: str, *, default_delay: float) -> Rehearsal:
    """Read the marks of a prompt."""
    marks = {match["verb"]: match["value"] for match in _MARK.finditer(prompt)}
    delay = float(marks["delay"]) if marks.get("delay") else default_delay
    return Rehearsal(
        delay=min(delay, _MAX_DELAY),
        refuse="refuse" in marks,
        fail="fail" in marks,
        reject="reject" in marks,
        stubborn="stubborn" in marks,
    )


class SandboxProvider:
    """Keeps its books in `sandbox_tasks`, as a vendor would in its own database, and renders when asked for the file."""

    name = "sandbox"

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        delay: float,
        inputs: InputReader,
    ) -> None:
        self._database = database
        self._clock = clock
        self._delay = delay
        self._inputs = inputs
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="sandbox-render")

    async def submit(self, work: Work) -> Accepted | Failed:
        play = rehearse(_prompt(work), default_delay=self._delay)
        if play.reject:
            raise NotAccepted("the sandbox was told to reject")
        if play.refuse:
            return Failed(kind=FailureKind.MODERATION, message="The prompt was refused by the vendor's content rules.")
        leaving.take()
        task = new_id("task")
        now = self._clock.now_ms()
        row = {"id": task, "job_id": work.job_id, "ready_at": now + int(play.delay * 1000), "created_at": now}
        await self._database.write(lambda connection: connection.execute(sa.insert(sandbox_tasks), row).close())
        return Accepted(task=task, upstream_model=f"sandbox/{work.offering.model}")

    async def find(self, work: Work) -> Accepted | None:
        statement = sa.select(sandbox_tasks.c.id).where(sandbox_tasks.c.job_id == work.job_id)
        task = await self._database.read(lambda connection: connection.execute(statement).scalar())
        if task is None:
            raise NotAccepted("the sandbox has no task for this job")
        return Accepted(task=task, upstream_model=f"sandbox/{work.offering.model}")

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:
        play = rehearse(_prompt(work), default_delay=self._delay)
        found = await self._database.fetch_one(_TASK, task, patience=LOOK_PATIENCE)
        if found is None:
            return Failed(kind=FailureKind.UPSTREAM_ERROR, message="The vendor does not know this task any more.")
        _, created_at, ready_at = found
        if ready_at == _NEVER:
            return Failed(kind=FailureKind.CANCELLED, message="The vendor has stopped this task, as it was told to.")
        now = self._clock.now_ms()
        if now < ready_at:
            return Running(progress=int(100 * (now - created_at) / max(1, ready_at - created_at)))
        if play.fail:
            return Failed(kind=FailureKind.UPSTREAM_ERROR, message="The vendor could not make this.")
        return Made()

    async def cancel(self, work: Work, task: str) -> bool:
        """Stop a task that is not done yet."""
        if rehearse(_prompt(work), default_delay=self._delay).stubborn:
            return False
        unfinished = (sandbox_tasks.c.id == task, sandbox_tasks.c.ready_at > self._clock.now_ms())
        stop = sa.update(sandbox_tasks).where(*unfinished).values(ready_at=_NEVER)
        return await self._database.write(lambda connection: connection.execute(stop).rowcount == 1)

    async def fetch(self, work: Work, task: str) -> Output | Failed:  # noqa: ARG002 - one task, one picture
        inputs = [
            await self._inputs.read(media.url, wallet=work.wallet, order_id=work.job_id, as_of_ms=work.ordered_at)
            for media in work.input.media()
        ]
        brief = Brief(
            title=work.offering.title,
            prompt=_MARK.sub("", _prompt(work)).strip(),
            seed=_seed(work),
            output=work.input.output(),
            inputs=tuple(inputs),
        )
        rendered = await asyncio.get_running_loop().run_in_executor(self._threads, render, brief)
        return Output(data=rendered.data, content_type=rendered.content_type)


def _seed(work: Work) -> int:
    """Return the buyer's seed, or one made from the input: the same input gives the same picture."""
    given = work.input.seed_value()
    if given is not None:
        return given
    return int.from_bytes(hashlib.sha256(work.input.model_dump_json().encode()).digest()[:4])


def _prompt(work: Work) -> str:
    return getattr(work.input, "prompt", None) or ""

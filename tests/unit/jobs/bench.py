"""A maker, a vendor that answers as it is told, and one paid job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stablestudio.catalog import OFFERINGS
from stablestudio.jobs.decisions import Step, Verb
from stablestudio.jobs.maker import Charged, Maker
from stablestudio.media.storage import Storage
from stablestudio.providers.bindings import Binding, Bindings
from stablestudio.providers.provider import Accepted, Failed, FailureKind, NotAccepted
from stablestudio.store.database import Database
from tests.doubles import FakeVendor, ManualClock

TASK = Accepted(task="task_1", upstream_model="fake/1")
GONE = ConnectionResetError("the vendor hung up")
NO = NotAccepted("over quota")
REFUSED = Failed(kind=FailureKind.MODERATION, message="Not this.")


class Bench:
    """A maker, a vendor, and one paid job."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        clock: ManualClock,
        answers: dict[str, Sequence[Any]],
        second: dict[str, Sequence[Any]] | None = None,
    ) -> None:
        self.database = database
        self.storage = storage
        self.clock = clock
        self.vendor = FakeVendor(**answers)
        self.second = FakeVendor(**(second or {}))
        self.second.name = "second"
        vendors = [self.vendor] if second is None else [self.vendor, self.second]
        self.woken = 0
        self.bindings = Bindings(
            {offering.key: [Binding(provider=vendor) for vendor in vendors] for offering in OFFERINGS}, clock=clock
        )
        self.hire()
        self.job_id = ""

    def hire(self, **options: Any) -> None:
        """Let another maker work from now on, as of another process."""
        self.maker = Maker(
            self.database,
            bindings=self.bindings,
            storage=self.storage,
            clock=self.clock,
            on_failed=self._wake,
            charge=self._charge,
            **options,
        )

    def restore(self, *, ago: int = 0) -> None:
        """Go on with books that were put back a moment after the job was ordered, or so many seconds before."""
        self.hire(restored_at=self.clock.now_ms() + 1 - 1000 * ago)
        self.clock.advance(1)

    def progress(self) -> int:
        """Return the percent that buyers read."""
        ((percent,),) = self.database.fetch("SELECT progress FROM jobs")
        return int(percent)

    async def _charge(self, order_id: str) -> Charged:
        raise AssertionError(f"{order_id} was paid before")

    def _wake(self) -> None:
        self.woken += 1

    async def advance(self, *verbs: Verb) -> Step:
        """Do these steps and return what is to follow the last."""
        following: Step | None = None
        for verb in verbs:
            following = await self.maker.advance(verb, self.job_id)
        assert following is not None
        return following

    async def run(self, *, most: int = 50) -> Step:
        """Do as the workflow does, without waiting, until it delivers or fails; close, and return the last step."""
        following = await self.advance("submit")
        for _ in range(most):
            verb = following["do"]
            if verb == "deliver" or verb == "fail":
                break
            self.clock.advance(following["wait"])
            following = await self.advance(verb)
        if following["do"] == "fail":
            await self.maker.fail(self.job_id, code=following["code"], message=following["message"])
        else:
            await self.maker.deliver(self.job_id)
        return following

    def submissions(self) -> list[tuple[Any, ...]]:
        return self.database.fetch("SELECT attempt, provider, state FROM submissions ORDER BY attempt")

    def job(self) -> tuple[Any, ...]:
        return self.database.fetch("SELECT state, task, error_code FROM jobs")[0]

    def refunds(self) -> list[tuple[Any, ...]]:
        return self.database.fetch("SELECT order_id, amount, reason FROM refunds")

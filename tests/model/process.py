"""A process of the service on an event loop of its own, which may be stopped at a call to the outside, or killed anywhere."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa

from stablestudio.catalog import OFFERINGS
from stablestudio.errors import StudioError
from stablestudio.ids import new_id
from stablestudio.jobs.cancel import Canceller
from stablestudio.jobs.decisions import Step, step
from stablestudio.jobs.engine import QUEUE, EngineState
from stablestudio.jobs.lease import LeaseOver
from stablestudio.jobs.maker import Maker
from stablestudio.jobs.sweep import Sweep
from stablestudio.media.storage import Storage
from stablestudio.payments.refunds import RefundWorker
from stablestudio.providers.bindings import Binding, Bindings
from stablestudio.store import executors
from stablestudio.store.database import Database, is_file
from tests.doubles import USDC, ManualClock
from tests.unit.sales.shop import OTHER_TOKEN, Shop

from .world import Fate, Node, RefundRail, Token, Vendor, VendorLine

T = TypeVar("T")

WORKFLOWS = sa.Table(
    "model_workflows",
    sa.MetaData(),
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
)


Action: TypeAlias = "asyncio.Task[Any]"
# Whose call to the outside it is: what an action begins beside itself is the action, too.
_ACTION: contextvars.ContextVar[Action] = contextvars.ContextVar("action")
# In real time: nothing here waits for a clock.
_STUCK_SECONDS = 60.0
_LEASE_MS = 24 * 3600 * 1000


class Died(BaseException):
    """Stands for the end of a process."""


class Engine:
    """The workflows as rows of the database, so that they are as durable as the real engine's."""

    def __init__(self, database: Database, lost: set[str]) -> None:
        self._database = database
        self._lost = lost

    def enqueue(self, connection: sa.Connection, job_id: str, *, queue: str = QUEUE) -> None:
        """Add a workflow to the caller's transaction; a second one of a job breaks it."""
        values = {"job_id": job_id, "step": json.dumps(step("submit")), "ended": False}
        connection.execute(sa.insert(WORKFLOWS).values(values))

    async def states(self, job_ids: Sequence[str]) -> Mapping[str, EngineState]:
        """Tell what became of workflows."""
        known = await self.rows()
        return {job_id: self._state(job_id, ended=row.ended) for job_id, row in known.items() if job_id in job_ids}

    def _state(self, job_id: str, *, ended: bool) -> EngineState:
        if ended:
            return EngineState.ENDED
        return EngineState.LOST if job_id in self._lost else EngineState.RUNNING

    async def restart(self, job_id: str, *, queue: str = QUEUE) -> None:
        """Begin anew."""
        self._lost.discard(job_id)
        await self.note(job_id, step("submit"))

    async def take_up_dropped(self) -> Sequence[str]:
        """Here the last line is always written."""
        return []

    async def rows(self) -> dict[str, Any]:
        """Return all workflows."""
        rows = await self._database.read(lambda connection: connection.execute(sa.select(WORKFLOWS)).all())
        return {row.job_id: row for row in rows}

    async def note(self, job_id: str, following: Step, *, ended: bool = False) -> None:
        """Write down what comes next."""
        change = sa.update(WORKFLOWS).where(WORKFLOWS.c.job_id == job_id)
        change = change.values(step=json.dumps(following), ended=ended)
        await self._database.write(lambda connection: connection.execute(change).close())


class Place:
    """The `Right` of one of several processes to make jobs: the row of a lease that ends with the process alone."""

    def __init__(self, database: Database) -> None:
        self.executor = new_id("worker")
        self._database = database
        with database.engine.begin() as connection:
            executors.begin(connection, executor=self.executor, host="", pid=0, lasts=_LEASE_MS)

    def require(self, connection: sa.Connection) -> None:
        if not executors.hold(connection, self.executor):
            raise LeaseOver

    async def bind(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    def end(self) -> None:
        """Leave the jobs to others."""
        with self._database.engine.begin() as connection:
            executors.end(connection, [self.executor])


@dataclass(kw_only=True)
class World:
    """What all processes share, and what befalls them."""

    clock: ManualClock = field(default_factory=ManualClock)
    vendor: Vendor = field(default_factory=Vendor)
    refund_orders: dict[str, str] = field(default_factory=dict)
    strange: set[str] = field(default_factory=set)  # credentials that somebody else has sent
    lost: set[str] = field(default_factory=set)  # jobs that the engine lost track of
    ends: dict[str, tuple[str | None, str | None, int]] = field(default_factory=dict)  # how each job ended first
    fates: list[Fate] = field(default_factory=list)
    failpoint: str = ""
    deaths: int = 0
    met: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.tokens = [Token(USDC, self.clock), Token(OTHER_TOKEN, self.clock)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A call to the outside that has not been answered."""

    call: str
    land: Callable[[], None]
    answer: asyncio.Future[Fate]
    action: Action


class Process:
    """Everything that one process of the service has, on a database and a world that others share."""

    def __init__(self, database: Database, world: World, storage: Storage) -> None:
        self._database = database
        self._world = world
        self._storage = storage
        self.start()

    def start(self) -> None:
        """Begin with nothing remembered."""
        world, database, clock = self._world, self._database, self._world.clock
        self.loop = asyncio.new_event_loop()
        self.parked: list[Parked] = []
        self.actions: set[Action] = set()
        self._parking: Action | None = None
        self._stopped: asyncio.Future[None] = self.loop.create_future()
        self._place: Place | None = None if is_file(database.url) else Place(database)
        self.engine = Engine(database, world.lost)
        nodes = [Node(token, self._ask, clock) for token in world.tokens]
        self.shop = Shop(database=database, clock=clock, chain=nodes[0], other_chain=nodes[1], engine=self.engine)  # type: ignore[arg-type]
        vendor = Binding(provider=VendorLine(world.vendor, self._ask))
        bindings = Bindings({offering.key: [vendor] for offering in OFFERINGS}, clock=clock)
        self.rails = [self.shop.rail, self.shop.other]
        rails: Any = [
            RefundRail(self.shop.rail, world.refund_orders, forgetful=False),
            RefundRail(self.shop.other, world.refund_orders, forgetful=True),
        ]
        self.refunds = RefundWorker(database, rails={rail.name: rail for rail in rails}, clock=clock)
        self.canceller = Canceller(database, bindings=bindings, clock=clock, on_failed=self.refunds.wake)
        self.maker = Maker(
            database,
            bindings=bindings,
            storage=self._storage,
            clock=clock,
            on_failed=self.refunds.wake,
            charge=self.shop.charger.charge,
            right=self._place,
        )
        self.loop.run_until_complete(self._start_charger())
        self.sweep = Sweep(database, engine=self.engine, maker=self.maker, clock=clock)

    async def _start_charger(self) -> None:
        self.shop.charger.start()

    def reach(self, name: str) -> None:
        """Stand in for `failpoints.reach`: die here if it is the armed one."""
        if name == self._world.failpoint and self._world.deaths:
            self._world.deaths -= 1
            self._world.met(f"death at {name}")
            raise Died(name)

    def begin(self, action: Coroutine[Any, Any, Any], *, park: bool = False) -> Action:
        """Start an action; with `park` its next call to the outside is not answered yet."""
        context = contextvars.copy_context()
        task = self.loop.create_task(action, context=context)
        context.run(_ACTION.set, task)
        self.actions.add(task)
        self._parking = task if park else None
        return task

    def run(self, *actions: Action) -> None:
        """Go on until these have ended, or one waits for the outside; a process that dies is started again."""
        self._stopped = self.loop.create_future()
        waited = set(actions)
        while waited and not self._stopped.done():
            waiting = asyncio.wait(
                {*waited, self._stopped}, timeout=_STUCK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            ended, _ = self.loop.run_until_complete(waiting)
            assert ended, "an action waits for something that never comes"
            waited -= ended
        self._parking = None
        faults = [task.exception() for task in self.actions if task.done()]
        self.actions = {task for task in self.actions if not task.done()}
        if any(isinstance(fault, Died) for fault in faults):
            return self.kill()
        for fault in faults:
            self._judge(fault)
        return None

    def _judge(self, fault: BaseException | None) -> None:
        if isinstance(fault, StudioError):
            self._world.met(f"refused with {fault.code}")
        elif fault is not None:
            raise fault

    async def _ask(self, call: str, land: Callable[[], None]) -> Fate:
        """Call the outside: answered at once as was decided, or later."""
        if self._parking is not None and self._parking is _ACTION.get(None):
            parked = Parked(call=call, land=land, answer=self.loop.create_future(), action=self._parking)
            self._parking = None
            self._world.met(f"parked at {call}")
            self.parked.append(parked)
            self._stopped.set_result(None)
            return await parked.answer
        fate = self._world.fates.pop(0) if self._world.fates else Fate.YES
        if fate is not Fate.YES:
            self._world.met(f"{call}: {fate}")
        return fate

    def let_go(self, fate: Fate) -> None:
        """Answer the oldest call that waits."""
        parked = self.parked.pop(0)
        self._world.met(f"{parked.call} went on: {fate}")
        parked.answer.set_result(fate)
        self.run(parked.action)

    def kill(self, *, landed: bool = False) -> None:
        """End the process; what it had asked of the outside happened, or not."""
        for parked in self.parked:
            self._world.met(f"killed during {parked.call}")
            if landed:
                parked.land()
        self.close()
        self.start()

    def close(self) -> None:
        """Stop everything where it is."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left))
        for task in left:
            if not task.cancelled():
                task.exception()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        if self._place is not None:
            self._place.end()

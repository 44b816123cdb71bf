"""The machine that lives sales: its rules are what buyers, processes, chains and vendors may do, in any order."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from stablestudio.errors import StudioError
from stablestudio.jobs import asking, cancel, maker
from stablestudio.jobs.decisions import Step
from stablestudio.media.storage import Storage
from stablestudio.payments import refunds
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.sales import charge, sell
from stablestudio.sales.audit import audit
from stablestudio.sales.order import Purchase, Sold
from stablestudio.store.database import Database
from stablestudio.store.tables import metadata
from tests.doubles import tamper
from tests.unit.sales.shop import CAT, DOG

from .process import WORKFLOWS, Process, World
from .rules import check_always, check_at_rest, is_at_rest, sales
from .world import Fate, Token

_STEPS_AT_ONCE = 3
_TURNS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What befalls an action: how its calls to the outside fare, and whether the first of them is held up."""

    fates: list[Fate]
    park: bool


_FATE = st.sampled_from([Fate.YES, Fate.NO, *Fate])
_HOW = st.builds(
    How,
    fates=st.lists(_FATE, max_size=3),
    park=st.booleans(),
)
_INDEX = st.integers(0, 3)
_ACTIONS = ["make", "make", "make", "cancel", "cancel", "refund", "reconcile", "sweep", "pay again", "other body"]
_KINDS = st.sampled_from(_ACTIONS)


class Stage:
    """The databases, one for each process that there may be, and what was met in all lives."""

    def __init__(self, databases: list[Database], storage: Storage, failpoint: str) -> None:
        self.databases = databases
        self.storage = storage
        self.failpoint = failpoint
        self.met: Counter[str] = Counter()
        self.processes: list[Process] = []
        self._names = self._tables()

    def _tables(self) -> list[str]:
        with self.databases[0].engine.connect() as connection:
            WORKFLOWS.metadata.create_all(connection)
            connection.commit()
        return [WORKFLOWS.name, *(table.name for table in reversed(metadata.sorted_tables))]

    def clear(self) -> None:
        """Begin with empty books."""
        tamper(self.databases[0], "".join(f"DELETE FROM {name};" for name in self._names))

    def reach(self, name: str) -> None:
        """Stand in for `failpoints.reach` in all processes."""
        loop = asyncio.get_running_loop()
        for process in self.processes:
            if process.loop is loop:
                process.reach(name)


class Sales(RuleBasedStateMachine):
    """Whatever buyers, processes, chains and vendors may do, in any order."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.stage.clear()
        self.world = World(met=self._met, failpoint=self.stage.failpoint)
        self.database = self.stage.databases[0]
        self.processes = [Process(database, self.world, self.stage.storage) for database in self.stage.databases]
        self.stage.processes = self.processes
        self.purchases: list[Purchase] = []
        self.ending: list[Fate] = []
        self.is_sound = True

    def _met(self, what: str) -> None:
        self.stage.met[what] += 1

    @initialize(deaths=st.integers(1, 3), ending=st.lists(_FATE, max_size=12))
    def begin(self, deaths: int, ending: list[Fate]) -> None:
        """Let whoever gets to the failpoint die there, so many times; `ending` is how the first calls at the end fare."""
        self.world.deaths, self.ending = deaths, ending

    @rule(
        which=_INDEX,
        body=st.sampled_from([CAT, DOG]),
        other=st.booleans(),
        key=st.sampled_from([None, None, "key"]),
        session=st.sampled_from([None, None, "run"]),
        hold_s=st.sampled_from([0, 600]),
        how=_HOW,
    )
    def pay(
        self,
        which: int,
        *,
        body: dict[str, Any],
        other: bool,
        key: str | None,
        session: str | None,
        hold_s: int,
        how: How,
    ) -> None:
        """Pay with a new credential: perhaps on another rail, for the same key or in the same run."""
        process = self._process(which)
        self.purchases.append(process.shop.purchase(body, other=other, key=key, session=session, hold_s=hold_s))
        self._do(process, self._pay(process, self.purchases[-1]), how)

    @precondition(lambda self: self.purchases)
    @rule(which=_INDEX, kind=_KINDS, index=_INDEX, how=_HOW)
    def go_on(self, which: int, *, kind: str, index: int, how: How) -> None:
        """Let one process do one thing."""
        process = self._process(which)
        if (action := self._action(process, kind, index)) is not None:
            self._do(process, action, how)

    @precondition(lambda self: self.purchases)
    @rule(kinds=st.tuples(_KINDS, _KINDS), index=_INDEX, fates=st.lists(st.sampled_from(Fate), max_size=2))
    def go_on_together(self, kinds: tuple[str, str], *, index: int, fates: list[Fate]) -> None:
        """Let two things happen at the same moment: in two processes where there are two."""
        self._met(f"together: {' and '.join(sorted(kinds))}")
        self.world.fates[:] = fates
        chosen = [(self._process(each), kind) for each, kind in enumerate(kinds)]
        begun = [(process, self._action(process, kind, index)) for process, kind in chosen]
        actions = [(process, process.begin(action)) for process, action in begun if action is not None]
        if len(self.processes) == 1:
            self.processes[0].run(*(action for _, action in actions))
        else:
            _run_threads([partial(process.run, action) for process, action in actions])

    # What is drawn may hang on what was drawn before alone: what has happened by now is another matter each time, as
    # threads of two processes race. So these are no preconditions.
    @rule(which=_INDEX, fate=st.sampled_from([Fate.YES, *Fate]))
    def answer(self, which: int, *, fate: Fate) -> None:
        """Answer what is held up, if anything is."""
        self.world.fates.clear()
        if (process := self._parked(which)) is not None:
            process.let_go(fate)

    @rule(which=_INDEX, landed=st.booleans())
    def kill(self, which: int, *, landed: bool) -> None:
        """End a process in the middle of its calls, if one is."""
        if (process := self._parked(which)) is not None:
            process.kill(landed=landed)

    @rule(seconds=st.sampled_from([1, 10, 50, 130, 400, 90_000]))
    def let_time_pass(self, seconds: int) -> None:
        """Let pauses, payments or a whole day end."""
        self.world.clock.advance(seconds)

    @rule()
    def mine(self) -> None:
        """Let happen what the chains have under way."""
        for token in self.world.tokens:
            token.mine()

    @precondition(lambda self: self.purchases)
    @rule(index=_INDEX)
    def steal(self, index: int) -> None:
        """Let a stranger send a payment, as anybody may who has seen it."""
        purchase = self.purchases[index % len(self.purchases)]
        key = _authorization(purchase).key
        if any(sale.key == key for sale in sales(self.database)):  # what was never taken is between the two of them
            self._token(purchase).move(_authorization(purchase))
            self.world.strange.add(key)

    @precondition(lambda self: self.purchases)
    @rule(index=_INDEX)
    def forget_workflow(self, index: int) -> None:
        """Let the engine lose track of a job."""
        found = sales(self.database)
        if found:
            self.world.lost.add(found[index % len(found)].id)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """Check what must hold at every moment."""
        self.is_sound = False
        check_always(self.database, self.world)
        self.is_sound = True

    def teardown(self) -> None:
        """Run everything to its end, and check what must hold then."""
        try:
            if self.is_sound:
                self._come_to_rest()
        finally:
            for process in self.processes:
                process.close()

    def _come_to_rest(self) -> None:
        for process in self.processes:
            while process.parked:
                process.let_go(Fate.YES)
        self.world.fates[:] = self.ending
        for turn in range(_TURNS):
            for token in self.world.tokens:
                token.mine()
            self._finish(self._process(turn))
            check_always(self.database, self.world)
            if is_at_rest(self.database):
                break
            # A payment that was given back is looked at ever more rarely.
            self.world.clock.advance(700 if turn < _TURNS / 2 else 90_000)
        else:
            raise AssertionError(f"it never came to rest: {sales(self.database)}")
        for end in check_at_rest(self.database, self.world):
            self._met(f"ended {end}")
        self.world.fates.clear()
        report = self.processes[0].loop.run_until_complete(
            audit(self.database, rails={rail.name: rail for rail in self.processes[0].rails})
        )
        assert not report.breaches, report.breaches
        assert not report.open, report.open

    def _finish(self, process: Process) -> None:
        """Let one process do all that is due."""
        for kind in ("reconcile", "sweep", "make", "refund"):
            for _ in range(20 if kind == "make" else 1):
                if (action := self._action(process, kind, 0)) is not None:
                    process.run(process.begin(action))

    def _process(self, which: int) -> Process:
        return self.processes[which % len(self.processes)]

    def _parked(self, which: int) -> Process | None:
        waiting = [process for process in self.processes if process.parked]
        return waiting[which % len(waiting)] if waiting else None

    def _do(self, process: Process, action: Coroutine[Any, Any, Any], how: How) -> None:
        self.world.fates[:] = how.fates
        process.run(process.begin(action, park=how.park))

    def _action(self, process: Process, kind: str, index: int) -> Coroutine[Any, Any, Any] | None:
        match kind:
            case "reconcile":
                return process.shop.reconciler.work_once()
            case "refund":
                return process.refunds.work_once()
            case "sweep":
                return _sweep(process)
            case "make":
                return self._make(process, index)
            case "cancel":
                return self._cancel(process, index)
        purchase = self.purchases[index % len(self.purchases)]
        if kind == "other body":
            purchase = replace(purchase, body=purchase.body + b" ")
        return self._pay(process, purchase)

    async def _pay(self, process: Process, purchase: Purchase) -> None:
        key = _authorization(purchase).key
        try:
            answer = await process.shop.sell(purchase)
        except StudioError as refused:
            moved = key in self._token(purchase).moved and key not in self.world.strange
            assert refused.status != 402 or not moved, "told that nothing was charged, and the money moved"  # noqa: PT017
            raise
        bought = next(sale for sale in sales(self.database) if sale.id == answer.job_id)
        if isinstance(answer, Sold) and not answer.echo and purchase.buyer.idempotency_key is None:
            assert bought.key == key, "sold for another payment"
        self._met(f"{type(answer).__name__.lower()}{' as an echo' if isinstance(answer, Sold) and answer.echo else ''}")

    def _workflows(self, process: Process) -> list[Any]:
        rows = process.loop.run_until_complete(process.engine.rows())
        return [rows[job_id] for job_id in sorted(rows) if not rows[job_id].ended]

    def _make(self, process: Process, index: int) -> Coroutine[Any, Any, None] | None:
        rows = self._workflows(process)
        return _advance(process, rows[index % len(rows)]) if rows else None

    def _cancel(self, process: Process, index: int) -> Coroutine[Any, Any, None] | None:
        jobs = [sale for sale in sales(self.database) if sale.job is not None]
        found = [sale for sale in jobs if sale.job == "loading"] or jobs  # what a vendor has is the harder case
        if not found or (job_id := found[index % len(found)].id) in process.canceller._under_way:
            return None  # it would wait for the one that is held up
        return process.canceller.cancel(job_id)

    def _token(self, purchase: Purchase) -> Token:
        contract = purchase.presented.accepted.asset.lower()  # type: ignore[union-attr]
        return next(token for token in self.world.tokens if token.domain.contract.lower() == contract)


def staged(databases: list[Database], failpoint: str, monkeypatch: pytest.MonkeyPatch) -> type[Sales]:
    """Return a machine whose processes have these databases, and die at this failpoint."""

    class OnStage(Sales):
        stage = Stage(databases, Storage.at("memory:///"), failpoint)

    for module in (sell, charge, asking, maker, cancel, refunds):
        monkeypatch.setattr(module, "reach", OnStage.stage.reach)
    monkeypatch.setattr(sell, "_TWIN_SECONDS", 0.0)  # what is held up here is held up on purpose
    return OnStage


async def _advance(process: Process, row: Any) -> None:
    """Do some steps of a workflow as the engine does: each is written down once it is done, and repeated until it is."""
    following: Step = json.loads(row.step)
    for _ in range(_STEPS_AT_ONCE):
        match following["do"]:
            case "fail":
                await process.maker.fail(row.job_id, code=following["code"], message=following["message"])
            case "deliver":
                await process.maker.deliver(row.job_id)
            case verb:
                following = await process.maker.advance(verb, row.job_id)
                await process.engine.note(row.job_id, following)
                continue
        return await process.engine.note(row.job_id, following, ended=True)
    return None


async def _sweep(process: Process) -> None:
    for _ in range(2):  # what is lost is looked at twice
        await process.sweep.work_once(quiet_ms=0)


def _authorization(purchase: Purchase) -> Authorization:
    return purchase.presented.authorization  # type: ignore[union-attr]


def _run_threads(jobs: list[Callable[[], None]]) -> None:
    faults: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as fault:  # noqa: BLE001 - told below
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fault in faults:
        raise fault

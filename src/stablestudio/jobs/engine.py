"""The engine port and its one implementation: DBOS Transact, durable on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus

from stablestudio.jobs.decisions import Step, Verb, is_overdue
from stablestudio.jobs.engine_count import hasten
from stablestudio.jobs.maker import AWAY_SECONDS, Maker
from stablestudio.store import executors
from stablestudio.store.database import Database, is_file

log = logging.getLogger(__name__)
# A constant: DBOS's default is a hash of source and library version, which strands running jobs at every upgrade.
APPLICATION_VERSION = "1"
QUEUE = "make"
_WORKFLOW = "make"
_POLL_SECONDS = 0.2
# Asking a vendor and asking how it goes are one step for so long: the engine writes two rows a step, in commits of their
# own, and what a vendor has taken stands in our rows, which a step that runs again goes by.
_STEP_SECONDS = 300.0
_FORGOTTEN_AT_ONCE = 100
_ASKED_AT_ONCE = 500
_MOST_THREADS = 128

_POOL = 8  # connections of the engine to PostgreSQL, beside those of the store

_RUNNING = frozenset({"ENQUEUED", "PENDING", "DELAYED"})
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


class EngineState(StrEnum):
    """What the engine makes of a job."""

    RUNNING = "running"
    LOST = "lost"
    ENDED = "ended"


class Engine(Protocol):
    """Runs the steps of each job durably."""

    def enqueue(self, connection: sa.Connection, job_id: str, *, queue: str = QUEUE) -> None:
        """Add the job's workflow to the caller's transaction, in the queue of whoever will make it."""
        ...

    async def states(self, job_ids: Sequence[str]) -> Mapping[str, EngineState]:
        """Return each known job's state: RUNNING, LOST where the engine says so but its process does not, or ENDED."""
        ...

    async def restart(self, job_id: str, *, queue: str = QUEUE) -> None:
        """Run a stranded job's workflow anew; its steps find their own rows and repeat nothing."""
        ...

    async def take_up_dropped(self) -> Sequence[str]:
        """Run on with what ended here while the engine could not write so, as on a full disk; return these jobs."""
        ...


class DbosEngine:
    """DBOS in this process. The engine's tables live in our database so that one commit holds sale and workflow."""

    def __init__(
        self,
        database: Database,
        *,
        executor_id: str,
        concurrency: Mapping[str, int],
        vendor_limits: Mapping[str, int] | None = None,
    ) -> None:
        """Take the queues and how many jobs of each run here at once: one that is full does not hold the others up.

        `executor_id` is this process' own. `vendor_limits` are what all processes together may run of a queue.
        """
        self._concurrency = dict(concurrency)
        self._vendor_limits = dict(vendor_limits or {})
        self._config = DBOSConfig(
            name="stablestudio",
            system_database_url=database.url,
            application_version=APPLICATION_VERSION,
            executor_id=executor_id,
            serializer=DBOSPortableJSONSerializer(),
            log_level="WARNING",
            # They also look host names up and hash files: a few that hang may not hold up all the others.
            max_executor_threads=min(_MOST_THREADS, 8 + sum(self._concurrency.values())),
            notification_listener_polling_interval_sec=1.0,
            scheduler_polling_interval_sec=300.0,
            sys_db_pool_size=_POOL,
            db_engine_kwargs=_connecting(database.url),
            run_migrations=is_file(database.url),
        )
        self._database = database
        self._client: DBOSClient | None = None
        self._executor_id = executor_id
        self._running: Counter[str] = Counter()
        self._ended: set[str] = set()  # what ended here since the last look at it
        self._unchecked: set[str] = set()  # what ended here before: the engine has had time to write it down
        self._launched = False

    async def start(self, maker: Maker | None) -> None:
        """Take jobs; with a maker this process works on them, too, which may be told later."""
        if maker is not None:
            await self._launch(maker)
        elif is_file(self._database.url):
            await asyncio.to_thread(prepare, self._database.url)
        self._client = _client(self._database)

    async def _launch(self, maker: Maker) -> None:
        self._launched = True
        hasten(DBOS(config=self._config))
        engine_log = logging.getLogger("dbos")
        engine_log.handlers.clear()  # its own handler writes plain text; ours writes JSON
        engine_log.propagate = True
        engine_log.setLevel(logging.WARNING)
        _register(maker, self._running, self._ended)
        DBOS.listen_queues(list(self._concurrency))
        await asyncio.to_thread(DBOS.launch)
        await asyncio.to_thread(self._register_queues)

    async def stop(self) -> None:
        """Stop taking work; what runs is taken up again at the next start."""
        if self._launched:
            await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
            # The engine lent its threads to this loop, and has ended them: what stops after it needs some, too.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="after-engine"))

    def enqueue(self, connection: sa.Connection, job_id: str, *, queue: str = QUEUE) -> None:
        assert self._client is not None
        options = EnqueueOptions(
            workflow_name=_WORKFLOW,
            queue_name=queue if queue in self._concurrency else QUEUE,
            workflow_id=job_id,
            workflow_id_reuse_policy="reject",
            app_version=APPLICATION_VERSION,
        )
        self._client.enqueue_in_transaction(connection, options, job_id)

    async def states(self, job_ids: Sequence[str]) -> Mapping[str, EngineState]:
        if not job_ids:
            return {}
        known = await DBOS.list_workflows_async(workflow_ids=list(job_ids), load_input=False, load_output=False)
        living = await self._database.read(executors.ids)  # after the workflows: who runs one was there before it
        others = living - {self._executor_id}
        return {workflow.workflow_id: self._state(workflow, others) for workflow in known}

    def _state(self, workflow: WorkflowStatus, others: Collection[str]) -> EngineState:
        """Tell apart what runs from what was dropped: by us, as when a disk was too full for a step, or with its process."""
        if workflow.status not in _RUNNING:
            return EngineState.ENDED
        if workflow.status != "PENDING":
            return EngineState.RUNNING if self._may_begin(workflow, others) else EngineState.LOST
        ours = workflow.executor_id == self._executor_id
        runs = workflow.workflow_id in self._running if ours else workflow.executor_id in others
        return EngineState.RUNNING if runs else EngineState.LOST

    def _may_begin(self, workflow: WorkflowStatus, others: Collection[str]) -> bool:
        """Tell whether somebody may take it: others may have a provider that our settings lack, or all have dropped it."""
        if workflow.queue_name is None or workflow.queue_name in self._concurrency:
            return True
        return bool(others) and not is_overdue(time.time() - (workflow.created_at or 0) / 1000)

    async def restart(self, job_id: str, *, queue: str = QUEUE) -> None:
        await DBOS.delete_workflow_async(job_id)
        await self._database.write(lambda connection: self.enqueue(connection, job_id, queue=queue))

    def release(self, executor_ids: Sequence[str], *, keep: Collection[str] = ()) -> None:
        """Enqueue what these executors run, so that others run on with it; not the jobs to `keep`."""
        assert self._client is not None
        found = _pending(self._client, executor_id=list(executor_ids))
        _resume(self._client, [workflow for workflow in found if workflow.workflow_id not in keep])

    async def take_up_dropped(self) -> Sequence[str]:
        # Left alone, its row would count as a job under way, also to the limit of its vendor, as long as we live.
        assert self._client is not None
        dropped: list[WorkflowStatus] = []
        for job_ids in _in_parts(sorted(self._unchecked)):
            found = await asyncio.to_thread(_pending, self._client, executor_id=[self._executor_id], job_ids=job_ids)
            dropped += [workflow for workflow in found if workflow.workflow_id not in self._running]
        await asyncio.to_thread(_resume, self._client, dropped)
        self._unchecked.clear()
        while self._ended:
            self._unchecked.add(self._ended.pop())
        return [workflow.workflow_id for workflow in dropped]

    async def forget(self, *, before_ms: int) -> int:
        """Drop the engine's rows of workflows that have ended and were begun before a moment; return how many went."""
        assert self._client is not None
        begun = datetime.fromtimestamp(before_ms / 1000, UTC).isoformat()
        ended: dict[str, Any] = {"status": _ENDED, "end_time": begun, "load_input": False, "load_output": False}
        gone = 0
        while True:
            found = await self._client.list_workflows_async(limit=_FORGOTTEN_AT_ONCE, **ended)
            await self._client.delete_workflows_async([workflow.workflow_id for workflow in found])
            gone += len(found)
            if len(found) < _FORGOTTEN_AT_ONCE:
                return gone

    def _register_queues(self) -> None:
        """Tell the engine our limits. It keeps one row a queue for all processes: who starts last decides for all."""
        for queue, most in self._concurrency.items():
            self._warn_of_other_limits(queue, most)
            DBOS.register_queue(
                queue,
                worker_concurrency=most,
                global_concurrency=self._vendor_limits.get(queue),
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update",
            )

    def _warn_of_other_limits(self, queue: str, most: int) -> None:
        known = DBOS.retrieve_queue(queue)
        if known is None or is_file(self._database.url):
            return
        theirs = (known.worker_concurrency, known.global_concurrency)
        if theirs != (ours := (most, self._vendor_limits.get(queue))):
            names = ("each", "together")
            told = {"queue": queue, "before": dict(zip(names, theirs, strict=True))}
            log.warning("queue_limits_differ", extra=told | {"now": dict(zip(names, ours, strict=True))})


def in_hand(database: Database) -> Mapping[str, int]:
    """Return how many jobs each executor has in its hands."""
    return Counter(workflow.executor_id or "" for workflow in _pending(_client(database)))


def _connecting(url: str) -> dict[str, Any]:
    """Return how the engine connects: like the store, so that a dead line does not hold its steps while we renew our lease."""
    if is_file(url):
        return {}
    from stablestudio.store.postgres import CLIENT  # noqa: PLC0415 - not needed for a file

    return {"connect_args": {"application_name": "dbos_transact"} | CLIENT}


def _client(database: Database) -> DBOSClient:
    return DBOSClient(
        system_database_engine=database.engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name="stablestudio",
        lazy=True,
    )


def _pending(
    client: DBOSClient, *, executor_id: list[str] | None = None, job_ids: list[str] | None = None
) -> list[WorkflowStatus]:
    which: dict[str, Any] = {"executor_id": executor_id, "workflow_ids": job_ids}
    return client.list_workflows(status="PENDING", load_input=False, load_output=False, **which)


def _resume(client: DBOSClient, workflows: Sequence[WorkflowStatus]) -> None:
    """Enqueue workflows where they were: who takes one runs on with it."""
    by_queue: defaultdict[str, list[str]] = defaultdict(list)
    for workflow in workflows:
        by_queue[workflow.queue_name or QUEUE].append(workflow.workflow_id)
    for queue, job_ids in by_queue.items():
        client.resume_workflows(job_ids, queue_name=queue)


def _in_parts(job_ids: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(job_ids), _ASKED_AT_ONCE):
        yield list(job_ids[first : first + _ASKED_AT_ONCE])


def prepare(url: str) -> None:
    """Bring the engine's own tables in a database to the schema of its version."""
    DBOS.migrate(url)


def _register(maker: Maker, running: Counter[str], ended: set[str]) -> None:
    """Bind the workflow to this process' maker. Its body stays tiny: recorded histories are replayed against it."""
    durable = DBOS.step(retries_allowed=True, max_attempts=8, interval_seconds=0.5, backoff_rate=2.0)

    @durable
    async def advance(verb: Verb, job_id: str) -> Step:
        until = time.monotonic() + _STEP_SECONDS
        following = await maker.advance(verb, job_id)
        while (again := following["do"]) == "submit" or again == "poll":
            if time.monotonic() + following["wait"] >= until:
                break
            await asyncio.sleep(following["wait"])
            following = await maker.advance(again, job_id)
        return following

    @durable
    async def close(job_id: str, outcome: Step) -> None:
        until = time.monotonic() + _STEP_SECONDS
        while True:
            try:
                if outcome["do"] == "fail":
                    return await maker.fail(job_id, code=outcome["code"], message=outcome["message"])
                return await maker.deliver(job_id)
            except sa.exc.OperationalError:  # the books are away: an outage is no reason to give a job up
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(AWAY_SECONDS)

    @DBOS.workflow(name=_WORKFLOW)
    async def make(job_id: str) -> None:
        running[job_id] += 1  # two runs of one job may overlap for a moment
        try:
            following = await advance("submit", job_id)
            while (verb := following["do"]) != "deliver" and verb != "fail":
                await DBOS.sleep_async(following["wait"])
                following = await advance(verb, job_id)
            await close(job_id, following)
        finally:
            running[job_id] -= 1
            if not running[job_id]:
                del running[job_id]
                ended.add(job_id)

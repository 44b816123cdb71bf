"""The engine itself: workflows enqueued with their sale, run once, known by state, and set going again when dropped."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS
from dbos._dbos import _get_dbos_instance

from stablestudio.clock import SystemClock
from stablestudio.jobs.decisions import Step, failure, step
from stablestudio.jobs.engine import APPLICATION_VERSION, QUEUE, DbosEngine, EngineState
from stablestudio.jobs.engine_count import CountedWorkflows
from stablestudio.providers.provider import FailureKind
from stablestudio.store import executors
from stablestudio.store.database import Database, connect, is_file
from stablestudio.store.postgres import CLIENT
from tests.doubles import eventually, open_database
from tests.postgres import PostgresServer

pytestmark = pytest.mark.anyio
# What the engine wrote down for jobs of a released version, up to the moment of its stop: never changed, only added to.
HISTORIES = Path(__file__).parent / "histories" / "version_1.json"


class Recorder:
    """A maker that writes down what it is asked, and fails jobs whose id says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.on_step: Callable[[str], object] = lambda _: None
        self.on_close: Callable[[str], object] = lambda _: None

    async def advance(self, verb: str, job_id: str) -> Step:
        self.asked.append((verb, job_id))
        self.on_step(job_id)
        if "bad" in job_id:
            return failure(FailureKind.MODERATION, "no")
        if "patient" in job_id and len(self.of(job_id)) < 9:
            return step("poll", wait=0.01)
        return step("poll") if verb == "submit" else step("deliver")

    async def deliver(self, job_id: str) -> None:
        self.on_close(job_id)
        self.asked.append(("deliver", job_id))

    async def fail(self, job_id: str, *, code: str, message: str) -> None:
        self.asked.append((f"fail {code} {message}", job_id))

    def of(self, job_id: str) -> list[str]:
        return [verb for verb, asked in self.asked if asked == job_id]


class Running:
    """An engine at work."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.engine = DbosEngine(database, executor_id="test", concurrency={"make": 4})
        self.maker = Recorder()

    async def enqueue(self, job_id: str, *, queue: str = QUEUE) -> None:
        await self.database.write(lambda connection: self.engine.enqueue(connection, job_id, queue=queue))

    async def state(self, job_id: str) -> EngineState | None:
        return (await self.engine.states([job_id])).get(job_id)

    async def enqueue_foreign(self, job_id: str, **values: object) -> None:
        """Enqueue for a provider that only other processes have; `values` are what the engine's row of it says."""
        self.engine._concurrency["theirs"] = 1
        await self.enqueue(job_id, queue="theirs")
        del self.engine._concurrency["theirs"]
        if values:
            await self.change(job_id, **values)

    async def change(self, job_id: str, **values: object) -> None:
        """Let the engine's row of a job say so."""
        schema = None if is_file(self.database.url) else "dbos"
        table = sa.table("workflow_status", *map(sa.column, ("workflow_uuid", *values)), schema=schema)
        statement = sa.update(table).where(table.c.workflow_uuid == job_id).values(values)
        await self.database.write(lambda connection: connection.execute(statement))

    @asynccontextmanager
    async def neighbour(self) -> AsyncIterator[None]:
        """Have another process beside this one."""
        begin = partial(executors.begin, executor="neighbour", host="", pid=0, lasts=60_000)
        await self.database.write(begin)
        try:
            yield
        finally:
            await self.database.write(lambda connection: executors.end(connection, ["neighbour"]))

    async def succeeds(self, job_id: str) -> None:
        """Wait for the engine's own last line, which follows the maker's."""

        async def succeeded() -> bool:
            return await self.state(job_id) == EngineState.ENDED

        await eventually(succeeded)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    if request.param == "sqlite":
        return open_database(tmp_path_factory.mktemp("engine"))
    server: PostgresServer = request.getfixturevalue("postgres")
    return connect(server.create_upgraded())


@pytest.fixture(scope="module")
async def running(opened: Database) -> AsyncIterator[Running]:
    made = Running(opened)
    await made.engine.start(made.maker)  # type: ignore[arg-type]
    yield made
    await made.engine.stop()
    assert await asyncio.to_thread(lambda: "there") == "there", "what stops after the engine has threads, too"
    opened.close()


@pytest.fixture
def on_postgres(running: Running) -> Running:
    if is_file(running.database.url):
        pytest.skip("a file belongs to one process")
    return running


async def test_a_workflow_makes_its_job_step_by_step(running: Running) -> None:
    await running.enqueue("job_good")
    await running.succeeds("job_good")
    assert running.maker.of("job_good") == ["submit", "poll", "deliver"]


async def test_a_failure_closes_the_job_with_its_reason(running: Running) -> None:
    await running.enqueue("job_bad")
    await running.succeeds("job_bad")
    assert running.maker.of("job_bad") == ["submit", "fail moderation no"]


async def test_a_transaction_that_is_undone_enqueues_nothing(running: Running) -> None:
    def work(connection: sa.Connection) -> None:
        running.engine.enqueue(connection, "job_undone")
        raise LookupError

    with pytest.raises(LookupError):
        await running.database.write(work)
    await asyncio.sleep(0.5)
    assert await running.engine.states(["job_undone"]) == {}
    assert running.maker.of("job_undone") == []


async def test_a_job_has_one_workflow(running: Running) -> None:
    await running.enqueue("job_once")
    await running.succeeds("job_once")
    with pytest.raises(Exception, match="job_once"):
        await running.enqueue("job_once")
    assert running.maker.of("job_once") == ["submit", "poll", "deliver"]


async def test_states_are_told_of_known_workflows_only(running: Running) -> None:
    await running.enqueue("job_known")
    await running.succeeds("job_known")
    assert await running.engine.states(["job_known", "job_unknown"]) == {"job_known": EngineState.ENDED}
    assert await running.engine.states([]) == {}


async def test_what_is_asked_again_and_again_is_one_step_of_the_engine(running: Running) -> None:
    """A clip is asked for a hundred times; a row and a commit for each would outweigh the job."""
    await running.enqueue("job_patient")
    await running.succeeds("job_patient")
    assert running.maker.of("job_patient") == ["submit", *["poll"] * 8, "deliver"]
    steps = await DBOS.list_workflow_steps_async("job_patient")
    assert [each["function_name"].rpartition(".")[2] for each in steps] == ["advance", "close"]


async def test_a_job_is_closed_when_the_books_are_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.jobs.engine.AWAY_SECONDS", 0.01)
    faults = [sa.exc.OperationalError("", None, ConnectionError("away"))] * 12  # more than the engine would try

    def fault(_: str) -> None:
        if faults:
            raise faults.pop()

    running.maker.on_close = fault
    await running.enqueue("job_outage")
    await running.succeeds("job_outage")
    running.maker.on_close = lambda _: None
    assert (running.maker.of("job_outage"), faults) == (["submit", "poll", "deliver"], [])


async def test_the_engine_knows_how_many_run_by_our_number(running: Running) -> None:
    counted = _get_dbos_instance()._active_workflows_set
    assert isinstance(counted, CountedWorkflows)
    number = counted.count_for_queue
    seen: list[int] = []
    running.maker.on_step = lambda _: seen.append(number("make"))
    await running.enqueue("job_counted")
    await running.succeeds("job_counted")
    running.maker.on_step = lambda _: None
    assert seen == [1, 1]
    await eventually(lambda: number("make") == 0)


async def test_ended_workflows_are_forgotten_and_others_are_not(running: Running) -> None:
    for number in range(3):
        await running.enqueue(f"job_old_{number}")
        await running.succeeds(f"job_old_{number}")
    running.engine._concurrency["later"] = 1
    await running.enqueue("job_waiting", queue="later")
    assert await running.engine.forget(before_ms=0) == 0
    assert await running.engine.forget(before_ms=SystemClock().now_ms() + 1000) >= 3
    left = await running.engine.states([*(f"job_old_{number}" for number in range(3)), "job_waiting"])
    assert left == {"job_waiting": EngineState.RUNNING}
    assert await DBOS.list_workflow_steps_async("job_old_0") == []
    del running.engine._concurrency["later"]


async def test_a_dropped_workflow_runs_anew(running: Running) -> None:
    await running.enqueue("job_again")
    await running.succeeds("job_again")
    await running.engine.restart("job_again")
    await running.succeeds("job_again")
    assert running.maker.of("job_again") == ["submit", "poll", "deliver"] * 2


async def test_a_workflow_whose_end_was_not_written_down_is_run_on_with_and_ended(running: Running) -> None:
    """On a disk that is full for a moment the job's own last line may fit, and the engine's not."""
    await running.enqueue("job_dropped")
    await running.succeeds("job_dropped")
    await running.change("job_dropped", status="PENDING", completed_at=None)
    looks = [await running.engine.take_up_dropped() for _ in range(3)]
    assert looks == [[], ["job_dropped"], []]
    await running.succeeds("job_dropped")
    assert running.maker.of("job_dropped") == ["submit", "poll", "deliver"], "what is written down is not repeated"


async def test_a_workflow_that_runs_again_or_elsewhere_was_not_dropped(running: Running) -> None:
    jobs = ["job_runs_again", "job_runs_elsewhere"]
    for job_id, executor in zip(jobs, ("test", "neighbour"), strict=True):
        await running.enqueue(job_id)
        await running.succeeds(job_id)
        await running.change(job_id, status="PENDING", completed_at=None, executor_id=executor)
    running.engine._running["job_runs_again"] = 1
    assert [await running.engine.take_up_dropped() for _ in range(3)] == [[]] * 3
    del running.engine._running["job_runs_again"]
    pending = await DBOS.list_workflows_async(status="PENDING", workflow_ids=jobs)
    assert len(pending) == len(jobs)
    for job_id in jobs:
        await running.change(job_id, status="SUCCESS")


async def test_a_workflow_that_the_engine_never_had_is_started(running: Running) -> None:
    await running.engine.restart("job_lost")
    await running.succeeds("job_lost")
    assert running.maker.of("job_lost") == ["submit", "poll", "deliver"]


async def test_a_workflow_in_a_queue_that_nobody_works_on_any_more_is_lost_and_started_in_another(
    running: Running,
) -> None:
    """A provider was renamed while its jobs waited."""
    running.engine._concurrency["gone"] = 1
    await running.enqueue("job_moved", queue="gone")
    await asyncio.sleep(0.5)
    assert running.maker.of("job_moved") == []
    del running.engine._concurrency["gone"]
    assert await running.engine.states(["job_moved"]) == {"job_moved": EngineState.LOST}
    await running.engine.restart("job_moved", queue="gone")
    await running.succeeds("job_moved")
    assert running.maker.of("job_moved") == ["submit", "poll", "deliver"]


async def test_a_job_that_another_process_runs_is_not_lost_where_its_provider_is_unknown(on_postgres: Running) -> None:
    """A rolling restart adds a provider: those that are not restarted yet may not delete what the new ones run."""
    await on_postgres.enqueue_foreign("job_theirs", status="PENDING", executor_id="neighbour")
    async with on_postgres.neighbour():
        assert await on_postgres.state("job_theirs") == EngineState.RUNNING
    assert await on_postgres.state("job_theirs") == EngineState.LOST


async def test_a_job_waits_for_a_provider_that_another_process_may_have(on_postgres: Running) -> None:
    await on_postgres.enqueue_foreign("job_theirs_later")
    async with on_postgres.neighbour():
        assert await on_postgres.state("job_theirs_later") == EngineState.RUNNING
    assert await on_postgres.state("job_theirs_later") == EngineState.LOST


async def test_nobody_waits_longer_than_a_day_for_a_provider_that_no_process_has(on_postgres: Running) -> None:
    a_day_ago = SystemClock().now_ms() - 24 * 3600 * 1000
    await on_postgres.enqueue_foreign("job_theirs_never", created_at=a_day_ago)
    async with on_postgres.neighbour():
        assert await on_postgres.state("job_theirs_never") == EngineState.LOST


async def test_the_engine_finds_out_about_a_dead_line_as_soon_as_the_store(on_postgres: Running) -> None:
    """Its steps would hang for a quarter of an hour, while the lease of the process is renewed."""
    with _get_dbos_instance()._sys_db.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        told = driver.info.get_parameters()
    assert told["application_name"] == "dbos_transact"
    assert {name: int(told[name]) for name in CLIENT} == CLIENT


async def test_limits_that_differ_from_those_of_the_other_processes_are_told_of(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """One row of the engine holds for all: whoever starts last decides."""
    other = DbosEngine(running.database, executor_id="other", concurrency={"make": 9})
    for engine in (running.engine, other, other, running.engine):
        await asyncio.to_thread(engine._register_queues)
    told = [(record.before["each"], record.now["each"]) for record in caplog.records if "limits" in record.message]  # type: ignore[attr-defined]
    assert told == ([] if is_file(running.database.url) else [(4, 9), (9, 4)])


async def test_threads_that_hang_do_not_hold_a_job_up(running: Running) -> None:
    """Host names are looked up in threads, and some name servers never answer."""
    release = threading.Event()

    def hang(job_id: str) -> None:
        if job_id == "job_hanging":
            for _ in range(5):
                asyncio.get_running_loop().run_in_executor(None, release.wait)

    running.maker.on_step = hang
    try:
        for job_id in ("job_hanging", "job_after"):
            await running.enqueue(job_id)
            await running.succeeds(job_id)
    finally:
        release.set()


@pytest.mark.parametrize(
    ("history", "left"), [("submitted", ["poll", "deliver"]), ("polling", ["poll", "deliver"]), ("made", ["deliver"])]
)
async def test_a_job_that_version_1_began_is_finished_by_this_program(
    running: Running, history: str, left: list[str]
) -> None:
    """An upgrade strands no paid job: what was recorded is not repeated, and the rest follows."""
    job_id, steps = f"job_{history}", json.loads(HISTORIES.read_text())[history]
    table = "operation_outputs" if is_file(running.database.url) else "dbos.operation_outputs"
    insert = sa.text(
        f"INSERT INTO {table} (workflow_uuid, function_id, function_name, output, serialization, application_name)"
        " VALUES (:id, :number, :name, :output, 'portable_json', 'stablestudio')"
    )

    def begin(connection: sa.Connection) -> None:
        running.engine.enqueue(connection, job_id)
        for number, (name, output) in enumerate(steps, start=1):
            connection.execute(insert, {"id": job_id, "number": number, "name": name, "output": output})

    assert APPLICATION_VERSION == "1", "who waits in the queue waits for a process of the version that enqueued it"
    await running.database.write(begin)
    await running.succeeds(job_id)
    assert running.maker.of(job_id) == left

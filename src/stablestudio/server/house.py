"""The house: every part built once from the settings, started and stopped in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from stablestudio.clock import Clock, SystemClock
from stablestudio.config import Settings, load_secret
from stablestudio.jobs.changes import Changes
from stablestudio.jobs.engine import QUEUE, DbosEngine
from stablestudio.jobs.lease import Lease
from stablestudio.jobs.maker import Maker
from stablestudio.jobs.purge import Purger
from stablestudio.jobs.sweep import Sweep
from stablestudio.jobs.webhooks import WebhookWorker
from stablestudio.media.addresses import FetchPolicy
from stablestudio.media.decoding import DECODER, DOOR
from stablestudio.media.intake import Intake
from stablestudio.media.links import LinkSigner
from stablestudio.media.post import Poster
from stablestudio.payments.refunds import RefundWorker
from stablestudio.protocols.blob import BlobTokens
from stablestudio.protocols.webhooks import WebhookKeys
from stablestudio.providers.bindings import Bindings
from stablestudio.providers.inputs import InputFiles, public_url
from stablestudio.providers.kept import KeptResults
from stablestudio.sales.charge import Charger
from stablestudio.sales.reconcile import Reconciler
from stablestudio.sales.sell import Seller
from stablestudio.sandbox.provider import SandboxProvider
from stablestudio.server.buyers_files import BuyersFiles
from stablestudio.server.eta import Etas
from stablestudio.server.front import Front
from stablestudio.server.job_bodies import JobBodies
from stablestudio.server.premises import lock, make_folder, ready_schema, require_secret
from stablestudio.server.providers import Workshop, build_providers, require_known
from stablestudio.server.rails import build_rails
from stablestudio.server.readiness import Readiness
from stablestudio.server.storage import build_links, check, compare_later, open_room, open_shelf, retention
from stablestudio.server.webhooks import WebhookMessages
from stablestudio.server.working import Duties, Working
from stablestudio.store import restores
from stablestudio.store.database import connect, is_file
from stablestudio.store.place import Place

_SETTLED_SECONDS = 5.0  # by then what is loaded late, such as the Tempo library, is there
# Small rounds, since each stops all threads: a thousand objects take a millisecond, all of ten thousand jobs most of a second.
_COLLECTED_AT = (200, 5, 10_000)
# A receiver on this machine or in the operator's own network.
_INSIDE = FetchPolicy(schemes=frozenset({"http", "https"}), ports=range(1, 65_536), permits=lambda _: True)
# Of whoever is alone: it takes up at its start what the last one left.
_EXECUTOR = "embedded"


class House:
    """Everything that runs in one process."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        require_known(settings)
        self._alone = is_file(settings.books)
        secret = self._move_in(settings)
        self.database = connect(settings.books)
        self._lease = (
            None if self._alone or not settings.works else Lease(settings.books, seconds=settings.lease_seconds)
        )
        self.changes = Changes(self.database)
        shelf = open_shelf(settings)
        self.storage = shelf.storage
        self._signer = LinkSigner(secret, settings.origin, settings.link_seconds)
        self.room = open_room(settings)
        self.readiness = Readiness(self.room, self.database)
        self._links = build_links(settings, shelf, signer=self._signer)
        self.purger = Purger(self.database, storage=self.storage, clock=self._clock)
        self.rails = build_rails(settings, database=self.database, secret=secret, clock=self._clock)
        self._tokens = BlobTokens(secret)
        self._files = BuyersFiles(
            settings,
            database=self.database,
            storage=self.storage,
            links=self._links,
            tokens=self._tokens,
            clock=self._clock,
        )
        self.bindings = self._bind(settings, secret)
        self.engine = self._open_engine(settings)
        self.refunds = self._open_refunds()
        self.seller = self._open_seller(settings)
        self.charger = Charger(self.database, rails=self.rails.all, seller=self.seller, clock=self._clock)
        self.maker = self._open_maker(settings)
        self.reconciler = Reconciler(self.database, rails=self.rails.all, seller=self.seller, clock=self._clock)
        self.sweep = Sweep(self.database, engine=self.engine, maker=self.maker, clock=self._clock)
        self._etas = Etas(self.database, clock=self._clock)
        self._bodies = JobBodies(self.database, links=self._links, clock=self._clock, poll_after=self._etas.poll_after)
        self._webhook_keys = WebhookKeys(secret)
        self._poster = Poster(policy=_INSIDE if settings.webhooks_inside else None, own_origin=settings.origin)
        self.webhooks = self._open_webhooks()
        self.app = self._open_front(settings, secret).app(startup=self.start, shutdown=self.stop)
        self._makes_jobs = settings.jobs_at_once > 0
        self._working = self._hire(settings) if self._alone or settings.works else None
        self._tasks: list[asyncio.Task[None]] = []
        self.on_ready: Callable[[], None] = lambda: None
        # Called with the reason where this process has to end by itself, and another one should be started.
        self.on_giving_up: Callable[[str], None] = lambda reason: None  # noqa: ARG005 - as above

    async def start(self) -> None:
        """Answer, and go to work."""
        is_reached = await check(self.storage, None if self._alone else self.database)
        await self.room.look()
        await self.rails.start()
        self.changes.start()
        loops = (self.changes.run(), self.room.run(), self.readiness.run(), self._etas.run())
        self._tasks += [asyncio.create_task(loop) for loop in loops]
        if not is_reached and not self._alone:
            later = compare_later(self.storage, self.database, give_up=self.on_giving_up)
            self._tasks.append(asyncio.create_task(later))
        self.charger.start()
        if self._working is not None:
            await self._working.start(makes_jobs=self._makes_jobs)
        else:
            await self.engine.start(None)
        asyncio.get_running_loop().call_later(_SETTLED_SECONDS, _settle_memory)
        self.on_ready()

    def let_go(self) -> None:
        """Answer everybody who waits, because the service is about to stop."""
        self.changes.close()

    async def stop(self) -> None:
        """Stop in the opposite order; what was running is taken up at the next start."""
        self.let_go()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._working is not None:
            await self._working.stop()
        await asyncio.gather(asyncio.to_thread(DECODER.close), asyncio.to_thread(DOOR.close))
        await self.rails.stop()
        for close in self.providers.close:
            await close()
        self.database.close()
        if self._lock is not None:
            self._lock.close()

    def _move_in(self, settings: Settings) -> bytes:
        """Take the folder, ready the books, and return the secret that both agree on."""
        make_folder(settings.data)
        self._lock = lock(settings.data) if self._alone else None
        secret = load_secret(settings.data)
        ready_schema(settings.books)
        require_secret(settings.books, secret, folder=settings.data)
        return secret

    def _bind(self, settings: Settings, secret: bytes) -> Bindings:
        sandbox = SandboxProvider(
            self.database, clock=self._clock, delay=settings.sandbox_delay, inputs=self._files.reader
        )
        self.kept = KeptResults(self.storage)
        workshop = Workshop(
            source=InputFiles(self._files.reader, publish=self._files.publish if public_url(settings.origin) else None),
            kept=self.kept,
            clock=self._clock,
            secret=secret,
            sandbox=sandbox,
        )
        self.providers = build_providers(settings, workshop)
        return Bindings(self.providers.bindings, clock=self._clock)

    def _open_engine(self, settings: Settings) -> DbosEngine:
        most, limits = max(1, settings.jobs_at_once), self.providers.at_once
        shared = {} if self._alone else {name: limits[name] for name in self.providers.vendors}
        return DbosEngine(
            self.database,
            executor_id=_EXECUTOR if self._lease is None else self._lease.executor,
            concurrency={QUEUE: most} | {name: min(most, at_once) for name, at_once in limits.items()},
            vendor_limits=shared,
        )

    def _open_refunds(self) -> RefundWorker:
        return RefundWorker(
            self.database,
            rails=self.rails.by_name,
            limits=self.rails.limits,
            forgetful=self.rails.forgetful,
            clock=self._clock,
        )

    def _open_seller(self, settings: Settings) -> Seller:
        return Seller(
            self.database,
            rails=self.rails.all,
            engine=self.engine,
            intake=Intake(self._files.reader, self._files.copies, clock=self._clock),
            clock=self._clock,
            exposure_cap=settings.exposure_cap,
            queue_of=self.bindings.preferred,
            open_upload=self._files.desk.reserve,
            require_maker=self.bindings.first,
        )

    def _open_maker(self, settings: Settings) -> Maker:
        return Maker(
            self.database,
            bindings=self.bindings,
            storage=self.storage,
            clock=self._clock,
            on_failed=self.refunds.wake,
            charge=self.charger.charge,
            retention=retention(settings),
            on_ended=self._clean_up,
            restored_at=self._restored_at(),
            may_ask=lambda: self.room.problem is None,
            right=self._lease,
            at_once=max(1, settings.jobs_at_once),
        )

    def _restored_at(self) -> int | None:
        with self.database.engine.connect().execution_options(reading=True) as connection:
            return restores.latest(connection)

    async def _clean_up(self, job_id: str) -> None:
        """Drop what was needed for a job alone."""
        await self.kept.drop(job_id)
        await self._files.copies.drop(job_id)

    def _open_webhooks(self) -> WebhookWorker:
        return WebhookWorker(
            self.database,
            poster=self._poster,
            keys=self._webhook_keys,
            render=WebhookMessages(self.database, bodies=self._bodies),
            clock=self._clock,
        )

    def _open_front(self, settings: Settings, secret: bytes) -> Front:
        return Front(
            settings=settings,
            secret=secret,
            database=self.database,
            clock=self._clock,
            rails=self.rails,
            bindings=self.bindings,
            seller=self.seller,
            refunds=self.refunds,
            readiness=self.readiness,
            changes=self.changes,
            etas=self._etas,
            bodies=self._bodies,
            storage=self.storage,
            signer=self._signer,
            desk=self._files.desk,
            blob_tokens=self._tokens,
            purger=self.purger,
            poster=self._poster,
            keys=self._webhook_keys,
        )

    def _hire(self, settings: Settings) -> Working:
        duties = Duties(
            database=self.database,
            clock=self._clock,
            bindings=self.bindings,
            reconciler=self.reconciler,
            refunds=self.refunds,
            webhooks=self.webhooks,
            desk=self._files.desk,
            copies=self._files.copies,
            purger=self.purger,
            storage=self.storage,
            engine=self.engine,
        )
        return Working(
            self.database,
            engine=self.engine,
            maker=self.maker,
            sweep=self.sweep,
            duties=duties,
            lease=self._lease,
            place=None if self._lease is None else Place(settings.books, "worker", holder=self._lease.executor),
            drain_seconds=settings.drain_seconds,
            give_up=lambda reason: self.on_giving_up(reason),  # noqa: PLW0108 - it is set later
        )


def _settle_memory() -> None:
    """Take what was loaded out of the garbage collector's rounds: it stays, and each round would walk over all of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AT)

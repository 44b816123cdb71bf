"""The house: every part built once from the settings, started and stopped in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from stablestudio.catalog import OFFERINGS, Kind, MediaInput, Offering, PriceTable
from stablestudio.clock import Clock, SystemClock
from stablestudio.config import ConfigurationInvalid, Settings, load_secret
from stablestudio.jobs.cancel import Canceller
from stablestudio.jobs.changes import Changes
from stablestudio.jobs.engine import QUEUE, DbosEngine
from stablestudio.jobs.lease import Lease
from stablestudio.jobs.maker import Maker
from stablestudio.jobs.purge import Purger
from stablestudio.jobs.sweep import Sweep
from stablestudio.jobs.webhooks import WebhookWorker
from stablestudio.media.addresses import FetchPolicy
from stablestudio.media.copies import Copies
from stablestudio.media.decoding import DECODER, DOOR
from stablestudio.media.fetch import MediaFetcher, OwnAssets
from stablestudio.media.inputs import MAX_OWN_BYTES, InputReader
from stablestudio.media.intake import Intake
from stablestudio.media.links import AssetDeleted, AssetExpired, LinkSigner
from stablestudio.media.post import Poster
from stablestudio.media.probe import Probe
from stablestudio.media.room import Room
from stablestudio.media.uploads import UploadDesk
from stablestudio.payments.refunds import RefundWorker
from stablestudio.protocols.blob import BlobTokens
from stablestudio.protocols.webhooks import WebhookKeys
from stablestudio.providers.bindings import Bindings
from stablestudio.providers.inputs import InputFiles, public_url
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Work
from stablestudio.sales.charge import Charger
from stablestudio.sales.reconcile import Reconciler
from stablestudio.sales.sell import Seller
from stablestudio.sandbox.provider import SandboxProvider
from stablestudio.server.app import App
from stablestudio.server.assets import AssetEndpoint, AssetInfo
from stablestudio.server.blob import BlobRoutes
from stablestudio.server.challenge import Challenges
from stablestudio.server.discovery import bazaar
from stablestudio.server.discovery.documents import documents
from stablestudio.server.discovery.shop import open_shop
from stablestudio.server.documents import document_routes
from stablestudio.server.embedded import EmbeddedRoutes
from stablestudio.server.eta import Etas
from stablestudio.server.faces.build import build_faces
from stablestudio.server.faces.openai import FACES
from stablestudio.server.job_bodies import JobBodies
from stablestudio.server.job_pages import JobPages
from stablestudio.server.jobs import JobRoutes
from stablestudio.server.models import ModelRoutes
from stablestudio.server.poll_tokens import PollTokens
from stablestudio.server.premises import lock, make_folder, ready_schema, require_secret
from stablestudio.server.providers import Workshop, build_providers, require_known
from stablestudio.server.public import PublicRoutes
from stablestudio.server.quote import PATH as QUOTE
from stablestudio.server.quote import QuoteRoute
from stablestudio.server.rails import build_rails
from stablestudio.server.readiness import Readiness
from stablestudio.server.sell import SellRoute
from stablestudio.server.sign_in import Gate
from stablestudio.server.storage import (
    build_links,
    check,
    compare_later,
    folder_of,
    kept_uploads_ms,
    open_shelf,
    retention,
)
from stablestudio.server.upload import ConfirmRoute, UploadRoute
from stablestudio.server.webhooks import KEYS_PATH, WebhookMessages, WebhookRoutes, published
from stablestudio.server.working import Duties, Working
from stablestudio.store import copies as copy_store
from stablestudio.store import jobs as job_store
from stablestudio.store import restores
from stablestudio.store import uploads as upload_store
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
        make_folder(settings.data)
        self._lock = lock(settings.data) if self._alone else None
        secret = load_secret(settings.data)
        ready_schema(settings.books)
        require_secret(settings.books, secret, folder=settings.data)
        self.database = connect(settings.books)
        self._lease = (
            None if self._alone or not settings.works else Lease(settings.books, seconds=settings.lease_seconds)
        )
        self.changes = Changes(self.database)
        shelf = open_shelf(settings)
        self.storage = shelf.storage
        self._signer = LinkSigner(secret, settings.origin, settings.link_seconds)
        folders = [settings.data, *([folder] if (folder := folder_of(settings)) is not None else [])]
        self.room = Room(folders, min_free_bytes=settings.min_free_bytes)
        self.readiness = Readiness(self.room, self.database)
        self._links = build_links(settings, shelf, signer=self._signer)
        self.purger = Purger(self.database, storage=self.storage, clock=self._clock)
        self.rails = build_rails(settings, database=self.database, secret=secret, clock=self._clock)
        fetcher = MediaFetcher(own=OwnAssets(links=self._links, storage=self.storage, clock=self._clock))
        self._tokens = BlobTokens(secret)
        self.desk = self._open_desk(settings)
        self._copies = Copies(self.database, storage=self.storage, clock=self._clock)
        self._inputs = InputReader(
            self.database,
            fetcher=fetcher,
            storage=self.storage,
            uploads=self.desk,
            copies=self._copies,
            max_bytes=max(MAX_OWN_BYTES, settings.max_upload_bytes),
        )
        self.bindings = self._bind(settings, secret)
        self.engine = self._open_engine(settings)
        self.refunds = RefundWorker(
            self.database,
            rails=self.rails.by_name,
            limits=self.rails.limits,
            forgetful=self.rails.forgetful,
            clock=self._clock,
        )
        self.seller = Seller(
            self.database,
            rails=self.rails.all,
            engine=self.engine,
            intake=Intake(self._inputs, self._copies, clock=self._clock),
            clock=self._clock,
            exposure_cap=settings.exposure_cap,
            queue_of=self.bindings.preferred,
            open_upload=self.desk.reserve,
            require_maker=self.bindings.first,
        )
        self.charger = Charger(self.database, rails=self.rails.all, seller=self.seller, clock=self._clock)
        self.maker = Maker(
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
        self.reconciler = Reconciler(self.database, rails=self.rails.all, seller=self.seller, clock=self._clock)
        self.sweep = Sweep(self.database, engine=self.engine, maker=self.maker, clock=self._clock)
        self.app = self._app(settings, secret)
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

    def _restored_at(self) -> int | None:
        with self.database.engine.connect().execution_options(reading=True) as connection:
            return restores.latest(connection)

    async def _clean_up(self, job_id: str) -> None:
        """Drop what was needed for a job alone."""
        await self.kept.drop(job_id)
        await self._copies.drop(job_id)

    def _open_engine(self, settings: Settings) -> DbosEngine:
        most, limits = max(1, settings.jobs_at_once), self.providers.at_once
        shared = {} if self._alone else {name: limits[name] for name in self.providers.vendors}
        return DbosEngine(
            self.database,
            executor_id=_EXECUTOR if self._lease is None else self._lease.executor,
            concurrency={QUEUE: most} | {name: min(most, at_once) for name, at_once in limits.items()},
            vendor_limits=shared,
        )

    def _hire(self, settings: Settings) -> Working:
        duties = Duties(
            database=self.database,
            clock=self._clock,
            bindings=self.bindings,
            reconciler=self.reconciler,
            refunds=self.refunds,
            webhooks=self.webhooks,
            desk=self.desk,
            copies=self._copies,
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

    def _open_desk(self, settings: Settings) -> UploadDesk:
        return UploadDesk(
            self.database,
            storage=self.storage,
            tokens=self._tokens,
            clock=self._clock,
            origin=settings.origin,
            max_bytes=settings.max_upload_bytes,
            look=self._look,
            kept_ms=kept_uploads_ms(settings),
        )

    def _bind(self, settings: Settings, secret: bytes) -> Bindings:
        sandbox = SandboxProvider(self.database, clock=self._clock, delay=settings.sandbox_delay, inputs=self._inputs)
        self.kept = KeptResults(self.storage)
        workshop = Workshop(
            source=InputFiles(self._inputs, publish=self._publish if public_url(settings.origin) else None),
            kept=self.kept,
            clock=self._clock,
            secret=secret,
            sandbox=sandbox,
        )
        self.providers = build_providers(settings, workshop)
        return Bindings(self.providers.bindings, clock=self._clock)

    async def _publish(self, work: Work, media: MediaInput) -> str | None:
        """Return a link by which a vendor can fetch a file kept here, where this service can be reached from outside."""
        key = await self._inputs.key_of(media.url, wallet=work.wallet, order_id=work.job_id)
        url = self._links.url(key, now_ms=self._clock.now_ms()) if key is not None else None
        return url if url is not None and public_url(url) is not None else None

    def _app(self, settings: Settings, secret: bytes) -> App:
        try:
            prices = PriceTable(OFFERINGS, overrides=settings.prices)
        except ValueError as error:
            raise ConfigurationInvalid(f"prices: {error}") from None
        shop = open_shop(settings, prices=prices, rails=(self.rails.x402, self.rails.mpp), makes=self._makes)
        challenges = Challenges(
            self.rails.x402,
            self.rails.mpp,
            origin=settings.origin,
            describe=lambda offering, path: bazaar.declare(offering, shop=shop, face=FACES.get(path)),
        )
        tokens = PollTokens(secret)
        keys = WebhookKeys(secret)
        poster = Poster(policy=_INSIDE if settings.webhooks_inside else None, own_origin=settings.origin)
        self._etas = Etas(self.database, clock=self._clock)
        bodies = JobBodies(self.database, links=self._links, clock=self._clock, poll_after=self._etas.poll_after)
        pages = JobPages(self.database, bodies=bodies, tokens=tokens, clock=self._clock)
        self.webhooks = WebhookWorker(
            self.database,
            poster=poster,
            keys=keys,
            render=WebhookMessages(self.database, bodies=bodies),
            clock=self._clock,
        )
        parts: dict[str, Any] = {
            "seller": self.seller,
            "challenges": challenges,
            "prices": prices,
            "bindings": self.bindings,
            "origin": settings.origin,
            "body_limit": settings.max_body_bytes,
            "clock": self._clock,
            "changes": self.changes,
            "pages": pages,
            "tokens": tokens,
            "poster": poster,
            "readiness": self.readiness,
        }

        def hold_s(offering: Offering) -> int:
            held = settings.settles(offering.model, offering.operation) == "complete"
            return settings.hold_seconds if held else 0

        sells: dict[str, SellRoute] = {}
        for offering in OFFERINGS:
            if offering.kind is Kind.UPLOAD:
                sells[offering.path] = UploadRoute(offering, desk=self.desk, **parts)
                continue
            sells[offering.path] = SellRoute(offering, hold_s=hold_s(offering), **parts)
        quotes = QuoteRoute(
            sells,
            prices=prices,
            etas=self._etas,
            ways=shop.ways,
            clock=self._clock,
            body_limit=settings.max_body_bytes,
        )
        gate = Gate(
            self.database,
            secret=secret,
            origin=settings.origin,
            chains=self.rails.sign_in_chains,
            clock=self._clock,
            tokens=tokens,
            proofs=self.rails.proofs,
            judges=self.rails.judges,
        )
        faces, clips = build_faces(
            parts, hold_s=hold_s, database=self.database, storage=self.storage, bodies=bodies, gate=gate
        )
        webhooks = WebhookRoutes(self.database, gate=gate, pages=pages, keys=keys, clock=self._clock)
        canceller = Canceller(self.database, bindings=self.bindings, clock=self._clock, on_failed=self.refunds.wake)
        return App(
            sells=sells,
            free={QUOTE: quotes, **document_routes(documents(shop) | {KEYS_PATH: published(keys)})},
            faces=faces,
            clips=clips,
            models=ModelRoutes(
                prices=prices, bindings=self.bindings, etas=self._etas, max_upload_bytes=settings.max_upload_bytes
            ),
            blob=BlobRoutes(self.desk, tokens=self._tokens, clock=self._clock),
            confirm=ConfirmRoute(self.desk, gate=gate),
            jobs=JobRoutes(
                self.database,
                gate=gate,
                bodies=bodies,
                pages=pages,
                changes=self.changes,
                webhooks=webhooks,
                cancel=canceller.cancel,
                clock=self._clock,
                erase=self.purger.erase_job,
            ),
            assets=AssetEndpoint(storage=self.storage, links=self._signer, clock=self._clock, describe=self._describe),
            public=PublicRoutes(networks=self.rails.networks, world=self.rails.world, readiness=self.readiness),
            embedded=EmbeddedRoutes(self.rails.rpcs, self.rails.faucets) if self.rails.rpcs else None,
            origin=settings.origin,
            startup=self.start,
            shutdown=self.stop,
        )

    def _makes(self, offering: Offering) -> bool:
        return offering.kind is Kind.UPLOAD or bool(self.bindings.of(offering))

    async def _describe(self, key: str) -> AssetInfo | None:
        asset = await self.database.read(lambda connection: job_store.find_asset(connection, key))
        if asset is None:
            return await self._describe_upload(key) or await self._describe_copy(key)
        if asset.gone == "deleted":
            raise AssetDeleted
        if asset.gone or (asset.expires_at is not None and asset.expires_at <= self._clock.now_ms()):
            raise AssetExpired
        return AssetInfo(
            content_type=asset.content_type, size=asset.size, sha256=asset.sha256, made_at_s=asset.created_at // 1000
        )

    async def _describe_upload(self, key: str) -> AssetInfo | None:
        upload = await self.database.read(lambda connection: upload_store.find_by_key(connection, key))
        if upload is None or upload.size is None or upload.sha256 is None or upload.stored_at is None:
            return None
        return AssetInfo(
            content_type=upload.content_type,
            size=upload.size,
            sha256=upload.sha256,
            made_at_s=upload.stored_at // 1000,
        )

    async def _describe_copy(self, key: str) -> AssetInfo | None:
        copy = await self.database.read(lambda connection: copy_store.find_by_key(connection, key))
        if copy is None:
            return None
        return AssetInfo(
            content_type=copy.content_type, size=copy.size, sha256=copy.sha256, made_at_s=copy.created_at // 1000
        )

    async def _look(self, key: str) -> Probe:
        return await DECODER.probe(self.storage.path(key) or await self.storage.read(key))


def _settle_memory() -> None:
    """Take what was loaded out of the garbage collector's rounds: it stays, and each round would walk over all of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AT)

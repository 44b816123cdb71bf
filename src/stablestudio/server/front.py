"""What strangers may ask for: the application, put together from parts of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog import OFFERINGS, Kind, Offering, PriceTable
from stablestudio.clock import Clock
from stablestudio.config import ConfigurationInvalid, Settings
from stablestudio.jobs.cancel import Canceller
from stablestudio.jobs.changes import Changes
from stablestudio.jobs.purge import Purger
from stablestudio.media.links import LinkSigner
from stablestudio.media.post import Poster
from stablestudio.media.storage import Storage
from stablestudio.media.uploads import UploadDesk
from stablestudio.payments.refunds import RefundWorker
from stablestudio.protocols.blob import BlobTokens
from stablestudio.protocols.webhooks import WebhookKeys
from stablestudio.providers.bindings import Bindings
from stablestudio.sales.sell import Seller
from stablestudio.server.app import App
from stablestudio.server.asset_records import AssetRecords
from stablestudio.server.assets import AssetEndpoint
from stablestudio.server.blob import BlobRoutes
from stablestudio.server.challenge import Challenges
from stablestudio.server.discovery import bazaar
from stablestudio.server.discovery.documents import documents
from stablestudio.server.discovery.shop import Shop, open_shop
from stablestudio.server.documents import document_routes
from stablestudio.server.embedded import EmbeddedRoutes
from stablestudio.server.eta import Etas
from stablestudio.server.faces.build import build_faces
from stablestudio.server.faces.openai import FACES
from stablestudio.server.http import Handler
from stablestudio.server.job_bodies import JobBodies
from stablestudio.server.job_pages import JobPages
from stablestudio.server.jobs import JobRoutes
from stablestudio.server.models import ModelRoutes
from stablestudio.server.poll_tokens import PollTokens
from stablestudio.server.public import PublicRoutes
from stablestudio.server.quote import PATH as QUOTE
from stablestudio.server.quote import QuoteRoute
from stablestudio.server.rails import Rails
from stablestudio.server.readiness import Readiness
from stablestudio.server.sell import SellRoute
from stablestudio.server.sign_in import Gate
from stablestudio.server.upload import ConfirmRoute, UploadRoute
from stablestudio.server.webhooks import KEYS_PATH, WebhookRoutes, published
from stablestudio.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The parts of the house that answers are made of."""

    settings: Settings
    secret: bytes
    database: Database
    clock: Clock
    rails: Rails
    bindings: Bindings
    seller: Seller
    refunds: RefundWorker
    readiness: Readiness
    changes: Changes
    etas: Etas
    bodies: JobBodies
    storage: Storage
    signer: LinkSigner
    desk: UploadDesk
    blob_tokens: BlobTokens
    purger: Purger
    poster: Poster
    keys: WebhookKeys

    def app(self, *, startup: Callable[[], Awaitable[None]], shutdown: Callable[[], Awaitable[None]]) -> App:
        """Build the application; raise `ConfigurationInvalid` where prices do not fit the catalog."""
        shop = self._shop()
        tokens = PollTokens(self.secret)
        pages = JobPages(self.database, bodies=self.bodies, tokens=tokens, clock=self.clock)
        gate = self._gate(tokens)
        parts = self._sale_parts(shop, tokens=tokens, pages=pages)
        sells = self._sells(parts)
        faces, clips = build_faces(
            parts, hold_s=self._hold_s, database=self.database, storage=self.storage, bodies=self.bodies, gate=gate
        )
        return App(
            sells=sells,
            free=self._free(shop, sells),
            faces=faces,
            clips=clips,
            models=self._models(shop),
            blob=BlobRoutes(self.desk, tokens=self.blob_tokens, clock=self.clock),
            confirm=ConfirmRoute(self.desk, gate=gate),
            jobs=self._jobs(gate, pages),
            assets=self._assets(),
            public=PublicRoutes(networks=self.rails.networks, world=self.rails.world, readiness=self.readiness),
            embedded=EmbeddedRoutes(self.rails.rpcs, self.rails.faucets) if self.rails.rpcs else None,
            origin=self.settings.origin,
            startup=startup,
            shutdown=shutdown,
        )

    def _shop(self) -> Shop:
        try:
            prices = PriceTable(OFFERINGS, overrides=self.settings.prices)
        except ValueError as error:
            raise ConfigurationInvalid(f"prices: {error}") from None
        return open_shop(self.settings, prices=prices, rails=(self.rails.x402, self.rails.mpp), makes=self._makes)

    def _makes(self, offering: Offering) -> bool:
        return offering.kind is Kind.UPLOAD or bool(self.bindings.of(offering))

    def _gate(self, tokens: PollTokens) -> Gate:
        return Gate(
            self.database,
            secret=self.secret,
            origin=self.settings.origin,
            chains=self.rails.sign_in_chains,
            clock=self.clock,
            tokens=tokens,
            proofs=self.rails.proofs,
            judges=self.rails.judges,
        )

    def _sale_parts(self, shop: Shop, *, tokens: PollTokens, pages: JobPages) -> dict[str, Any]:
        """Return what all routes that sell are made of, by the names that `SellRoute` gives it."""
        challenges = Challenges(
            self.rails.x402,
            self.rails.mpp,
            origin=self.settings.origin,
            describe=lambda offering, path: bazaar.declare(offering, shop=shop, face=FACES.get(path)),
        )
        return {
            "seller": self.seller,
            "challenges": challenges,
            "prices": shop.prices,
            "bindings": self.bindings,
            "origin": self.settings.origin,
            "body_limit": self.settings.max_body_bytes,
            "clock": self.clock,
            "changes": self.changes,
            "pages": pages,
            "tokens": tokens,
            "poster": self.poster,
            "readiness": self.readiness,
        }

    def _sells(self, parts: dict[str, Any]) -> dict[str, SellRoute]:
        sells: dict[str, SellRoute] = {}
        for offering in OFFERINGS:
            if offering.kind is Kind.UPLOAD:
                sells[offering.path] = UploadRoute(offering, desk=self.desk, **parts)
                continue
            sells[offering.path] = SellRoute(offering, hold_s=self._hold_s(offering), **parts)
        return sells

    def _hold_s(self, offering: Offering) -> int:
        held = self.settings.settles(offering.model, offering.operation) == "complete"
        return self.settings.hold_seconds if held else 0

    def _free(self, shop: Shop, sells: dict[str, SellRoute]) -> dict[str, Handler]:
        quotes = QuoteRoute(
            sells,
            prices=shop.prices,
            etas=self.etas,
            ways=shop.ways,
            clock=self.clock,
            body_limit=self.settings.max_body_bytes,
        )
        return {QUOTE: quotes, **document_routes(documents(shop) | {KEYS_PATH: published(self.keys)})}

    def _models(self, shop: Shop) -> ModelRoutes:
        return ModelRoutes(
            prices=shop.prices,
            bindings=self.bindings,
            etas=self.etas,
            max_upload_bytes=self.settings.max_upload_bytes,
        )

    def _jobs(self, gate: Gate, pages: JobPages) -> JobRoutes:
        canceller = Canceller(self.database, bindings=self.bindings, clock=self.clock, on_failed=self.refunds.wake)
        return JobRoutes(
            self.database,
            gate=gate,
            bodies=self.bodies,
            pages=pages,
            changes=self.changes,
            webhooks=WebhookRoutes(self.database, gate=gate, pages=pages, keys=self.keys, clock=self.clock),
            cancel=canceller.cancel,
            clock=self.clock,
            erase=self.purger.erase_job,
        )

    def _assets(self) -> AssetEndpoint:
        records = AssetRecords(self.database, clock=self.clock)
        return AssetEndpoint(storage=self.storage, links=self.signer, clock=self.clock, describe=records.describe)

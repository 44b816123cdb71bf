"""A seller with nothing around it: a scripted chain, a fake engine, a real store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from stablestudio import catalog
from stablestudio.catalog import OFFERINGS, PriceTable
from stablestudio.protocols import x402
from stablestudio.protocols.evm import EvmKey
from stablestudio.sales.reconcile import Reconciler
from stablestudio.sales.sell import Held, Purchase, Seller, Sold
from stablestudio.store.database import Database
from tests.doubles import BUYER, AnyInputs, FakeEngine, ManualClock, ScriptedChain, payment_of, rail_on

CAT = {"prompt": "a cat", "imageSize": "512"}
DOG = {"prompt": "a dog", "imageSize": "512"}


@dataclass(kw_only=True)
class Shop:
    """One seller and one reconciler on one chain."""

    database: Database
    clock: ManualClock
    chain: Any = field(default_factory=ScriptedChain)
    engine: FakeEngine = field(default_factory=FakeEngine)

    def __post_init__(self) -> None:
        self.rail = rail_on(self.chain)
        self.seller = Seller(self.database, rails=[self.rail], engine=self.engine, inputs=AnyInputs(), clock=self.clock)  # type: ignore[arg-type]
        self.reconciler = Reconciler(self.database, rails=[self.rail], seller=self.seller, clock=self.clock)

    def reopen(self) -> Shop:
        """Return the shop of the next process: the same books, nothing remembered."""
        return Shop(database=self.database, clock=self.clock, chain=self.chain, engine=self.engine)

    def purchase(
        self,
        body: dict[str, Any] = CAT,
        *,
        payload: x402.PaymentPayload | None = None,
        key: str | None = None,
        buyer: EvmKey = BUYER,
    ) -> Purchase:
        offering = catalog.find("nano-banana", "generate")
        assert offering is not None
        raw = json.dumps(body).encode()
        read = offering.read(raw)
        price = PriceTable(OFFERINGS).price(offering, read)
        return Purchase(
            offering=offering,
            input=read,
            price=price,
            body=raw,
            payload=payload or payment_of(self.rail, price, clock=self.clock, key=buyer),
            idempotency_key=key,
        )

    async def sell(self, purchase: Purchase) -> Sold | Held:
        return await self.seller.sell(purchase)

    async def reconcile(self) -> None:
        """Let the reconciler look after everything, however young."""
        await self.reconciler.work_once(quiet_ms=0)

    def payments(self) -> list[tuple[Any, ...]]:
        return self.database.fetch('SELECT state, "transaction", reason FROM payments ORDER BY id')

    def jobs(self) -> list[str]:
        return [row[0] for row in self.database.fetch("SELECT id FROM jobs ORDER BY id")]

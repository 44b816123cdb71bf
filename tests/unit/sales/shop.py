"""A seller with nothing around it: a scripted chain, a fake engine, a real store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stablestudio import catalog
from stablestudio.catalog import OFFERINGS, PriceTable
from stablestudio.money import Money
from stablestudio.payments.rail import Presented
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.wallet import Wallet
from stablestudio.sales.charge import Charger
from stablestudio.sales.order import Buyer, Held, Purchase, Sold
from stablestudio.sales.reconcile import Reconciler
from stablestudio.sales.sell import Seller
from stablestudio.store.database import Database
from tests.doubles import BUYER, USDC, AnyFiles, FakeEngine, ManualClock, ScriptedChain, payment_of, rail_on

CAT = {"prompt": "a cat", "imageSize": "512"}
DOG = {"prompt": "a dog", "imageSize": "512"}
# A second way to pay for the same things.
OTHER_TOKEN = replace(USDC, contract="0x" + "ab" * 20)


@dataclass(kw_only=True)
class Shop:
    """One seller and one reconciler on one chain."""

    database: Database
    clock: ManualClock
    chain: Any = field(default_factory=ScriptedChain)
    other_chain: Any = field(default_factory=lambda: ScriptedChain(domain=OTHER_TOKEN))
    engine: FakeEngine = field(default_factory=FakeEngine)
    exposure_cap: Money | None = None
    intake: Any = field(default_factory=AnyFiles)

    def __post_init__(self) -> None:
        self.rail = rail_on(self.chain)
        self.other = rail_on(self.other_chain)
        rails = [self.rail, self.other]
        self.seller = Seller(
            self.database,
            rails=rails,
            engine=self.engine,
            intake=self.intake,
            clock=self.clock,
            exposure_cap=self.exposure_cap,
        )
        self.charger = Charger(self.database, rails=rails, seller=self.seller, clock=self.clock)
        self.reconciler = Reconciler(self.database, rails=rails, seller=self.seller, clock=self.clock)

    def reopen(self) -> Shop:
        """Return the shop of the next process: the same books, nothing remembered."""
        return replace(self)

    def purchase(
        self,
        body: dict[str, Any] = CAT,
        *,
        presented: Presented | None = None,
        key: str | None = None,
        session: str | None = None,
        hold_s: int = 0,
        buyer: EvmKey = BUYER,
        other: bool = False,
        companions: Sequence[Wallet] = (),
        operation: str = "generate",
    ) -> Purchase:
        offering = catalog.find("nano-banana", operation)
        assert offering is not None
        raw = json.dumps(body).encode()
        read = offering.read(raw)
        price = PriceTable(OFFERINGS).price(offering, read)
        return Purchase(
            offering=offering,
            input=read,
            price=price,
            body=raw,
            presented=presented
            or payment_of(self.other if other else self.rail, price, clock=self.clock, key=buyer, hold_s=hold_s),
            buyer=Buyer(idempotency_key=key, session=session, companions=companions),
            hold_s=hold_s,
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

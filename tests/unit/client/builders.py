"""A buyer before a seller in memory, with a journal in a folder of the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stablestudio.client import Journal, KeyWallet, Order, StudioClient
from stablestudio.client.fakes import FakeSeller, Fault

KEY = "0x" + "11" * 32
ADDRESS = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"  # of the key of 32 bytes 0x11, by eth-account
WISH = {"prompt": "a fox"}
LOST = Fault()
TAKEN_AND_LOST = Fault(takes=True)


def buyer(seller: FakeSeller, folder: Path, **options: Any) -> StudioClient:
    return StudioClient(
        seller.origin,
        KeyWallet.from_hex(KEY),
        journal=Journal(folder / "orders"),
        transport=seller.transport(),
        clock=seller.clock,
        **({"sleep": seller.clock.sleep} | options),
    )


def journal_files(folder: Path) -> list[Path]:
    return sorted((folder / "orders").glob("*.json"))


def order(**changes: object) -> Order:
    fields = {
        "key": "order_0123456789abcdef",
        "base_url": "http://seller.test",
        "url": "http://seller.test/api/generate/m/o",
        "model": "m",
        "operation": "o",
        "body": "{}",
        "signature": "signed",
        "price": "0.067",
        "network": "eip155:84532",
        "payer": ADDRESS,
        "created_at": "2026-11-20T00:00:00.000Z",
        "expires_at": "2026-11-20T00:05:00.000Z",
    }
    return Order.model_validate(fields | changes)

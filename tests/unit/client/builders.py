"""A buyer before a seller in memory, with a journal in a folder of the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stablestudio.client import Journal, KeyWallet, StudioClient
from stablestudio.client.fakes import FakeSeller, Fault

KEY = "0x" + "11" * 32
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

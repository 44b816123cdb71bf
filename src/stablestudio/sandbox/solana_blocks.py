"""The embedded Solana's blocks, which come by the clock, and what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stablestudio.clock import Clock
from stablestudio.protocols.solana import b58encode

SLOT_MS = 400
BLOCKHASH_LIFE = 150


class NotTaken(Exception):
    """The ledger does not take a transaction; nothing happened. `err` is the chain's own word for it where it has one."""

    def __init__(self, problem: str, *, err: Any = None) -> None:
        self.err = err
        super().__init__(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A transaction that is part of the chain, failed or not: `meta` as it was written down."""

    signature: str
    raw: bytes
    slot: int
    mined_at: int  # milliseconds
    meta: Mapping[str, Any]

    @property
    def err(self) -> Any:
        return self.meta["err"]


class Blocks:
    """Blocks that come by the clock, so that blockhashes expire as real ones do, also across restarts."""

    def __init__(self, clock: Clock, *, seed: bytes) -> None:
        self._clock = clock
        self._seed = seed
        self._hashes: dict[int, str] = {}

    @property
    def height(self) -> int:
        return self._clock.now_ms() // SLOT_MS

    def hash(self, height: int) -> str:
        return b58encode(hashlib.sha256(b"block" + self._seed + height.to_bytes(8)).digest())

    def is_recent(self, blockhash: str) -> bool:
        """Tell whether the next block may hold a transaction with this blockhash."""
        newest = self.height
        recent = range(max(0, newest - BLOCKHASH_LIFE), newest + 1)
        self._hashes = {height: self._hashes.get(height) or self.hash(height) for height in recent}
        return blockhash in self._hashes.values()

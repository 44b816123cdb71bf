"""The world outside in memory: tokens that move money, and a vendor that works; both remember everything that was done."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from enum import StrEnum

from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.evm.rail import ExactEvmRail
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import keccak256
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running, Work
from tests.doubles import ManualClock, png

PICTURE = png()


class Fate(StrEnum):
    """How a call to the outside fares."""

    YES = "yes"
    NO = "no"
    LOST = "lost"  # it never arrived, and the caller cannot know
    DONE = "done"  # it happened, and the answer was lost
    LATER = "later"  # it is under way: it may happen, or not


Ask = Callable[[str, Callable[[], None]], Awaitable[Fate]]


class Token:
    """A token with EIP-3009's rules: an authorization moves money once, before its end, whoever sends it."""

    _numbers = itertools.count(1)

    def __init__(self, domain: TokenDomain, clock: ManualClock) -> None:
        self.domain = domain
        self._clock = clock
        self.moved: dict[str, tuple[str, Authorization]] = {}
        self.under_way: dict[str, Authorization] = {}
        self.refused: set[str] = set()  # what somebody was told of that it certainly does not move

    def move(self, authorization: Authorization, *, grace_s: int = 0) -> None:
        """Move the money, unless that has happened or is over."""
        self.under_way.pop(authorization.key, None)
        if authorization.key not in self.moved and self._clock.now_s < authorization.valid_before + grace_s:
            self.moved[authorization.key] = (f"0x{next(self._numbers):064x}", authorization)

    def mine(self) -> None:
        """Let happen what is under way; a block that lets it in may come a little after its end."""
        for authorization in list(self.under_way.values()):
            self.move(authorization, grace_s=FINALITY_SECONDS - 1)

    def outcome(self, authorization: Authorization) -> Outcome:
        """Tell what became of an authorization."""
        if authorization.key in self.moved:
            return Settled(transaction=self.moved[authorization.key][0])
        if self._clock.now_s >= authorization.valid_before + FINALITY_SECONDS:
            return self.refuse(authorization, "payment_expired")
        return Unknown(reason="not_seen")

    def refuse(self, authorization: Authorization, reason: str) -> Rejected:
        """Say no, and remember that it was said."""
        self.refused.add(authorization.key)
        return Rejected(reason=reason, message="")


class Node:
    """One process' line to a token: a `TokenChain`."""

    def __init__(self, token: Token, ask: Ask, clock: ManualClock) -> None:
        self.domain = token.domain
        self._token = token
        self._ask = ask
        self._clock = clock

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        """Send an authorization."""
        fate = await self._ask("chain.submit", lambda: self._token.move(authorization))
        known = self._token.outcome(authorization)
        if fate is Fate.LOST:
            return Unknown(reason="timeout")
        if isinstance(known, Settled):
            return known if fate in (Fate.YES, Fate.NO) else Unknown(reason="timeout")
        if self._clock.now_s >= authorization.valid_before:
            return self._token.refuse(authorization, "payment_expired")
        if fate is Fate.LATER:
            self._token.under_way[authorization.key] = authorization
        if fate is Fate.NO and authorization.key not in self._token.under_way:
            return self._token.refuse(authorization, "transaction_reverted")
        if fate in (Fate.LATER, Fate.NO):
            return Unknown(reason="not_mined")
        self._token.move(authorization)
        return self._token.outcome(authorization) if fate is Fate.YES else Unknown(reason="timeout")

    async def find(self, authorization: Authorization) -> Outcome:
        """Look an authorization up."""
        fate = await self._ask("chain.find", lambda: None)
        return self._token.outcome(authorization) if fate in (Fate.YES, Fate.NO) else Unknown(reason="node_away")

    async def balance(self, owner: str) -> int | None:
        """Everybody is rich."""
        return 10**12

    async def start(self) -> None:
        """There is nothing to check."""

    async def stop(self) -> None:
        """There is nothing to close."""


class RefundRail:
    """A rail that notes which order each refund is for, and with `forgetful` signs each anew, as Tempo's does."""

    def __init__(self, rail: ExactEvmRail, refunds: dict[str, str], *, forgetful: bool) -> None:
        self._rail = rail
        self._refunds = refunds
        self._forgetful = forgetful
        self._numbers = itertools.count()
        self.name = rail.name
        self.send_refund = rail.send_refund
        self.find_refund = rail.find_refund

    async def sign_refund(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        """Sign a transfer; on a forgetful rail nothing but our books keeps a second one of the order from happening."""
        seed = f"{order_id}:{now_s}:{next(self._numbers)}:{id(self)}" if self._forgetful else order_id
        saved = await self._rail.sign_refund(order_id=seed, recipient=recipient, amount=amount, now_s=now_s)
        nonce = keccak256(f"refund:{seed}".encode())
        self._refunds["0x" + nonce.hex()] = order_id
        return saved


class Vendor:
    """Works on tasks; `asked` holds how each question of a job ended, in order."""

    def __init__(self) -> None:
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        self.on_the_way: set[tuple[str, int]] = set()  # questions of living processes: they may still arrive
        self.tasks: dict[str, str] = {}

    def take(self, job_id: str, number: int) -> None:
        """Take a job's question, if it is still open."""
        if self.asked[job_id][number] == "open":
            self.asked[job_id][number] = "taken"
            self.tasks.setdefault(job_id, "running")

    def deny(self, job_id: str) -> None:
        """Say for sure that a job was never heard of: what is not on the way any more was lost for ever."""
        for number, how in enumerate(self.asked[job_id]):
            if how == "open" and (job_id, number) not in self.on_the_way:
                self.asked[job_id][number] = "refused"

    def stop(self, job_id: str) -> None:
        """Give a task up, unless it is done."""
        if self.tasks[job_id] == "running":
            self.tasks[job_id] = "stopped"


class VendorLine:
    """One process' line to the vendor: a `Provider` that `Cancels`."""

    name = "fake"

    def __init__(self, vendor: Vendor, ask: Ask) -> None:
        self._vendor = vendor
        self._ask = ask

    async def submit(self, work: Work) -> Accepted | Failed:
        """Take the work, refuse it, or fall silent."""
        asked = self._vendor.asked[work.job_id]
        number = len(asked)
        asked.append("open")
        fate = await self._send(work.job_id, number)
        if fate is Fate.NO:
            asked[number] = "refused"
            raise NotAccepted("no capacity")
        if fate in (Fate.YES, Fate.DONE):
            self._vendor.take(work.job_id, number)
        if fate in (Fate.LOST, Fate.DONE):
            raise ConnectionResetError("the vendor hung up")
        if fate is Fate.LATER:
            asked[number] = "refused"
            return Failed(kind=FailureKind.MODERATION, message="Not this.")
        return _accepted(work)

    async def _send(self, job_id: str, number: int) -> Fate:
        self._vendor.on_the_way.add((job_id, number))
        try:
            return await self._ask("vendor.submit", lambda: self._vendor.take(job_id, number))
        finally:
            self._vendor.on_the_way.discard((job_id, number))

    async def find(self, work: Work) -> Accepted | None:
        """Tell of the work, as far as the vendor knows."""
        fate = await self._ask("vendor.find", lambda: None)
        if fate is Fate.NO:
            return None
        if fate is not Fate.YES:
            raise ConnectionResetError("the vendor hung up")
        if work.job_id in self._vendor.tasks:
            return _accepted(work)
        self._vendor.deny(work.job_id)
        raise NotAccepted("never heard of it")

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:
        """Tell how it goes."""
        fate = await self._ask("vendor.poll", lambda: None)
        if fate is Fate.LOST:
            raise ConnectionResetError("the vendor hung up")
        if self._vendor.tasks[work.job_id] == "running" and fate in (Fate.YES, Fate.NO):
            self._vendor.tasks[work.job_id] = "made" if fate is Fate.YES else "stopped"
        match self._vendor.tasks[work.job_id]:
            case "made":
                return Made()
            case "stopped":
                return Failed(kind=FailureKind.UPSTREAM_ERROR, message="It broke.")
        return Running(progress=50)

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        """Hand the picture over."""
        fate = await self._ask("vendor.fetch", lambda: None)
        if fate is Fate.NO:
            return Failed(kind=FailureKind.MODERATION, message="Filtered.")
        if fate is not Fate.YES:
            raise ConnectionResetError("the vendor hung up")
        return Output(data=PICTURE, content_type="image/png")

    async def cancel(self, work: Work, task: str) -> bool:
        """Stop, if it can be stopped."""
        fate = await self._ask("vendor.cancel", lambda: self._vendor.stop(work.job_id))
        if fate in (Fate.YES, Fate.DONE):
            self._vendor.stop(work.job_id)
        if fate in (Fate.LOST, Fate.DONE):
            raise ConnectionResetError("the vendor hung up")
        return self._vendor.tasks[work.job_id] == "stopped"


def _accepted(work: Work) -> Accepted:
    return Accepted(task=f"task:{work.job_id}", upstream_model="fake/1")

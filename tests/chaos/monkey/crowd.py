"""The crowd: wallets that buy one order after the other, as good clients do, and keep books of their own."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from stablestudio.payments.evm.rail import MAX_TIMEOUT_SECONDS
from stablestudio.protocols import mpp, siwx, x402
from stablestudio.protocols.evm import EvmKey
from tests.unit.payments.tempo_buyer import pay as answer_challenge

from .house import PUBLIC
from .lots import Lots
from .vendors import PROMPT, picture

FUNDS = 100_000_000
RAILS = ("x402", "mpp")
_PATIENCE_SECONDS = 300.0  # a refund that a facilitator lied about takes a quarter of an hour
_COMING_BACK_SECONDS = 120.0
_CALL_SECONDS = 20.0
_VALID_SECONDS = 90  # of a payment for what is charged at once: what a facilitator lied about is settled or over soon
WARES = (
    ("/api/generate/flux-2-pro/generate", {"resolution": "0.5 MP", "output_format": "png"}),
    ("/api/generate/flux-2-pro/generate", {"resolution": "0.5 MP", "output_format": "png"}),
    ("/api/generate/gpt-image-2/generate", {"quality": "low", "size": "1024x1024", "output_format": "png"}),
)
_MANNERS = {"plain": 88, "buyer: hangs up at once and asks again": 5, "buyer: presents a payment twice at a time": 5,
            "buyer: comes back much later": 2}  # fmt: skip
_ENDED = {"complete": "complete", "refunded": "refunded", "released": "released", "rejected": "released"}


@dataclass(slots=True, kw_only=True)
class Order:
    """What a buyer knows of one order: the one payment that it signed for it, and all that it was told."""

    number: int
    wallet: str
    path: str
    body: dict[str, Any]
    price: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    by: str = "x402"
    jobs: set[str] = field(default_factory=set)
    sold: str | None = None  # the job that was sold, once that is certain
    told: Counter[str] = field(default_factory=Counter)
    ended: str = "open"
    ended_at: float = math.inf  # when its buyer was told, by the clock of the vendors' record
    got: bytes | None = None
    token: str = ""


class Wallet:
    """A key and the way it pays."""

    def __init__(self, *, seed: int, number: int, by: str) -> None:
        self.key = EvmKey.from_hex(f"0x{(seed + 1) % 2**64 or 1:032x}{number + 1:032x}")
        self.by = by

    def sign(self, asked: httpx2.Response, order: Order) -> None:
        """Sign the one payment of an order for what the service asks."""
        required = x402.decode_required(asked.headers["PAYMENT-REQUIRED"])
        order.price, order.by = int(required.accepts[0].amount), self.by
        if self.by == "mpp":
            line = asked.headers.get_list("WWW-Authenticate")[0]
            paid = answer_challenge(line, key=self.key, valid_before=int(time.time()) + 25)
            order.headers = {"Authorization": mpp.encode_credential(paid)}
            return
        offer = required.accepts[0]
        held = offer.max_timeout_seconds > MAX_TIMEOUT_SECONDS
        back = 0 if held else offer.max_timeout_seconds - _VALID_SECONDS
        payment = x402.sign_exact(required, offer, self.key, now_s=int(time.time()) - back)
        order.headers = {"PAYMENT-SIGNATURE": x402.encode_payment(payment)}


class Crowd:
    """Buys until so many orders were paid for and have ended, or the minutes are over."""

    def __init__(self, doors: Sequence[str], *, seed: int, jobs: int, wallets: int, minutes: float) -> None:
        self.lots = Lots(seed, "buyers", _MANNERS, usual="plain")
        self.orders: list[Order] = []
        self.wallets = [Wallet(seed=seed, number=n, by="mpp" if n % 6 == 5 else "x402") for n in range(wallets)]
        self.paid = 0
        self._doors = doors
        self._jobs = jobs
        self._closes = time.monotonic() + minutes * 60
        self._numbers = itertools.count(1)
        limits = httpx2.Limits(max_connections=400, max_keepalive_connections=100)
        self._http = httpx2.AsyncClient(trust_env=False, timeout=_CALL_SECONDS, limits=limits)

    async def fund(self, also: Callable[[str], Awaitable[None]] | None) -> None:
        """Give every wallet test dollars of each coin; `also` gives those of chains that are not the house's own."""
        for wallet in self.wallets:
            if also is not None:
                await also(wallet.key.address)
            body = {"address": wallet.key.address}
            (await self._http.post(f"{self._doors[0]}/faucet", json=body)).raise_for_status()

    async def buy(self) -> None:
        """Let every wallet buy until enough was bought."""
        await asyncio.gather(*(self._shop(wallet) for wallet in self.wallets))

    async def come_back(self) -> None:
        """Let everybody whose patience ended before the order did look once more, now that all is at rest."""
        wallets = {wallet.key.address: wallet for wallet in self.wallets}
        waiting = [order for order in self.orders if order.ended == "open" and order.jobs]
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMING_BACK_SECONDS):
                await asyncio.gather(*(self._wait(wallets[order.wallet], order) for order in waiting))

    async def close(self) -> None:
        await self._http.aclose()

    async def _shop(self, wallet: Wallet) -> None:
        while self.paid < self._jobs and time.monotonic() < self._closes:
            number = next(self._numbers)
            path, terms = self.lots.random.choice(WARES)
            body = {"prompt": PROMPT.format(number), **terms}
            order = Order(number=number, wallet=wallet.key.address, path=path, body=body)
            self.orders.append(order)
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._order(wallet, order)
            except TimeoutError:
                order.told["out of patience"] += 1
            self.paid += order.ended not in ("refused", "unasked")

    async def _order(self, wallet: Wallet, order: Order) -> None:
        asked = await self._ask(order)
        if asked is None:
            return
        wallet.sign(asked, order)
        await self._misbehave(order)
        await self._pay(order)
        if order.jobs:
            await self._wait(wallet, order)

    async def _ask(self, order: Order) -> httpx2.Response | None:
        """Ask for the price until there is one; None where the route is not sold at the moment."""
        while True:
            answer = await self._try("POST", order.path, json=order.body)
            if answer is not None and answer.status_code == 402:
                return answer
            if answer is not None and answer.status_code < 500:
                order.told[f"asking: {answer.status_code} {answer.text[:200]}"] += 1
                order.ended = "unasked"
                return None
            await asyncio.sleep(0.3)

    async def _misbehave(self, order: Order) -> None:
        """Do what the networks of buyers do: all of it with the same one payment."""
        match self.lots.draw(_MANNERS, usual="plain"):
            case "buyer: hangs up at once and asks again":
                await self._send(order, timeout=self.lots.between(0.005, 0.2))
            case "buyer: presents a payment twice at a time":
                await asyncio.gather(self._send(order), self._send(order))
            case "buyer: comes back much later":
                await self._send(order, timeout=self.lots.between(0.005, 0.2))
                await asyncio.sleep(self.lots.between(5, 15))

    async def _pay(self, order: Order) -> None:
        """Send the payment, the same again wherever its end is not known."""
        while order.ended == "open":
            answer = await self._send(order)
            if answer is not None and answer.status_code == 200:
                return
            if answer is not None and answer.status_code == 402:
                order.ended = "refused"
                return
            if answer is not None and answer.status_code not in (202, 429) and answer.status_code < 500:
                order.ended = f"odd answer {answer.status_code}"
                return
            await asyncio.sleep(0.3)

    async def _send(self, order: Order, *, timeout: float = _CALL_SECONDS) -> httpx2.Response | None:  # noqa: ASYNC109 - the client's own
        answer = await self._try("POST", order.path, json=order.body, headers=order.headers, timeout=timeout)
        if answer is None:
            order.told["no answer"] += 1
            return None
        told = answer.json()
        order.told[f"{answer.status_code} {told.get('code', '')}".strip()] += 1
        if answer.status_code == 402 and told.get("charged") is not False:
            order.ended = "402 that does not say whether money moved"
        if answer.status_code == 500:
            order.ended = f"internal error {told.get('code')}"
        if answer.status_code in (200, 202):
            order.jobs.add(told["jobId"])
        if answer.status_code == 200:
            order.sold = told["jobId"]
        order.token = answer.headers.get("Poll-Token") or order.token
        return answer

    async def _wait(self, wallet: Wallet, order: Order) -> None:
        """Read the job until it and its money have come to an end, and fetch what it made."""
        path = f"/api/jobs/{order.sold or min(order.jobs)}"
        proof: dict[str, str] = {"Authorization": f"Bearer {order.token}"} if order.token else {}
        while True:
            answer = await self._try("GET", path, headers={"Prefer": "wait=10", **proof})
            if answer is None or answer.status_code >= 429:
                await asyncio.sleep(0.3)
                continue
            if answer.status_code in (401, 402):
                extension = answer.json().get("extensions", {}).get("sign-in-with-x")
                proof = {"SIGN-IN-WITH-X": siwx.sign(extension, wallet.key, origin=PUBLIC)} if extension else {}
                continue
            if answer.status_code != 200:
                order.told[f"reading: {answer.status_code} {answer.text[:200]}"] += 1
                await asyncio.sleep(0.3)
                continue
            job = answer.json()
            if job["status"] == "complete":
                order.got = await self._fetch(job["result"]["imageUrl"])
                order.ended = "complete" if order.got == picture(order.number) else "another picture"
                order.ended_at = time.monotonic()
                return
            if job["status"] == "failed" and (ended := _ENDED.get(job["payment"]["state"])):
                order.ended, order.ended_at = ended, time.monotonic()
                order.told[f"failed: {job['error']['code'] if isinstance(job['error'], dict) else job['error']}"] += 1
                return
            await asyncio.sleep(0.2)

    async def _fetch(self, link: str) -> bytes:
        while True:
            where = link.removeprefix(PUBLIC)
            answer = await self._try("GET", where)
            if answer is not None and answer.status_code == 200:
                return answer.content
            await asyncio.sleep(0.3)

    async def _try(self, method: str, where: str, **options: Any) -> httpx2.Response | None:
        """Ask any of the doors, or an address as it is; None where no answer came."""
        door = self.lots.random.choice(self._doors) if where.startswith("/") else ""
        try:
            return await self._http.request(method, door + where, **options)
        except httpx2.TransportError:
            return None

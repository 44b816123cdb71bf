"""One payment sent many times at once, over several connections, across restarts: one order, one charge, one answer."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx2
import pytest

from tests.service import Buyer, Service

from .audit import audit, rows
from .conftest import FUNDS, PICTURE, Ware, World

pytestmark = pytest.mark.anyio

Send = Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]]


def _sender(payment: str, ware: Ware = PICTURE, *, key: str | None = None) -> Send:
    content = json.dumps(ware.body).encode()
    sent = {"PAYMENT-SIGNATURE": payment, "content-type": "application/json"}
    if key is not None:
        sent["Idempotency-Key"] = key
    return lambda client: client.post(ware.path, content=content, headers=sent)


def _client(world: World, *, connections: int) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx2.AsyncClient(base_url=world.service.url, trust_env=False, timeout=60, limits=limits)


async def _at_once(world: World, sends: list[Send]) -> list[httpx2.Response]:
    async with _client(world, connections=len(sends)) as client:
        return list(await asyncio.gather(*(send(client) for send in sends)))


async def test_fifty_copies_at_once_are_one_sale_with_one_answer(world: World) -> None:
    world.service.start()
    answers = await _at_once(world, [_sender(world.sign())] * 50)
    assert {answer.status_code for answer in answers} == {200}
    assert len({(answer.content, answer.headers["PAYMENT-RESPONSE"]) for answer in answers}) == 1
    _expect_sales(world, 1)


async def test_copies_over_two_connections_survive_kills_and_restarts(world: World) -> None:
    world.service.start()
    send = _sender(world.sign())

    async def insist(client: httpx2.AsyncClient) -> set[bytes]:
        """Ask again and again, as a client with retries does; collect what a 200 ever said."""
        seen: set[bytes] = set()
        while time.monotonic() < deadline or not seen:
            try:
                answer = await send(client)
            except httpx2.TransportError:
                await asyncio.sleep(0.01)
                continue
            assert answer.status_code in (200, 202), answer.text
            if answer.status_code == 200:
                seen.add(answer.content + answer.headers["PAYMENT-RESPONSE"].encode())
        return seen

    deadline = time.monotonic() + 2.0
    async with _client(world, connections=1) as first, _client(world, connections=1) as second:
        buyers = [asyncio.create_task(insist(client)) for client in (first, second)]
        for pause in (0.02, 0.1, 0.3):
            await asyncio.sleep(pause)
            await asyncio.to_thread(world.service.kill)
            await asyncio.to_thread(world.service.start)
        answers = set[bytes]().union(*await asyncio.gather(*buyers))
    assert len(answers) == 1
    _expect_sales(world, 1)


async def test_a_race_of_two_bodies_for_one_payment_has_one_winner(world: World) -> None:
    world.service.start()
    payment = world.sign()
    other = replace(PICTURE, body=PICTURE.body | {"prompt": "another boat"})
    answers = await _at_once(world, [_sender(payment, ware) for ware in (PICTURE, other) * 10])
    won = [index for index, answer in enumerate(answers) if answer.status_code == 200]
    lost = [answer.json()["code"] for answer in answers if answer.status_code != 200]
    assert len({index % 2 for index in won}) == 1
    assert lost == ["payment_reused"] * 10
    _expect_sales(world, 1)


async def test_a_race_of_payments_under_one_key_charges_one(world: World) -> None:
    world.service.start()
    sends = [_sender(world.sign(), key="order-1") for _ in range(12)]
    answers = await _at_once(world, sends)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["jobId"] for answer in answers}) == 1
    _expect_sales(world, 1)


async def test_payments_at_once_never_overdraw_the_wallet(world: World) -> None:
    world.service.environment["STABLESTUDIO_PRICES"] = json.dumps({"nano-banana/generate": {"512": "30"}})
    world.service.start()
    payments = [world.buyer.sign(PICTURE.path, PICTURE.body) for _ in range(8)]
    answers = await _at_once(world, [_sender(payment) for payment in payments])
    told = sorted((answer.status_code, answer.json().get("code")) for answer in answers)
    assert told == [(200, None)] * 3 + [(402, "insufficient_funds")] * 5
    assert world.buyer.balance() == FUNDS - 3 * 30_000_000
    for answer in answers:
        if answer.status_code == 200:
            world.buyer.wait(answer.json()["jobId"])
    world.service.wait_for_rest()


@pytest.mark.parametrize("ended", [False, True], ids=["while the job runs", "after the job ended"])
async def test_the_answer_to_a_payment_outlives_the_process(world: World, *, ended: bool) -> None:
    world.service.environment["STABLESTUDIO_SANDBOX_DELAY"] = "0" if ended else "30"
    world.service.start()
    payment = world.sign()
    before = world.pay(PICTURE, payment)
    if ended:
        world.buyer.wait(before.json()["jobId"])
    world.service.kill()
    world.service.start()
    after = world.pay(PICTURE, payment)
    assert (after.status_code, after.content) == (before.status_code, before.content) == (200, before.content)
    assert _told(after) == _told(before)
    assert world.buyer.balance() == FUNDS - PICTURE.price


async def test_a_second_process_on_the_same_folder_is_refused_and_disturbs_nobody(studio: Service) -> None:
    command = [sys.executable, "-m", "stablestudio", "serve", "--port", "0", "--data", str(studio.data)]
    refused = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode not in (0, -signal.SIGKILL)
    assert f"Another process serves from {studio.data}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert studio.alive
    with Buyer(studio.url) as buyer:
        assert buyer.http.get("/health").status_code == 200


def test_sigterm_during_work_is_graceful_and_the_next_process_finishes_it(world: World) -> None:
    world.service.environment["STABLESTUDIO_SANDBOX_DELAY"] = "1"
    world.service.start()
    job_id = world.buy(PICTURE)
    while world.buyer.job(job_id)["status"] == "pending":
        time.sleep(0.02)
    world.service.stop()
    assert world.service.wait_dead() in (0, -signal.SIGTERM)
    assert "Traceback" not in world.service.log.read_text()
    assert rows(world.service.database, "SELECT state FROM jobs") == [("loading",)]
    assert audit(world.service.database, at_rest=False) == []
    world.service.start()
    assert world.buyer.wait(job_id)["status"] == "complete"
    _expect_sales(world, 1)


def _told(answer: httpx2.Response) -> dict[str, str]:
    # The poll token is for the request that paid: payments can be read on chain by anybody.
    return {name: value for name, value in answer.headers.items() if name not in ("date", "poll-token", "x-request-id")}


def _expect_sales(world: World, count: int) -> None:
    """Expect so many orders, each charged once and delivered."""
    for job in world.buyer.jobs():
        world.buyer.wait(job["jobId"])
    world.service.wait_for_rest()
    for table in ("orders", "jobs", "sandbox_tasks"):
        assert rows(world.service.database, f"SELECT count(*) FROM {table}") == [(count,)]
    assert world.buyer.balance() == FUNDS - count * PICTURE.price

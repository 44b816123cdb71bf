"""What was sold and cannot be read a moment later: nobody hears that nothing was charged."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.catalog import OFFERINGS
from stablestudio.sales.order import Held, Sold
from stablestudio.server.sell import SellRoute
from tests.doubles import payment

pytestmark = pytest.mark.anyio


class Unreadable(SellRoute):
    """Sells, and then its database, or its store of files, is away."""

    fault: Exception

    async def _recall_or(self, *_: Any) -> Sold | Held:
        return Sold(job_id="job_1", payment=payment(1))

    async def answer(self, *_: Any) -> None:
        raise self.fault


@pytest.mark.parametrize("fault", [sa.exc.OperationalError("SELECT", None, OSError("away")), OSError("no such file")])
async def test_a_sale_that_cannot_be_read_is_told_as_unclear_with_its_job(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr("stablestudio.server.sell.read_payment", lambda _: None)
    parts: dict[str, Any] = dict.fromkeys(inspect.signature(SellRoute).parameters)
    route = Unreadable(**parts | {"offering": OFFERINGS[0], "origin": "https://studio.example"})
    route.fault = fault
    monkeypatch.setattr(route, "_purchase", lambda *_: None)
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was given")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"payment-signature", b"x")]}
    await route.serve(scope, receive, send, b"{}")
    body = json.loads(sent[1]["body"])
    assert (sent[0]["status"], body["jobId"], body["payment"]) == (202, "job_1", {"state": "unknown"})
    assert "Do not pay again" in body["hint"]
    assert "charged" not in body

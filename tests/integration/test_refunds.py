"""Refunds of a running service: held by a minimum, let go by a person beside it, and proved by the audit."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from stablestudio.cli import main
from tests.service import Buyer, Service

DOOMED = ("/api/generate/nano-banana/generate", {"prompt": "a boat [sandbox:fail]", "imageSize": "512"})
FUNDS = 100_000_000
_SECONDS = 30.0
_RAIL = {"kind": "x402-evm", "network": "eip155:84532", "chain": "ledger"}


@pytest.fixture
def service(data: Path) -> Iterator[Service]:
    made = Service(data, environment={"STABLESTUDIO_SANDBOX_DELAY": "0"})
    yield made
    made.kill()


def _operate(service: Service, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """Run a command beside the service's process; return the JSON that it writes."""
    done = CliRunner().invoke(main, [*arguments, "--data", str(service.data)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    if arguments[:2] == ("refunds", "list"):
        return [json.loads(line) for line in done.stdout.splitlines()]
    return [json.loads(done.stdout)]


def _await_state(service: Service, state: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while (found := service.sql("SELECT state FROM refunds")) != [(state,)]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def _die_before_paying_back(service: Service, buyer: Buyer) -> str:
    """Buy what fails from a service that kills itself when the refund is signed; return the order."""
    service.start(failpoint="refund.signed")
    order = buyer.fund().buy(*DOOMED)
    assert service.wait_dead() == -signal.SIGKILL
    return order


def test_a_refund_below_the_minimum_waits_until_a_person_lets_it_go(service: Service) -> None:
    service.environment["STABLESTUDIO_RAILS"] = json.dumps({"base": _RAIL | {"refund_minimum": "1"}})
    service.start()
    with Buyer(service.url) as buyer:
        order = buyer.fund().buy(*DOOMED)
        _await_state(service, "waiting")
        (told,) = _operate(service, "refunds", "list")
        assert (told["order"], told["reason"], told["recipient"]) == (order, "below_minimum", buyer.key.address)
        assert buyer.job(order)["payment"]["state"] == "refund_pending"
        (report,) = _operate(service, "audit")
        assert [each["what"] for each in report["open"]] == ["refund that waits"]
        _operate(service, "refunds", "approve", order)
        assert buyer.wait(order)["payment"]["state"] == "refunded"
        assert buyer.balance() == FUNDS
    (report,) = _operate(service, "audit", "--chain")
    assert (report["breaches"], report["open"], report["transfersCompared"]) == ([], [], 2)
    assert [(total["outcome"], total["orders"]) for total in report["totals"]] == [("refunded", 1)]


def test_a_refund_approved_while_nobody_serves_survives_kills_at_both_steps_and_pays_once(service: Service) -> None:
    with Buyer(service.url) as buyer:
        order = _die_before_paying_back(service, buyer)
        ((signed,),) = service.sql("SELECT signed FROM refunds")
        service.sql("UPDATE refunds SET state = 'waiting', reason = 'recipient_refused'")
        _operate(service, "refunds", "approve", order)
        service.start(failpoint="refund.sent", wait=False)
        assert service.wait_dead() == -signal.SIGKILL
        service.start()
        assert buyer.wait(order)["payment"]["state"] == "refunded"
        assert buyer.balance() == FUNDS
    assert service.sql("SELECT state, signed FROM refunds") == [("refunded", signed)]
    assert service.sql("SELECT count(*) FROM ledger_transactions WHERE nonce IS NOT NULL") == [(2,)]


def test_a_pause_outlives_a_kill_and_a_retry_ends_it(service: Service) -> None:
    with Buyer(service.url) as buyer:
        order = _die_before_paying_back(service, buyer)
        now = time.time_ns() // 1_000_000
        service.sql(f"UPDATE refunds SET created_at = {now - 36_000_000}, updated_at = {now}")
        service.start()
        time.sleep(1)
        (told,) = _operate(service, "refunds", "list")
        assert (told["state"], told["transaction"]) == ("signed", None)
        _operate(service, "refunds", "retry", order)
        assert buyer.wait(order)["payment"]["state"] == "refunded"
        assert buyer.balance() == FUNDS


def test_the_audit_says_1_where_the_books_do_not_add_up(service: Service) -> None:
    service.start()
    with Buyer(service.url) as buyer:
        order = buyer.fund().buy(*DOOMED)
        buyer.wait(order)
    service.sql("UPDATE refunds SET \"transaction\" = '0x00'")
    assert _operate(service, "audit")[0]["breaches"] == []
    (report,) = _operate(service, "audit", "--chain", code=1)
    assert report["breaches"] == [{"what": "transfer that the chain does not know", "order": order}]
    assert httpx2.get(f"{service.url}/health", trust_env=False).status_code == 200

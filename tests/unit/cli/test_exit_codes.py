from __future__ import annotations

from pathlib import Path

import pytest

from stablestudio.cli.faults import exit_code, money
from stablestudio.cli.generate import follow_job
from stablestudio.cli.output import Progress
from stablestudio.client import (
    JobStillRunning,
    Journal,
    KeyWallet,
    PaidUpload,
    PaymentOutcomeUnknown,
    StudioApiError,
    StudioClient,
)
from stablestudio.client.fakes import FakeSeller, Fault, error_reply
from stablestudio.client.steps import Reply
from stablestudio.money import Money
from tests.unit.client.builders import order

from .desk import KEY, Shell, shop

GENERATE = ("generate", "nano-banana/generate", "a fox")


def test_0_done(tmp_path: Path) -> None:
    with shop(tmp_path) as (_, shell):
        assert shell.json(*GENERATE, "-o", str(tmp_path))["success"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "nano-banana"),
        ("generate", "nano-banana/", "a fox"),
        ("generate", "nano-banana/edit", "a fox", "--op", "generate"),
        ("generate", "nano-banana/edit", "a fox", "-p", "noequals"),
        ("generate", "nano-banana/edit", "a fox", "--image", "missing.png"),
        ("generate", "nano-banana/edit", "a fox", "--max-price", "cheap"),
        ("job", "../x"),
        ("fly",),
    ],
)
def test_2_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert Shell(home=tmp_path).run(*arguments).exit_code == 2


def test_2_input_that_the_service_does_not_take(tmp_path: Path) -> None:
    issue = {"path": ["size"], "code": "x", "message": "no such size", "allowed": ["1K"]}
    refusal = error_reply(400, "invalid_input", charged=False, hint="Fix it.", issues=[issue])
    with shop(tmp_path, quote_faults=[refusal]) as (_, shell):
        result = shell.run(*GENERATE)
    assert result.exit_code == 2
    assert "size: no such size (allowed: 1K)" in result.stderr
    assert "Next: Fix it." in result.stderr
    assert "Money: none moved." in result.stderr


def test_2_no_wallet(tmp_path: Path) -> None:
    assert Shell(home=tmp_path, key="").json(*GENERATE, code=2)["code"] == "wallet_missing"


def test_2_unknown_model(tmp_path: Path) -> None:
    with shop(tmp_path) as (_, shell):
        assert shell.json("generate", "nano-banan", "a fox", code=2)["code"] == "unknown_model"


def test_3_above_the_limit(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        told = shell.json(*GENERATE, "--max-price", "0.05", code=3)
    assert (told["code"], told["charged"], told["exitCode"]) == ("price_above_limit", False, 3)
    assert seller.signatures == []


def test_3_above_a_dollar_where_nobody_can_be_asked(tmp_path: Path) -> None:
    with shop(tmp_path, price=Money.parse("1.01")) as (seller, shell):
        assert shell.json(*GENERATE, code=3)["code"] == "purchase_declined"
        assert seller.signatures == []
        assert shell.json(*GENERATE, "--yes", "-o", str(tmp_path))["success"] is True
        assert shell.json(*GENERATE, "--max-price", "2", "-o", str(tmp_path))["success"] is True


def test_3_yes_does_not_lift_the_limit(tmp_path: Path) -> None:
    with shop(tmp_path, price=Money.parse("5.01")) as (_, shell):
        assert shell.json(*GENERATE, "--yes", code=3)["code"] == "price_above_limit"


def test_3_another_origin(tmp_path: Path) -> None:
    with shop(tmp_path, resource_origin="https://other.test") as (_, shell):
        assert shell.json(*GENERATE, code=3)["code"] == "foreign_offer"
        assert shell.json("jobs", code=3)["code"] == "siwx_challenge_refused"


def test_4_the_payment_is_not_taken(tmp_path: Path) -> None:
    faults = [Fault(reply=error_reply(402, "insufficient_funds", charged=False))]
    with shop(tmp_path, faults=faults) as (seller, shell):
        told = shell.json(*GENERATE, code=4)
    assert (told["code"], told["charged"]) == ("insufficient_funds", False)
    assert len(seller.signatures) == 1


def test_what_an_upload_cost_is_told_beside_what_is_known_of_its_order() -> None:
    paid = PaidUpload(file="a.png", price=Money(10_000), blob_url="https://s/a", usable_until="tomorrow")
    refused = StudioApiError("No.", code="no", status=400, hint="Mend it; nothing was charged.")
    unclear = StudioApiError("Oh.", code="oh", status=500, charged=None)
    lost = PaymentOutcomeUnknown("Lost.", order=order())
    for error in (refused, unclear, lost):
        error.after([paid])
        assert money(error).endswith("$0.01 was paid for the upload of a.png, which stays usable until tomorrow.")
        assert error.body()["uploads"] == [paid.body()]
    assert [each.body()["charged"] for each in (refused, unclear, lost)] == [True, None, None]
    assert money(refused).startswith("the order was not charged. $0.01")
    assert money(unclear).startswith("not known whether any moved. ")
    assert money(lost).startswith("not known yet whether $0.067 was taken")
    assert refused.advice == "Mend it; nothing was charged for the order itself."


def test_one_cause_has_one_code_whether_it_is_found_with_the_payment_or_without(tmp_path: Path) -> None:
    refusal = error_reply(400, "invalid_input", charged=False)
    with shop(tmp_path, quote_faults=[refusal], faults=[Fault(reply=refusal)]) as (seller, shell):
        for _ in range(2):
            assert shell.json(*GENERATE, code=2)["code"] == "invalid_input"
    assert len(seller.signatures) == 1


def test_5_the_job_failed_and_the_money_is_back(tmp_path: Path) -> None:
    with shop(tmp_path, states=("failed", "refunded")) as (_, shell):
        result = shell.run(*GENERATE)
    assert result.exit_code == 5
    assert "the vendor gave up" in result.stderr
    assert "Money: back in your wallet (transaction 0xba)." in result.stderr


def test_6_nobody_answers(tmp_path: Path) -> None:
    told = Shell(home=tmp_path).json("quote", "nano-banana/generate", "a fox", code=6)
    assert (told["code"], told["retryable"], told["charged"]) == ("service_unreachable", True, False)


def test_6_the_service_is_at_fault(tmp_path: Path) -> None:
    with shop(tmp_path, quote_faults=[error_reply(503, "busy", charged=False)]) as (_, shell):
        assert shell.json(*GENERATE, code=6)["code"] == "busy"


def test_7_still_running(tmp_path: Path) -> None:
    with shop(tmp_path, states=("loading",)) as (_, shell):
        told = shell.json(*GENERATE, "--timeout", "0", code=7)
    assert (told["code"], told["jobId"], told["charged"]) == ("job_still_running", "job_0", True)
    assert told["next"] == "stablestudio job job_0 --wait --download"


def test_7_not_known_whether_it_is_paid_and_then_continued(tmp_path: Path) -> None:
    faults = [Fault(takes=True), Fault(reply=Reply(status=402, body=b"{}"))]
    with shop(tmp_path, faults=faults) as (seller, shell):
        told = shell.json(*GENERATE, code=7)
        assert (told["code"], told["charged"], told["price"]) == ("payment_outcome_unknown", None, "0.067")
        assert told["next"].startswith("stablestudio resume")
        assert shell.json("resume")["orders"][0]["job"]["jobId"] == "job_0"
    assert len(set(seller.signatures)) == 1
    assert len(seller.transfers) == 1


def test_7_an_interrupt_leaves_the_job_running(tmp_path: Path) -> None:
    class Interrupted(FakeSeller):
        def _read(self, method: str, job_id: str) -> Reply:
            raise KeyboardInterrupt

    seller = Interrupted()
    client = StudioClient(
        seller.origin,
        KeyWallet.from_hex(KEY),
        journal=Journal(tmp_path),
        transport=seller.transport(),
        clock=seller.clock,
        sleep=seller.clock.sleep,
    )
    job = client.submit("nano-banana", "generate", {"prompt": "a fox"})
    with pytest.raises(JobStillRunning) as caught:
        follow_job(client, job, progress=Progress(lambda _: None, stream=None), timeout=60)
    assert exit_code(caught.value) == 7
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_5_a_job_that_is_waited_for_and_fails(tmp_path: Path) -> None:
    with shop(tmp_path, states=("loading", "loading", "failed", "refunded")) as (_, shell):
        shell.json(*GENERATE, "--no-wait")
        assert shell.json("job", "job_0")["job"]["status"] == "loading"
        assert shell.json("job", "job_0", "--wait", code=5)["code"] == "job_failed"
        assert shell.json("job", "job_0")["job"]["payment"]["state"] == "refunded"

"""The command line at the real service: cancels, webhooks, prices and lifecycles, with exit codes and money told."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx2
import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.cli import models
from stablestudio.client import KeyWallet, StudioClient
from stablestudio.server.discovery.shop import outlook
from tests.doubles import png
from tests.fakes.receiver import Receiver
from tests.integration.shop import let_a_minute_pass
from tests.service import Service
from tests.unit.cli.desk import Shell

BUY = ("generate", "nano-banana/generate")
SMALL = ("-p", "imageSize=512")


@pytest.fixture
def shell(inside: Service, tmp_path: Path) -> Shell:
    """A shell with a funded wallet."""
    shell = Shell(home=tmp_path / "home", url=inside.url, key="")
    inside.fund(KeyWallet.create(environ={"STABLESTUDIO_HOME": str(shell.home)}).address)
    return shell


def loading(shell: Shell, prompt: str) -> str:
    """Buy and return the job once a vendor works on it."""
    job_id: str = shell.json(*BUY, prompt, *SMALL, "--no-wait")["job"]["jobId"]
    deadline = time.monotonic() + 60
    while shell.json("job", job_id)["job"]["status"] == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job_id


def test_a_job_is_cancelled_by_its_id_and_the_money_is_back(shell: Shell) -> None:
    job_id = loading(shell, "a cat [sandbox:delay=3600]")
    told = shell.json("job", job_id, "--cancel")["job"]
    assert (told["status"], told["errorCode"]) == ("failed", "cancelled")
    assert told["payment"]["state"] in {"refund_pending", "refunded"}
    deadline = time.monotonic() + 60
    while shell.json("wallet", "balance")["balance"] != "100.00":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    after = shell.json("job", job_id, "--wait", code=5)
    assert (after["errorCode"], after["next"]) == (
        "cancelled",
        "Order again if you want it after all; this order costs nothing.",
    )


def test_7_too_late_to_cancel(shell: Shell) -> None:
    job_id = loading(shell, "a cat [sandbox:delay=3][sandbox:stubborn]")
    result = shell.run("job", job_id, "--cancel")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["code"], told["charged"]) == (7, "cancel_too_late", True)
    assert told["next"] == f"stablestudio job {job_id} --wait --download"
    assert "Error: Too late to cancel." in result.stderr
    assert "Money: the job is charged, once; if it fails after all, its payment goes back by itself." in result.stderr
    assert shell.json("job", job_id, "--wait")["job"]["status"] == "complete"


@pytest.mark.parametrize("other", ["--delete", "--wait", "--download", "--webhooks", "--redeliver"])
def test_a_cancel_goes_alone(shell: Shell, other: str) -> None:
    assert shell.run("job", "job_0", "--cancel", other).exit_code == 2


def test_a_receiver_is_named_told_and_told_again(shell: Shell, inside: Service) -> None:
    with Receiver() as receiver:
        job_id = shell.json(*BUY, "a cat", *SMALL, "--webhook", receiver.url, "--no-wait")["job"]["jobId"]
        receiver.wait(1)
        log = shell.json("job", job_id, "--webhooks")
        deadline = time.monotonic() + 60
        while log["messages"][0]["state"] != "delivered" and time.monotonic() < deadline:
            log = shell.json("job", job_id, "--webhooks")
        let_a_minute_pass(inside)
        assert (log["url"], log["secret"][:6], len(log["messages"])) == (receiver.url, "whsec_", 1)
        again = shell.json("job", job_id, "--redeliver")
        assert [each["id"] for each in again["messages"]] == [each["id"] for each in log["messages"]]
        receiver.wait(2)


def test_2_a_webhook_that_is_none_costs_nothing(shell: Shell, inside: Service) -> None:
    for url in ("nonsense", f"{inside.url}/hook"):
        told = shell.json(*BUY, "a cat", *SMALL, "--webhook", url, code=2)
        assert told["charged"] is False
    assert shell.json("wallet", "balance")["balance"] == "100.00"


def test_a_quote_is_the_service_s_own(shell: Shell) -> None:
    told = shell.json("quote", "nano-banana/generate", "a cat", *SMALL)
    question = {"model": "nano-banana", "operation": "generate", "input": {"prompt": "a cat", "imageSize": "512"}}
    answer = httpx2.post(f"{shell.url}/api/quote", json=question, trust_env=False).json()
    assert told | {"expiresAt": ""} == answer | {"expiresAt": ""}


def test_models_live_as_long_as_the_service_s_documents_say(shell: Shell) -> None:
    with StudioClient(shell.url, KeyWallet.generate()) as client:
        remarks = {(dish.model, dish.operation): models.remark(dish) for dish in client.models()}
    for offering in OFFERINGS:
        ahead = outlook(offering.lifecycle)
        assert ahead in remarks[offering.model, offering.operation]
        assert ahead or ";" not in remarks[offering.model, offering.operation]


def test_inline_files_are_cut_once(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(png((64, 48)).ljust(100_000, b"\0"))
    told = shell.json("generate", "nano-banana", "bluer", "--image", str(tmp_path / "cat.png"), *SMALL, "--no-wait")
    (image,) = shell.json("job", told["job"]["jobId"])["job"]["input"]["images"]
    assert re.fullmatch(r"data:image/png;base64,[\w+/]{10,40}\.\.\. \(\d{6} characters\)", image)

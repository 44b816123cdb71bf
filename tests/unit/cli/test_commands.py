from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stablestudio.cli import models
from stablestudio.cli.views import file_lines, job_document, job_lines, price_lines, webhook_lines
from stablestudio.client import Price, Webhooks
from stablestudio.client.fakes import PIXEL, Fault, error_reply
from stablestudio.client.jobs import job_of
from stablestudio.client.menu import Dish
from stablestudio.client.steps import Reply

from .desk import KEY, Shell, shop

ADDRESS = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"


def test_generate_buys_waits_and_saves(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        told = shell.json("generate", "nano-banana", "a fox", "-p", "imageSize=1K", "-o", str(tmp_path / "fox.png"))
    assert told["files"] == [str(tmp_path / "fox.png")]
    assert told["job"]["jobId"] == "job_0"
    assert told["job"]["payment"]["transaction"] == "0xab"
    assert (tmp_path / "fox.png").read_bytes() == PIXEL
    assert json.loads(seller.bodies[0]) == {"prompt": "a fox", "imageSize": "1K"}
    assert seller.calls[0].url.endswith("/api/models")


def test_generate_takes_the_operation_with_the_model(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        shell.json("generate", "nano-banana/edit", "bluer", "--image", "job:job_9", "-o", str(tmp_path))
    assert json.loads(seller.bodies[0]) == {"prompt": "bluer", "images": ["job:job_9"]}
    assert not any(call.url.endswith("/api/models") for call in seller.calls)


def test_an_image_leads_to_the_operation_that_takes_one(tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    picture.write_bytes(PIXEL)
    with shop(tmp_path) as (seller, shell):
        shell.json("generate", "nano-banana", "bluer", "--image", str(picture), "-o", str(tmp_path))
    assert any(call.url.endswith("/nano-banana/edit") for call in seller.calls)
    assert json.loads(seller.bodies[0])["images"][0].startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize("form", ["images=@{}", "images[]=@{}"])
def test_a_list_takes_one_file_as_a_form_does(tmp_path: Path, form: str) -> None:
    (tmp_path / "cat.png").write_bytes(PIXEL)
    with shop(tmp_path) as (seller, shell):
        wish = ("generate", "nano-banana", "bluer", "-p", form.format("~/cat.png"), "--no-wait")
        shell.json(*wish, HOME=str(tmp_path))
    assert json.loads(seller.bodies[0])["images"][0].startswith("data:image/png;base64,iVBOR")


def test_a_file_for_a_prompt_is_refused_whether_the_operation_is_named_or_not(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PIXEL)
    with shop(tmp_path) as (seller, shell):
        for model in ("nano-banana", "nano-banana/edit"):
            told = shell.json("generate", model, "x", "-p", f"prompt=@{tmp_path / 'cat.png'}", code=2)
            assert "'prompt' takes no file" in told["error"]
            assert "'images' takes a picture" in told["next"]
    assert seller.signatures == []


def test_a_job_is_deleted_by_its_id(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        shell.json("generate", "nano-banana", "a fox", "--no-wait")
        assert shell.run("job", "job_0", "--delete", "--download").exit_code == 2
        assert shell.json("job", "job_0", "--delete") == {"success": True, "deleted": "job_0"}
        assert shell.json("job", "job_0", "--delete", code=2)["code"] == "job_not_found"
    assert seller.deleted == {"job_0"}
    assert list((tmp_path / "home" / "orders").iterdir()) == [], "nothing waits to be downloaded"


def test_nothing_but_an_upload_is_given_up(tmp_path: Path) -> None:
    with shop(tmp_path) as (_, shell):
        assert shell.json("resume", "--drop", "order_1", code=2)["code"] == "upload_not_open"


def test_inline_files_are_told_in_short_and_cut_once() -> None:
    link = "data:image/png;base64," + "A" * 1000
    cut = link[:40] + "... (488230 characters)"  # as the service does it
    told = job_document(job_of({"jobId": "job_0", "status": "pending", "input": {"images": [link, cut, "data:,x"]}}))
    assert told["input"]["images"] == [link[:60] + "... (1022 characters)", cut, "data:,x"]


def test_generate_without_waiting_names_the_next_command(tmp_path: Path) -> None:
    with shop(tmp_path, states=("loading",)) as (_, shell):
        told = shell.json("generate", "nano-banana", "a fox", "--no-wait", "--url", shell.url)
    assert told["next"] == f"stablestudio job job_0 --wait --download --url {shell.url}"


def test_a_job_is_continued_by_its_id(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        shell.json("generate", "nano-banana", "a fox", "--no-wait")
        told = shell.json("job", "job_0", "--wait", "--download", "-o", str(tmp_path / "folder"))
        assert shell.json("jobs")["jobs"][0]["jobId"] == "job_0"
    assert told["files"] == [str(tmp_path / "folder" / "job_0.png")]
    assert len(seller.transfers) == 1
    assert list((tmp_path / "home" / "orders").iterdir()) == []


def test_quote_needs_no_wallet_and_signs_nothing(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        told = shell.json("quote", "nano-banana", "a fox", STABLESTUDIO_PRIVATE_KEY="")
    assert (told["price"], told["currency"], told["network"], told["payTo"]) == (
        "0.067",
        "USD",
        "eip155:84532",
        seller.pay_to,
    )
    assert seller.signatures == []
    assert not (tmp_path / "home").exists()


def test_models_are_listed(tmp_path: Path) -> None:
    with shop(tmp_path) as (_, shell):
        told = shell.json("models", "--op", "edit")
    assert [(each["model"], each["operation"], each["priceTo"]) for each in told["models"]] == [
        ("nano-banana", "edit", "0.151")
    ]


def test_a_wallet_is_created_once_and_its_key_is_never_shown(tmp_path: Path) -> None:
    shell = Shell(home=tmp_path / "home", key="")
    made = shell.run("wallet", "create")
    address = json.loads(made.stdout)["address"]
    key = json.loads((tmp_path / "home" / "wallet.json").read_text())["privateKey"]
    assert key[2:] not in made.output
    assert shell.json("wallet", "address")["address"] == address
    assert shell.json("wallet", "create", code=2)["code"] == "wallet_exists"


def test_a_wallet_is_funded_by_the_faucet(tmp_path: Path) -> None:
    with shop(tmp_path) as (seller, shell):
        told = shell.json("wallet", "fund")
        assert shell.json("wallet", "balance") == {
            "success": True,
            "address": ADDRESS,
            "balance": "100.00",
            "currency": "USD",
        }
    assert told["balance"] == "100.00"
    assert json.loads(seller.calls[0].body or b"") == {"address": ADDRESS}
    asked = json.loads(seller.calls[1].body or b"")["params"][0]
    assert asked["data"] == "0x70a08231" + "0" * 24 + ADDRESS[2:].lower()


def test_resume_without_open_orders_is_no_error(tmp_path: Path) -> None:
    with shop(tmp_path) as (_, shell):
        assert shell.json("resume") == {"success": True, "orders": []}


def test_one_order_that_cannot_be_continued_does_not_hide_another(tmp_path: Path) -> None:
    unanswered = [Fault(takes=True), Fault(reply=Reply(status=402, body=b"{}"))]
    refused = Fault(reply=error_reply(402, "payment_expired", charged=False))
    with shop(tmp_path, faults=[*unanswered, *unanswered, refused]) as (seller, shell):
        for prompt in ("a fox", "a hen"):
            shell.json("generate", "nano-banana/generate", prompt, code=7)
        told = shell.json("resume", code=4)
    assert told["success"] is False
    assert told["orders"][0]["error"]["code"] == "payment_expired"
    assert told["orders"][1]["job"]["jobId"] == "job_1"
    assert len(set(seller.signatures)) == 2


def test_an_open_order_is_told_before_the_next_is_bought(tmp_path: Path) -> None:
    unanswered = [Fault(takes=True), Fault(reply=Reply(status=402, body=b"{}"))]
    with shop(tmp_path, faults=unanswered) as (seller, shell):
        shell.json("generate", "nano-banana/generate", "a fox", code=7)
        result = shell.run("generate", "nano-banana/generate", "a fox", "-o", str(tmp_path))
    assert result.exit_code == 0
    assert "Orders to go on with: 1." in result.stderr
    assert len(seller.transfers) == 1


@pytest.mark.parametrize(
    "command", ["generate", "quote", "models", "job", "jobs", "resume", "wallet", "serve", "validate", "demo"]
)
def test_each_command_has_help(tmp_path: Path, command: str) -> None:
    result = Shell(home=tmp_path).run(command, "--help")
    assert result.exit_code == 0
    assert KEY not in result.output


def test_help_names_every_exit_code_and_setting(tmp_path: Path) -> None:
    text = Shell(home=tmp_path).run("--help").output
    assert all(f"\n    {code}  " in text for code in range(8))
    assert all(
        name in text for name in ("STABLESTUDIO_URL", "STABLESTUDIO_HOME", "STABLESTUDIO_PRIVATE_KEY", "NO_COLOR")
    )


def eta(basis: str) -> dict[str, object]:
    return {"seconds": 4.5, "p90Seconds": 7.0, "basis": basis, "jobs": 9}


@pytest.mark.parametrize(
    ("told", "remark"),
    [
        ({"typicalSeconds": [5, 5]}, "about 5 s"),
        ({"typicalSeconds": [60, 180]}, "about 60-180 s"),
        ({"typicalSeconds": [0, 0]}, "at once"),
        ({}, ""),
        ({"typicalSeconds": [60, 180], "eta": eta("catalog")}, "about 60-180 s"),
        ({"typicalSeconds": [60, 180], "eta": eta("history")}, "about 4.5 s, 9 of 10 within 7 s"),
        ({"lifecycle": {"state": "live", "ends": None, "successor": None}}, ""),
        ({"lifecycle": {"state": "deprecated", "successor": "b"}}, "its vendor ends it; successor b"),
        (
            {"typicalSeconds": [5, 5], "lifecycle": {"state": "deprecated", "ends": "2026-12-01"}},
            "about 5 s; its vendor ends it on 2026-12-01",
        ),
        (
            {"available": False, "typicalSeconds": [5, 5], "lifecycle": {"state": "retired", "successor": "b"}},
            "not available here; ended by its vendor; successor b",
        ),
    ],
)
def test_a_model_says_how_long_it_takes_or_how_long_it_lives(told: dict[str, object], remark: str) -> None:
    assert models.remark(Dish.model_validate({"model": "a", "operation": "o"} | told)) == remark


def test_a_job_is_told_to_people_with_its_money_and_its_files(tmp_path: Path) -> None:
    payment = {"amount": "0.07", "network": "eip155:84532", "transaction": "0xab", "state": "charged"}
    refund = payment | {"state": "refunded", "refund": {"transaction": "0xba"}}
    failed = job_of(
        {"jobId": "job_0", "type": "grok", "status": "failed", "error": {"message": "no"}, "payment": refund}
    )
    assert job_lines(failed) == [
        "job_0  grok  failed",
        "  reason   no",
        "  paid     $0.07 on eip155:84532, transaction 0xab",
        "  refunded, transaction 0xba",
    ]
    done = job_of(
        {"jobId": "job_1", "status": "complete", "payment": payment, "result": {"videoUrl": "v", "thumbnailUrl": "t"}}
    )
    assert job_lines(done)[0] == "job_1  complete"
    assert job_lines(done)[-2:] == ["  video    v", "  thumb    t"]
    (tmp_path / "x.mp4").write_bytes(bytes(1234))
    assert file_lines([tmp_path / "x.mp4"]) == [f"  saved    {tmp_path / 'x.mp4'} (1,234 bytes)"]


def test_a_price_is_told_to_people_with_its_reasons() -> None:
    told = {
        "model": "veo-3.1",
        "operation": "generate",
        "price": "1.60",
        "breakdown": [
            {
                "unit": "second",
                "unitPrice": "0.40",
                "quantity": 4,
                "amount": "1.60",
                "because": {"durationSeconds": "4"},
            }
        ],
        "eta": eta("history"),
        "rails": [{"protocol": "x402", "network": "eip155:84532", "asset": "0xa", "decimals": 6, "amount": "1600000"}],
        "settles": "complete",
    }
    assert price_lines(Price.model_validate(told)) == [
        "$1.60  veo-3.1/generate, charged when the work is done",
        "  4 x $0.40 a second, by durationSeconds=4",
        "  about 4.5 s, 9 of 10 within 7 s",
        "  1.600000  by x402 on eip155:84532, token 0xa",
    ]
    each = {"unit": "each", "unitPrice": "1.60", "quantity": 1, "amount": "1.60"}
    changed = {"breakdown": [each], "eta": eta("catalog"), "settles": "accept", "uploads": 2, "total": "1.62"}
    assert price_lines(Price.model_validate(told | changed))[:4] == [
        "$1.60  veo-3.1/generate",
        "  $1.60 each",
        "  $1.62  with the upload of files that are too large to go inside: 2",
        "  usually within 7 s",
    ]


def test_webhooks_are_told_to_people_with_each_message() -> None:
    told: dict[str, Any] = {"jobId": "job_0", "url": None, "secret": "whsec_a", "publicKey": "whpk_b", "messages": []}
    assert webhook_lines(Webhooks.model_validate(told)) == ["job_0  nobody is told: its order named no webhook"]
    last = {"number": 1, "at": "now", "status": None, "reason": "a.example has no address."}
    messages = [
        {"id": "msg_0", "type": "job.failed", "state": "pending", "nextTryAt": "soon", "tries": [last]},
        {"id": "msg_1", "type": "job.refunded", "state": "delivered", "tries": [last, last | {"status": 204}]},
    ]
    assert webhook_lines(Webhooks.model_validate(told | {"url": "https://a.example", "messages": messages})) == [
        "job_0  https://a.example",
        "  secret   whsec_a",
        "  key      whpk_b",
        "  job.failed  pending  msg_0, 1 try, last a.example has no address, next soon",
        "  job.refunded  delivered  msg_1, 2 tries, last 204",
    ]


def test_an_order_that_is_continued_tells_whose_webhook_holds(tmp_path: Path) -> None:
    unanswered = [Fault(takes=True), Fault(reply=Reply(status=402, body=b"{}"))]
    with shop(tmp_path, faults=unanswered) as (seller, shell):
        shell.json("generate", "nano-banana/generate", "a fox", code=7)
        wish = ("generate", "nano-banana/generate", "a fox", "--webhook", "https://a.example/", "--no-wait")
        assert "an earlier order: its webhook holds (none)" in shell.run(*wish).stderr
        assert shell.run(*wish).stderr.count("webhook") == 0
    sent = [call.headers.get("webhook-url") for call in seller.calls if call.url.endswith("/generate")]
    assert sent == [None] * 4 + ["https://a.example/"] * 2
    assert len(seller.transfers) == 2


def test_a_demonstration_that_cannot_start_its_service_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the cat sat on it >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    told = Shell(home=tmp_path).json("demo", "--output", str(tmp_path / "out"), code=1)
    assert told["code"] == "demo_failed"
    assert "the cat sat on it" in told["error"]

"""Discovery as agents meet it: real documents over HTTP, the registries' own validators, quotes beside challenges."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from mpp import Challenge

from stablestudio.catalog import OFFERINGS, Kind, Offering
from stablestudio.protocols import x402
from stablestudio.server.discovery import answers
from tests.npm import install
from tests.service import Buyer, Service

NPM = Path(__file__).parent / "npm_discovery"
MOST_HEADERS = 12_000
DOCUMENTS = [
    *("/", "/openapi.json", "/api/openapi.json", "/llms.txt", "/agents.txt", "/.well-known/x402", "/api/models"),
    *("/favicon.svg", "/favicon.ico", "/og.png", "/robots.txt", "/.well-known/webhooks.json"),
    *("/docs/errors", "/docs/waiting", "/docs/files", "/docs/openai"),
    *dict.fromkeys(f"/llms/{offering.model}.txt" for offering in OFFERINGS),
    *dict.fromkeys(f"/api/models/{offering.model}" for offering in OFFERINGS),
]
each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)
each_making = pytest.mark.parametrize(
    "offering", [each for each in OFFERINGS if each.kind is not Kind.UPLOAD], ids=lambda offering: offering.key
)


@pytest.fixture
def client(studio: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=studio.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def packages() -> Path:
    install(NPM)
    return NPM


def node(*command: str, **environment: str) -> str:
    ran = subprocess.run(
        ["node", *command], cwd=NPM, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return ran.stdout


def ask(client: httpx2.Client, offering: Offering, body: Any) -> httpx2.Response:
    question = {"model": offering.model, "operation": offering.operation, "input": body}
    return client.post("/api/quote", json=question)


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_the_audit_of_agentcash_finds_nothing(studio: Service) -> None:
    audit = json.loads(node("audit.mjs", BASE=studio.url))

    assert audit["findings"] == []
    paid = {route["path"] for route in audit["routes"] if route["authMode"] == "paid"}
    assert paid == {offering.path for offering in OFFERINGS}
    assert {route["authMode"] for route in audit["routes"]} == {"paid", "siwx", "unprotected"}
    assert 0 < len(audit["guidance"]) <= 4000


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_the_validator_of_mpp_finds_nothing(studio: Service) -> None:
    told = node("node_modules/mppx/dist/bin.js", "discover", "validate", f"{studio.url}/openapi.json")
    assert "valid" in told
    assert not re.search(r"\[(?:error|warning)\]", told)


@pytest.mark.npm
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_the_conformance_run_of_mpp_fails_nowhere_but_at_its_public_faucet(studio: Service, tmp_path: Path) -> None:
    # It pays with coins of a public test network, which it cannot fetch here; it ends before a pipe has taken all it says.
    told = tmp_path / "told.json"
    with told.open("w") as out:
        command = ["node", "--import", "./loopback.mjs", "node_modules/mppx/dist/bin.js", "validate", studio.url]
        subprocess.run(
            [*command, "--output-json"],
            cwd=NPM,
            env={**os.environ, "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            timeout=600,
            check=False,
        )
    verdicts = list(_verdicts(json.loads(told.read_text())))
    assert sum(severity == "pass" for severity, _ in verdicts) >= 10 * len(OFFERINGS)
    assert {label for severity, label in verdicts if severity != "pass" and not label.startswith("Payment")} == set()


def _verdicts(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if "severity" in node:
            yield node["severity"], node["label"]
        for value in node.values():
            yield from _verdicts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _verdicts(value)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_kept_by_clients_until_it_changes(client: httpx2.Client, path: str) -> None:
    whole = client.get(path)
    assert whole.status_code == 200
    assert re.fullmatch(r"public, max-age=\d+", whole.headers["cache-control"])
    assert whole.headers["access-control-allow-origin"] == "*"
    tag = whole.headers["etag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == whole.content

    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert client.options(path).status_code == 204
    wrong = client.post(path)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_both_addresses_have_the_same_document(client: httpx2.Client) -> None:
    assert client.get("/openapi.json").content == client.get("/api/openapi.json").content


def test_a_model_that_is_not_there_is_told_from_one_that_is(client: httpx2.Client) -> None:
    refused = client.get("/api/models/veo3.1")
    assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
    assert "veo-3.1" in refused.json()["error"]


@each_offering
def test_a_challenge_tells_what_to_send_and_stays_small(client: httpx2.Client, offering: Offering) -> None:
    for body in (b"", json.dumps(offering.input.example).encode()):
        answer = client.post(offering.path, content=body)
        assert answer.status_code == 402, answer.text
        size = sum(len(name) + len(value) + 4 for name, value in answer.headers.multi_items())
        assert size < MOST_HEADERS
        # A proxy takes 8 KB in a header, and a payment brings all of this back beside its signature.
        assert len(answer.headers["PAYMENT-REQUIRED"]) < 6_000
        told = x402.decode_required(answer.headers["PAYMENT-REQUIRED"]).extensions["bazaar"]
        assert told["info"]["input"]["body"] == offering.input.example
        Draft202012Validator(told["schema"]).validate(told["info"])


@each_offering
def test_a_quote_is_what_the_challenge_asks_on_every_rail(client: httpx2.Client, offering: Offering) -> None:
    quoted = ask(client, offering, offering.input.example)
    assert quoted.status_code == 200, quoted.text
    Draft202012Validator(answers.QUOTE).validate(quoted.json())

    asked = client.post(offering.path, json=offering.input.example)
    required = x402.decode_required(asked.headers["PAYMENT-REQUIRED"])
    challenges = [Challenge.from_www_authenticate(each) for each in asked.headers.get_list("WWW-Authenticate")]
    offers = [("x402", each.network, each.asset, each.amount) for each in required.accepts]
    for each in challenges:
        chain = f"eip155:{each.request['methodDetails']['chainId']}"
        offers.append(("mpp", chain, each.request["currency"], each.request["amount"]))
    rails = [(rail["protocol"], rail["network"], rail["asset"], rail["amount"]) for rail in quoted.json()["rails"]]
    assert rails == offers
    assert quoted.json()["path"] == offering.path


@each_making
def test_a_quote_refuses_in_the_words_of_the_route_that_sells(client: httpx2.Client, offering: Offering) -> None:
    unfit: list[Any] = [{}, {"prompt": ""}, {"prompt": "a", "promt": "b"}, {"prompt": 1, "size": "huge"}]
    for wrong in unfit:
        refused, sold = ask(client, offering, wrong), client.post(offering.path, content=json.dumps(wrong))
        assert refused.status_code == sold.status_code == 400
        assert told(refused) == below_input(told(sold))


@pytest.mark.parametrize("wrong", ["x", [], None, 7, True])
def test_an_input_that_is_no_object_is_told_as_such(client: httpx2.Client, wrong: Any) -> None:
    (issue,) = ask(client, OFFERINGS[0], wrong).json()["issues"]
    assert (issue["path"], issue["code"]) == (["input"], "not_an_object")
    assert issue["message"].startswith("'input' must be a JSON object")


def test_a_quote_says_when_files_are_looked_at(client: httpx2.Client) -> None:
    wish = {"prompt": "snow", "images": ["https://example.com/a.png"]}
    question = {"model": "grok", "operation": "edit", "input": wish}
    assert "before any money moves" in client.post("/api/quote", json=question).json()["note"]
    question = {"model": "grok", "operation": "generate", "input": {"prompt": "snow"}}
    assert "note" not in client.post("/api/quote", json=question).json()


def test_a_quote_finds_a_field_that_is_given_twice_as_the_route_does(client: httpx2.Client) -> None:
    wrong = '{"prompt": "a", "prompt": "b"}'
    question = f'{{"model": "grok", "operation": "generate", "input": {wrong}}}'
    refused = client.post("/api/quote", content=question)
    assert told(refused) == below_input(told(client.post("/api/generate/grok/generate", content=wrong)))
    assert refused.json()["issues"][0]["code"] == "duplicate_key"


def test_equal_questions_have_equal_answers_that_last(client: httpx2.Client) -> None:
    question = {"model": "veo-3.1", "input": {"prompt": "a fox", "durationSeconds": 4}}
    first, known = client.post("/api/quote", json=question), ""
    deadline = time.monotonic() + 30
    while known != first.headers["etag"] and time.monotonic() < deadline:  # a minute may just end
        first, known = client.post("/api/quote", json=question), first.headers["etag"]
    again = client.post("/api/quote", json=question, headers={"If-None-Match": known})

    assert first.headers["cache-control"] == "private, max-age=60"
    assert (again.status_code, again.content) == (304, b"")
    assert first.json()["price"] == "1.60"
    assert client.options("/api/quote").status_code == 204
    assert client.get("/api/quote").status_code == 405


def test_a_quote_stores_nothing(studio: Service, client: httpx2.Client) -> None:
    import sqlite3

    def count() -> list[int]:
        with sqlite3.connect(studio.database) as books:
            return [books.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("orders", "payments")]

    before = count()
    ask(client, OFFERINGS[0], OFFERINGS[0].input.example)
    assert count() == before


def test_the_list_of_models_and_a_model_s_own_page_agree(client: httpx2.Client) -> None:
    listed = client.get("/api/models").json()["models"]
    assert [(each["path"], each["available"]) for each in listed] == [(each.path, True) for each in OFFERINGS]
    Draft202012Validator(answers.MODELS).validate({"success": True, "models": listed})
    for model in dict.fromkeys(each["model"] for each in listed):
        told = client.get(f"/api/models/{model}").json()["models"]
        summaries = [each for each in listed if each["model"] == model]
        for summary, each in zip(summaries, told, strict=True):
            constant = summary.keys() - {"eta"}
            assert {name: each[name] for name in constant} == {name: summary[name] for name in constant}


def test_real_answers_are_as_the_document_says(studio: Service) -> None:
    with Buyer(studio.url).fund() as buyer:
        path, body = "/api/generate/grok/generate", {"prompt": "a tram"}
        sold = buyer.pay(path, body, buyer.sign(path, body))
        Draft202012Validator(answers.ACCEPTED).validate(sold.json())
        assert sold.headers.keys() >= {"payment-response", "poll-token"}
        held = buyer.pay(path, body, buyer.sign(path, body), Prefer="wait=30").json()
        Draft202012Validator(answers.JOB).validate(held)
        assert (held["status"], "pollAfter" in held) == ("complete", False)
        messages = f"/api/jobs/{held['jobId']}/webhooks"
        Draft202012Validator(answers.MESSAGES).validate(buyer.http.get(messages, headers=buyer.proof(messages)).json())
        job = buyer.wait(sold.json()["jobId"])
        Draft202012Validator(answers.JOB).validate(job)
        Draft202012Validator(answers.JOBS).validate(
            buyer.http.get("/api/jobs", headers=buyer.proof("/api/jobs")).json()
        )
        upload = {"filename": "a.png", "contentType": "image/png"}
        Draft202012Validator(answers.TICKET).validate(
            buyer.pay("/api/upload", upload, buyer.sign("/api/upload", upload)).json()
        )
        for refused in (buyer.http.post(path, json={}), buyer.http.get("/nowhere")):
            Draft202012Validator(answers.ERROR).validate(refused.json())


def test_times_and_paces_follow_the_jobs_that_were_made_here(data: Path) -> None:
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.1"}
    path, body = "/api/generate/grok/edit", {"prompt": "snow", "images": ["data:image/png;base64," + _PIXEL]}
    with Service(data, environment=environment) as service, Buyer(service.url).fund() as buyer:
        slow = buyer.buy(path, body | {"prompt": "snow [sandbox:delay=3600]"})
        assert buyer.job(slow)["pollAfter"] == 5
        for job in [buyer.buy(path, body | {"prompt": f"snow {number}"}) for number in range(5)]:
            assert buyer.wait(job)["status"] == "complete"
        key = buyer.key
    # Within one process they are a minute old at most; the next one reads them at its start.
    with Service(data, environment=environment) as service, Buyer(service.url, key=key) as buyer:
        assert buyer.job(slow)["pollAfter"] == 1
        assert _eta(service)["basis"] == "history"
        assert _eta(service)["jobs"] == 5
        assert 0 < _eta(service)["seconds"] <= _eta(service)["p90Seconds"]


def below_input(refusal: dict[str, Any]) -> dict[str, Any]:
    """Return a refusal of an input as it is said of one that stands within a question."""
    issues = [issue | {"path": ["input", *issue["path"]]} for issue in refusal["issues"]]
    return refusal | {"issues": issues}


def told(answer: httpx2.Response) -> dict[str, Any]:
    """Return an error but for its request's id."""
    body: dict[str, Any] = answer.json()
    assert body.pop("requestId") == answer.headers["x-request-id"]
    return body


def _eta(service: Service) -> dict[str, Any]:
    models = httpx2.get(f"{service.url}/api/models", trust_env=False).json()["models"]
    found: dict[str, Any] = next(each["eta"] for each in models if each["path"] == "/api/generate/grok/edit")
    return found


_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

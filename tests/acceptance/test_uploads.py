"""Uploads as their buyers make them: paid, sent by curl or by Vercel's own client, confirmed, and pointed to by an order."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.doubles import png
from tests.media_samples import clip
from tests.npm import install
from tests.service import Buyer, Service

_PATH = "/api/upload"
_NPM = Path(__file__).parent / "npm_blob"
_PICTURE = {"filename": "cat.png", "contentType": "image/png"}


@pytest.fixture
def buyer(studio: Service) -> Iterator[Buyer]:
    with Buyer(studio.url) as made:
        yield made.fund()


def order(buyer: Buyer, **wanted: str) -> dict[str, Any]:
    body = _PICTURE | wanted
    answer = buyer.pay(_PATH, body, buyer.sign(_PATH, body))
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def put(buyer: Buyer, ticket: dict[str, Any], data: bytes, **headers: str) -> httpx2.Response:
    """Do what the documented curl command does."""
    usual = {"authorization": f"Bearer {ticket['clientToken']}", "x-content-type": "image/png", "x-api-version": "11"}
    return buyer.http.put(
        ticket["uploadUrl"], params={"pathname": ticket["pathname"]}, content=data, headers={**usual, **headers}
    )


def confirm(buyer: Buyer, ticket: dict[str, Any], **changes: str) -> httpx2.Response:
    path = "/api/upload/confirm"
    body = {"uploadId": ticket["uploadId"], "blobUrl": ticket["blobUrl"]} | changes
    return buyer.http.post(path, json=body, headers=buyer.proof(path, fresh=True))


def test_a_picture_is_uploaded_confirmed_and_edited(buyer: Buyer) -> None:
    ticket = order(buyer)
    assert ticket["pathname"] == f"uploads/{ticket['uploadId']}/cat.png"

    sent = put(buyer, ticket, png((64, 48)))
    assert (sent.status_code, sent.json()["url"]) == (200, ticket["blobUrl"])
    confirmed = confirm(buyer, ticket)

    assert confirmed.status_code == 200, confirmed.text
    assert confirmed.json()["upload"]["id"] == ticket["uploadId"]
    assert confirmed.json()["upload"]["expiresAt"] > ticket["expiresAt"]
    assert confirm(buyer, ticket).json() == confirmed.json(), "the same word each time"
    job = buyer.wait(buyer.buy("/api/generate/nano-banana/edit", {"prompt": "bluer", "images": [ticket["blobUrl"]]}))
    assert job["status"] == "complete"


def test_an_order_takes_whatever_was_large_enough_to_upload(buyer: Buyer) -> None:
    ticket, filler = order(buyer, filename="long.mp4", contentType="video/mp4"), 110_000_000
    long = clip(size=(320, 320), seconds=3) + struct.pack(">I", filler) + b"free" + bytes(filler - 8)
    assert put(buyer, ticket, long, **{"x-content-type": "video/mp4"}).status_code == 200
    assert confirm(buyer, ticket).status_code == 200
    body = {"prompt": "x", "urls": [ticket["blobUrl"]], "urlMediaTypes": ["video"], "mode": "reference"}
    assert buyer.wait(buyer.buy("/api/generate/seedance/i2v", body))["status"] == "complete"


def test_of_many_confirmations_of_a_bad_file_none_is_an_error_of_ours(buyer: Buyer) -> None:
    ticket, path = order(buyer), "/api/upload/confirm"
    put(buyer, ticket, b"no picture")
    body = {"uploadId": ticket["uploadId"], "blobUrl": ticket["blobUrl"]}
    proofs = [buyer.proof(path, fresh=True) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda proof: buyer.http.post(path, json=body, headers=proof).json()["code"], proofs))
    assert "upload_not_media" in told
    assert set(told) <= {"upload_not_media", "upload_missing"}


def test_the_same_payment_gets_the_same_place_and_no_second_one(buyer: Buyer) -> None:
    payment = buyer.sign(_PATH, _PICTURE)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: buyer.pay(_PATH, _PICTURE, payment), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert buyer.jobs() == [], "a place for a file is no job"


def test_an_order_for_an_upload_is_no_job_to_read(buyer: Buyer, studio: Service) -> None:
    order(buyer)
    with closing(sqlite3.connect(studio.database, timeout=30)) as connection:
        ((order_id,),) = connection.execute(
            "SELECT order_id FROM uploads WHERE wallet = ?", (f"eip155:{buyer.key.address.lower()}",)
        )
    path = f"/api/jobs/{order_id}"
    assert buyer.http.get(path, headers=buyer.proof(path)).status_code == 404


@pytest.mark.parametrize(
    ("changes", "headers", "code", "words"),
    [
        ({"clientToken": "vercel_blob_client_abc_ZZ"}, {}, "forbidden", "not issued"),
        (
            {"pathname": "uploads/other/cat.png"},
            {},
            "client_token_pathname_mismatch",
            "does not match the token payload",
        ),
        ({}, {"x-content-type": "image/svg+xml"}, "content_type_not_allowed", "is not allowed"),
        ({}, {"x-api-version": "7"}, "bad_request", "11 or 12"),
    ],
)
def test_a_wrong_upload_is_refused_in_the_protocols_words(
    buyer: Buyer, changes: dict[str, str], headers: dict[str, str], code: str, words: str
) -> None:
    ticket = order(buyer)
    refused = put(buyer, ticket | changes, png(), **headers)
    error = refused.json()["error"]
    assert (error["code"], refused.status_code >= 400) == (code, True)
    assert words in error["message"]
    assert put(buyer, ticket, png()).status_code == 200, "the place is still there"


def test_a_file_is_never_overwritten_and_the_same_file_is_no_error(buyer: Buyer) -> None:
    ticket = order(buyer)
    assert put(buyer, ticket, png((8, 8))).status_code == 200
    assert put(buyer, ticket, png((8, 8))).status_code == 200
    again = put(buyer, ticket, png((9, 9)))
    assert (again.status_code, again.json()["error"]["code"]) == (409, "bad_request")


def test_of_many_files_at_once_one_is_taken(buyer: Buyer) -> None:
    ticket = order(buyer)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda side: put(buyer, ticket, png((side, side))), range(8, 18)))
    assert sorted({answer.status_code for answer in answers}) in ([200], [200, 409])
    assert [answer.status_code for answer in answers].count(200) == 1
    assert confirm(buyer, ticket).status_code == 200


@pytest.mark.parametrize("data", [b"", b"<svg onload=alert(1)>", b"<html>", clip(size=(64, 48)), png((64, 64))[:60]])
def test_a_file_that_is_not_what_was_announced_is_not_taken_and_another_may_come(buyer: Buyer, data: bytes) -> None:
    ticket = order(buyer)
    assert put(buyer, ticket, data).status_code == 200
    refused = confirm(buyer, ticket)
    assert (refused.status_code, refused.json()["code"], refused.json()["charged"]) == (400, "upload_not_media", False)
    assert put(buyer, ticket, png()).status_code == 200
    assert confirm(buyer, ticket).status_code == 200


def test_only_the_wallet_that_paid_confirms_and_uses_an_upload(buyer: Buyer, studio: Service) -> None:
    ticket = order(buyer)
    put(buyer, ticket, png())
    with Buyer(studio.url) as stranger:
        stranger.fund()
        assert confirm(stranger, ticket).status_code == 404
        assert confirm(buyer, ticket).status_code == 200
        body = {"prompt": "mine now", "images": [ticket["blobUrl"]]}
        path = "/api/generate/nano-banana/edit"
        refused = stranger.pay(path, body, stranger.sign(path, body))
        assert (refused.status_code, refused.json()["charged"]) == (400, False)
        assert refused.json()["issues"][0]["path"] == ["images", 0]


def test_what_is_not_there_or_not_confirmed_is_no_input(buyer: Buyer) -> None:
    ticket = order(buyer)
    early = confirm(buyer, ticket)
    assert (early.status_code, early.json()["code"]) == (409, "upload_missing")
    put(buyer, ticket, png())
    path, body = "/api/generate/nano-banana/edit", {"prompt": "a", "images": [ticket["blobUrl"]]}
    refused = buyer.pay(path, body, buyer.sign(path, body))
    assert (refused.status_code, refused.json()["issues"][0]["code"]) == (400, "upload_missing")
    wrong = confirm(buyer, ticket, blobUrl=ticket["blobUrl"] + "x")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "blob_url_mismatch")


def test_a_proof_confirms_once(buyer: Buyer) -> None:
    ticket, path = order(buyer), "/api/upload/confirm"
    put(buyer, ticket, png())
    body, proof = {"uploadId": ticket["uploadId"], "blobUrl": ticket["blobUrl"]}, buyer.proof(path, fresh=True)
    assert buyer.http.post(path, json=body, headers=proof).status_code == 200
    assert buyer.http.post(path, json=body, headers=proof).status_code == 402
    assert confirm(buyer, ticket).status_code == 200, "confirming again changes nothing"


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "multipart"), [(1, False), (5_000_000, False), (200_000_000, True)])
def test_the_stock_client_uploads_files_of_any_size(
    buyer: Buyer,
    tmp_path: Path,
    size: int,
    multipart: bool,  # noqa: FBT001 - the case
) -> None:
    install(_NPM)
    file = tmp_path / "file.png"
    with file.open("wb") as out:
        out.write(png()[:size])
        out.truncate(size)
    ticket = order(buyer)
    told = _run(file, ticket, multipart=multipart)

    assert told.get("result", {}).get("url") == ticket["blobUrl"], told
    assert told["result"]["contentType"] == "image/png"
    confirmed = confirm(buyer, ticket)
    assert confirmed.status_code == (400 if size == 1 else 200), confirmed.text
    if size > 1:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert (confirmed.json()["upload"]["size"], confirmed.json()["upload"]["sha256"]) == (size, digest)


@pytest.mark.npm
@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"pathname": "uploads/other.png"}, "BlobPathnameMismatchError"),
        ({"type": "text/html"}, "BlobContentTypeNotAllowedError"),
    ],
)
def test_the_stock_client_understands_a_refusal(
    buyer: Buyer, tmp_path: Path, changes: dict[str, str], name: str
) -> None:
    install(_NPM)
    file = tmp_path / "file.png"
    file.write_bytes(png())
    told = _run(file, order(buyer) | changes)
    assert told["error"]["name"] == name, told


def _run(file: Path, ticket: dict[str, Any], *, multipart: bool = False) -> dict[str, Any]:
    environment = {
        "FILE": str(file),
        "PATHNAME": ticket["pathname"],
        "TOKEN": ticket["clientToken"],
        "TYPE": ticket.get("type", "image/png"),
        "MULTIPART": "1" if multipart else "0",
        "VERCEL_BLOB_API_URL": ticket["uploadUrl"],
        "VERCEL_BLOB_RETRIES": "1",
    }
    ran = subprocess.run(
        ["node", "put.mjs"],
        check=False,
        cwd=_NPM,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told

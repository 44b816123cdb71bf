"""A payment or a proof of which any part that counts was changed buys nothing and lets nobody in."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.acceptance.fuzzing import (
    BODY,
    CANARY,
    PATH,
    JsonPath,
    Target,
    any_json,
    any_text,
    armoured,
    changed,
    changes,
    check,
    fuzz,
    header_bytes,
    parts,
)
from tests.acceptance.raw_http import request

Change = Callable[[Any], Any]

_tokens = (
    header_bytes.map(lambda data: CANARY.encode() + data)
    | any_json.map(armoured)
    | st.dictionaries(any_text, any_json).map(lambda value: armoured({"x402Version": 2, **value}))
    | st.binary().map(base64.b64encode)
    | st.just(base64.b64encode(b"[" * 30_000))
    | st.just(base64.b64encode(b'{"a":' * 1_000 + b"1" + b"}" * 1_000))
    | st.just(b"e30" * 5_000)
)


@pytest.mark.parametrize(
    ("header", "method", "path"),
    [
        (b"payment-signature", "POST", PATH),
        (b"sign-in-with-x", "GET", "/api/jobs"),
        (b"sign-in-with-x", "GET", "/api/jobs/job_x"),
        (b"sign-in-with-x", "DELETE", "/api/jobs/job_x"),
    ],
)
def test_any_text_as_a_payment_or_a_proof_is_refused(target: Target, header: bytes, method: str, path: str) -> None:
    def shot(token: bytes) -> None:
        body = json.dumps(BODY).encode() if method == "POST" else b""
        answer = target.send(request(method, path, headers=[(header, token)], body=body), method=method)
        check(answer, statuses={402})

    fuzz({"token": _tokens}, shot)


# What is not signed and not compared: an echo of the challenge, in which clients change things at will.
_HEARSAY = (("resource",), ("extensions",), ("accepted", "maxTimeoutSeconds"), ("accepted", "extra"))


def _is_hearsay(path: JsonPath) -> bool:
    return any(path[: len(prefix)] == prefix for prefix in _HEARSAY)


def test_a_payment_with_a_part_that_counts_changed_buys_nothing(target: Target) -> None:
    paths = [path for path in parts(target.payment()) if not _is_hearsay(path)]

    def shot(path: JsonPath, change: Change) -> None:
        payment = target.payment()
        spoilt = changed(payment, path, change)
        if spoilt != payment:
            check(target.pay(spoilt), statuses={402}, secrets=(CANARY, payment["payload"]["signature"][2:]))

    fuzz({"path": st.sampled_from(paths), "change": changes}, shot, examples=400)


def test_a_payment_buys_one_order_whatever_is_hung_on_it(shot_at: Target) -> None:
    payment, before = shot_at.sign_payment(), shot_at.books()
    orders = {shot_at.pay(payment).json()["jobId"]}

    def shot(path: JsonPath, change: Change) -> None:
        answer = shot_at.pay(changed(payment, path, change))
        check(answer, statuses={200, 402})
        if answer.status == 200:
            orders.add(answer.json()["jobId"])

    fuzz({"path": st.sampled_from([*filter(_is_hearsay, parts(payment))]), "change": changes}, shot)
    after = shot_at.books()
    assert len(orders) == 1
    assert {name: after[name] - before[name] for name in after} == {
        "orders": 1,
        "payments": 1,
        "jobs": 1,
        "refunds": 0,
        "transfers": 1,
    }


def test_a_wrong_idempotency_key_is_refused_before_the_payment_counts(target: Target) -> None:
    def shot(key: bytes) -> None:
        check(target.pay(target.payment(), (b"idempotency-key", key)), statuses={400})

    wrong = header_bytes.filter(lambda data: not data or any(not 0x21 <= byte <= 0x7E for byte in data))
    fuzz({"key": wrong | st.just(b"k" * 256) | st.just(b"two words")}, shot)


def test_a_proof_with_a_part_changed_lets_nobody_in(target: Target) -> None:
    let_in = target.read_list(target.proof())
    assert let_in is not None
    assert let_in.status == 200
    # Where `type` is missing, the chain tells it.
    paths = [path for path in parts(target.proof()) if path != ("type",)]

    def shot(path: JsonPath, change: Change) -> None:
        proof = target.proof()
        spoilt = changed(proof, path, change)
        if spoilt != proof:
            check(target.read_list(spoilt), statuses={402}, secrets=(proof["signature"][2:],))

    fuzz({"path": st.sampled_from(paths), "change": changes}, shot, examples=400)

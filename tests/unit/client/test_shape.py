from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stablestudio.client
from stablestudio.client import errors
from stablestudio.client.answers import api_error
from stablestudio.client.errors import BuyerError
from stablestudio.client.orders import Accepted, Refused, SendAgain, judge
from stablestudio.client.steps import Lost, Reply

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TOLD = st.dictionaries(
    st.sampled_from(["error", "code", "hint", "issues", "charged", "retryable", "jobId", "message", "reason"]), JSON
)
BODIES = st.binary(max_size=20) | TOLD.map(lambda told: json.dumps(told).encode())


def family(kind: type[BuyerError]) -> set[str]:
    return {kind.__name__}.union(*(family(child) for child in kind.__subclasses__()))


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(set(drawn)) == sorted(errors.__all__) == sorted(family(BuyerError))


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_says_what_and_what_to_do(name: str) -> None:
    kind = getattr(errors, name)
    assert (kind.__doc__ or "").splitlines()[0].endswith((".", ";")) or name == "StudioApiError"
    assert kind.hint.endswith(".")


def test_the_public_names_are_sorted_and_there() -> None:
    names = stablestudio.client.__all__
    assert names == sorted(names)
    assert all(hasattr(stablestudio.client, name) for name in names)


def test_the_buyers_side_imports_nothing_of_the_server() -> None:
    code = "import stablestudio.client, stablestudio.client.fakes, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    floors = {"catalog", "media", "store", "payments", "providers", "sandbox", "jobs", "sales", "server", "config"}
    assert not {name for name in loaded if name.startswith("stablestudio.") and name.split(".")[1] in floors}
    assert not {"sqlalchemy", "dbos", "starlette", "PIL", "av", "uvicorn"} & set(loaded)


@given(status=st.integers(200, 599), body=BODIES, after=st.none() | st.text(max_size=30))
def test_no_answer_to_a_payment_is_a_surprise(status: int, body: bytes, after: str | None) -> None:
    reply = Reply(status=status, headers={} if after is None else {"retry-after": after}, body=body)
    match judge(reply):
        case Accepted():
            assert status in {200, 201}
            assert "jobId" in reply.document()
        case SendAgain(doubt=doubt, after=wait):
            assert status < 300 or status >= 500 or status in {408, 425, 429}
            assert doubt or status >= 400
            assert wait is None or wait >= 0
        case Refused(error=error, certain=certain):
            assert 300 <= status < 500
            assert not certain or error.money_moved is False


@given(status=st.integers(300, 599), body=BODIES)
def test_every_error_answer_can_be_told(status: int, body: bytes) -> None:
    error = api_error(Reply(status=status, body=body))
    told = json.loads(json.dumps(error.body()))
    assert told["error"]
    assert told["code"]
    assert told["status"] == status


def test_what_certainly_never_left_raises_no_doubt() -> None:
    assert judge(Lost(reason="refused", sent=False)) == SendAgain(reason="refused", doubt=False)
    assert judge(Lost(reason="reset", sent=True)) == SendAgain(reason="reset", doubt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:00 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert Reply(status=503, headers=headers).retry_after() == seconds

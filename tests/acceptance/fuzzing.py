"""What fuzz tests share: a service to shoot at, what its answers must look like, junk to shoot, and ways to spoil what is good."""

from __future__ import annotations

import base64
import copy
import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.acceptance.raw_http import NOT_HTTP, Answer, HeaderLines, check_discreet, check_error, exchange, request
from tests.service import Buyer, Service

Strategy = st.SearchStrategy[Any]
JsonPath = tuple[str | int, ...]

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().getrandbits(32))
CANARY = "canary7Q4xW"
PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": CANARY}
MAX_BODY = 300_000
ANSWERS = {200, 204, 400, 402, 403, 404, 405, 409, 410, 413, 416, 503}
_MAX_HEADERS = 12_000  # contract section 2
_FRESH_SECONDS = 120


def fuzz(strategies: dict[str, Strategy], check: Callable[..., None], *, examples: int = 150) -> None:
    """Run a check on many examples.

    `FUZZ_EXAMPLES=5000` makes it a long run; `FUZZ_SEED`, printed with a failure, repeats one.
    """
    print(f"FUZZ_SEED={SEED}")  # noqa: T201 - shown where the test fails
    count = int(os.environ.get("FUZZ_EXAMPLES") or examples)
    seed(SEED)(settings(max_examples=count, print_blob=True)(given(**strategies)(check)))()


class Long(bytes):
    """Bytes too many to be printed with a failure."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes: {bytes(self[:60])!r}>"


class Target:
    """A service that is shot at, and a funded wallet whose payment and proof hold until a part of them is changed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.buyer = Buyer(service.url).fund()
        self._made: dict[str, tuple[float, dict[str, Any]]] = {}

    def send(self, data: bytes, *, method: str = "GET", cut: bool = False) -> Answer | None:
        return exchange(self.service.port, data, method=method, cut=cut)

    def post(self, path: str, body: bytes, headers: HeaderLines = ()) -> Answer:
        answer = self.send(request("POST", path, headers=headers, body=body), method="POST")
        assert answer is not None
        return answer

    def pay(self, payment: object, *headers: tuple[bytes, bytes]) -> Answer:
        return self.post(PATH, json.dumps(BODY).encode(), [(b"payment-signature", armoured(payment)), *headers])

    def read_list(self, proof: object, query: str = "") -> Answer | None:
        return self.send(request("GET", f"/api/jobs{query}", headers=[(b"sign-in-with-x", armoured(proof))]))

    def sign_payment(self) -> dict[str, Any]:
        """Return the content of a new PAYMENT-SIGNATURE that buys `BODY` at `PATH`."""
        return _unarmoured(self.buyer.sign(PATH, BODY))

    def payment(self) -> dict[str, Any]:
        """Return the content of a payment that was never presented."""
        return self._fresh("payment", self.sign_payment)

    def proof(self) -> dict[str, Any]:
        """Return the content of a SIGN-IN-WITH-X that reads the list of jobs."""
        return self._fresh("proof", lambda: _unarmoured(self.buyer.proof("/api/jobs", fresh=True)["SIGN-IN-WITH-X"]))

    def books(self) -> dict[str, int]:
        """Count what only a sale may make."""
        counts = {name: f"SELECT count(*) FROM {name}" for name in ("orders", "payments", "jobs", "refunds")}
        counts["transfers"] = "SELECT count(*) FROM ledger_transactions WHERE nonce IS NOT NULL"
        with closing(sqlite3.connect(f"file:{self.service.data / 'stablestudio.db'}?mode=ro", uri=True)) as books:
            return {name: books.execute(sql).fetchone()[0] for name, sql in counts.items()}

    def faults(self) -> list[str]:
        """Return what the service wrote down as its own failure."""
        lines = self.service.log.read_text().splitlines()
        return [line for line in lines if '"level": "error"' in line or line.startswith("Traceback")]

    def _fresh(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        made_at, made = self._made.get(name, (0.0, {}))
        if not made or time.monotonic() - made_at > _FRESH_SECONDS:
            made = make()
            self._made[name] = time.monotonic(), made
        return copy.deepcopy(made)


def armoured(value: object) -> bytes:
    return base64.b64encode(json.dumps(value).encode())


def _unarmoured(header: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(base64.b64decode(header))
    return content


def check(answer: Answer | None, *, secrets: Sequence[str] = (CANARY,), statuses: set[int] = ANSWERS) -> None:
    """Assert that an answer is one that the service makes on purpose."""
    if answer is None:
        return
    assert answer.status in statuses, answer
    if answer.status >= 400 and answer.body not in (b"", b"{}"):
        check_error(answer, secrets=secrets)
    check_discreet(answer, secrets=secrets)
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers) < _MAX_HEADERS


def check_rough(answer: Answer | None) -> None:
    """Assert the same of an answer to what need not be HTTP at all."""
    if answer is None or (answer.status, answer.body) != NOT_HTTP:
        check(answer, statuses=ANSWERS | {308, 431})


any_text = st.text(st.characters(exclude_categories=()), max_size=40)  # with lone surrogates and NUL
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60)
_numbers = (
    st.integers() | st.integers(-(1 << 300), 1 << 300) | st.floats() | st.sampled_from([0, -1, 1 << 53, 1 << 256])
)
any_json = st.recursive(
    st.none() | st.booleans() | _numbers | any_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_text, inner, max_size=5),
    max_leaves=12,
)
header_bytes = (  # what a header may hold: no control characters
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=120).map(
        lambda text: text.encode("latin-1").strip()
    )
)


def parts(value: object, path: JsonPath = ()) -> Iterator[JsonPath]:
    """Yield the paths of everything in a JSON value."""
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in members:
        yield from parts(inner, (*path, name))


def changed(value: Any, path: JsonPath, change: Callable[[Any], Any]) -> Any:
    """Return a copy with one part changed, or left out where the change says so."""
    value = copy.deepcopy(value)
    holder = value
    for name in path[:-1]:
        holder = holder[name]
    new = change(holder[path[-1]])
    if new is _LEFT_OUT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return value


_LEFT_OUT = object()
_OTHER_DIGITS = {ord("0"): 0xFF10, ord("1"): 0xFF11, ord("2"): 0x0662}


def _of_text(change: Callable[[str], object]) -> Callable[[Any], Any]:
    return lambda old: change(old) if isinstance(old, str) else [old]


changes = st.sampled_from(
    [
        _of_text(lambda old: old + "0"),
        _of_text(lambda old: "0" + old),
        _of_text(lambda old: old[:-1]),
        _of_text(lambda old: old + "\n"),
        _of_text(lambda old: " " + old),
        _of_text(lambda old: "-" + old),
        _of_text(lambda old: old * 2),
        _of_text(lambda old: old * 200),
        _of_text(lambda old: old[:-1] + chr(ord(old[-1]) ^ 1) if old else "1"),
        _of_text(lambda old: old.translate(_OTHER_DIGITS)),
        _of_text(lambda old: int(old) if old.isdecimal() else {}),
        _of_text(lambda old: str(int(old) + 1) if old.isdecimal() else ""),
        lambda _: _LEFT_OUT,
        lambda old: {"a": old},
        lambda old: [old, old],
    ]
) | any_json.map(lambda new: lambda _: new)

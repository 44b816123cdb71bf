"""Whatever is sent over a real socket, the service answers it in its own words or hangs up, and no money moves.

`FUZZ_EXAMPLES=5000` makes it a long run; `FUZZ_SEED`, printed with a failure, repeats one.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, Kind
from tests.acceptance import raw_http
from tests.acceptance.raw_http import Answer, check_discreet, check_error, exchange, request
from tests.service import Buyer, Service

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().getrandbits(32))
CANARY = "canary7Q4xW"
PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": CANARY}
SELLING = [offering.path for offering in OFFERINGS if offering.kind is not Kind.UPLOAD]
ANSWERS = {200, 204, 400, 402, 403, 404, 405, 409, 410, 413, 416, 503}
MAX_BODY = 300_000
_FRESH_SECONDS = 120

JsonPath = tuple[str | int, ...]


def fuzz(strategies: dict[str, st.SearchStrategy[Any]], check: Callable[..., None], *, examples: int = 150) -> None:
    """Run a check on many examples; more of them where the environment says so."""
    count = int(os.environ.get("FUZZ_EXAMPLES") or examples)
    print(f"FUZZ_SEED={SEED}")  # noqa: T201 - shown with a failure
    seed(SEED)(settings(max_examples=count, deadline=None, print_blob=True)(given(**strategies)(check)))()


class Target:
    """A service that is shot at, and a funded wallet with a payment and a proof that hold until one part is changed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.buyer = Buyer(service.url).fund()
        self._made: dict[str, tuple[float, dict[str, Any]]] = {}

    def send(self, data: bytes, *, method: bytes = b"GET", cut: bool = False) -> Answer | None:
        return exchange(self.service.port, data, method=method, cut=cut)

    def post(self, target: str, body: bytes, headers: raw_http.HeaderLines = ()) -> Answer:
        answer = self.send(request(b"POST", target.encode(), headers=headers, body=body), method=b"POST")
        assert answer is not None
        return answer

    def payment(self) -> dict[str, Any]:
        """Return the content of a PAYMENT-SIGNATURE that buys `BODY` at `PATH`."""
        return self._fresh("payment", lambda: self.buyer.sign(PATH, BODY))

    def proof(self) -> dict[str, Any]:
        """Return the content of a SIGN-IN-WITH-X that reads the list of jobs."""
        return self._fresh("proof", lambda: self.buyer.proof("/api/jobs", fresh=True)["SIGN-IN-WITH-X"])

    def pay(self, payment: object, *headers: tuple[bytes, bytes]) -> Answer:
        return self.post(PATH, json.dumps(BODY).encode(), [(b"payment-signature", armoured(payment)), *headers])

    def read_list(self, proof: object, query: str = "") -> Answer | None:
        return self.send(request(b"GET", b"/api/jobs" + query.encode(), headers=[(b"sign-in-with-x", armoured(proof))]))

    def _fresh(self, name: str, make: Callable[[], str]) -> dict[str, Any]:
        made_at, made = self._made.get(name, (0.0, {}))
        if time.monotonic() - made_at > _FRESH_SECONDS or not made:
            made = json.loads(base64.b64decode(make()))
            self._made[name] = time.monotonic(), made
        return copy.deepcopy(made)

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


@pytest.fixture(scope="module")
def shot_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service of its own, so that nobody else moves its money."""
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.1", "STABLESTUDIO_MAX_BODY_BYTES": str(MAX_BODY)}
    with Service(tmp_path_factory.mktemp("fuzz"), environment=environment) as service:
        yield Target(service)


@pytest.fixture
def target(shot_at: Target) -> Iterator[Target]:
    """The service; afterwards it must be alive, without a fault of its own, and nothing may have been sold."""
    before, faults = shot_at.books(), len(shot_at.faults())
    yield shot_at
    assert shot_at.service.alive
    healthy = shot_at.send(request(b"GET", b"/health"))
    assert healthy is not None
    assert healthy.json()["status"] == "ok"
    assert shot_at.books() == before
    assert shot_at.faults()[faults:] == []


def armoured(value: object) -> bytes:
    return base64.b64encode(json.dumps(value).encode())


def check(answer: Answer | None, *, secrets: Sequence[str] = (CANARY,), statuses: set[int] = ANSWERS) -> None:
    """Assert that an answer is one that we make."""
    if answer is None:
        return
    assert answer.status in statuses, answer
    if answer.status >= 400 and answer.body not in (b"", b"{}"):
        check_error(answer, secrets=secrets)
    check_discreet(answer, secrets=secrets)
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers) < 12_000


_anything = st.text(st.characters(exclude_categories=()), max_size=40)  # with lone surrogates and NUL
_numbers = (
    st.integers() | st.integers(-(1 << 300), 1 << 300) | st.floats() | st.sampled_from([0, -1, 1 << 53, 1 << 256])
)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | _anything,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_anything, inner, max_size=5),
    max_leaves=12,
)
_visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
_fields = sorted({name for offering in OFFERINGS for name in offering.input.model_fields})
_nearly_right = st.dictionaries(st.sampled_from(_fields), _json | st.lists(_json, max_size=70), max_size=8)
_encoded = (_json | _nearly_right).map(lambda value: json.dumps(value).encode())
_monsters = st.sampled_from(
    [
        b"[" * 100_000,
        b'{"prompt":' * 30_000,
        b'{"a":' * 150 + b"1" + b"}" * 150,
        b'{"prompt": "a", "seed": ' + b"9" * 100_000 + b"}",
        b'{"prompt": "a", "seed": 1e999999}',
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\\u0000"}',
        b'{"prompt": NaN}',
        b'{"prompt": "a"} trailing',
        b'\xef\xbb\xbf{"prompt": "a"}',
        '{"prompt": "a"}'.encode("utf-16"),
        b'{"' + b"k" * 200_000 + b'": 1}',
        json.dumps({f"k{index}": index for index in range(20_000)}).encode(),
        json.dumps({"prompt": "a", "images": [1] * 50_000}).encode(),
        json.dumps({"urls": [1] * 60, "audioUrls": [1], "duration": "5", "prompt": "a"}).encode(),
        b"a" * (MAX_BODY + 1),
        gzip.compress(b'{"prompt": "a"}'),
        b"prompt=a&imageSize=1K",
    ]
)
_bodies = st.binary(max_size=200) | _encoded | _monsters
_methods = st.sampled_from("GET HEAD POST PUT DELETE PATCH OPTIONS TRACE PROPFIND LOCK QUERY".split())
_known = st.sampled_from(
    [*SELLING, "/api/upload", "/api/upload/confirm", "/api/jobs", "/api/jobs/job_x", "/assets/job_x/0.png", "/health"]
    + ["/api/models", "/docs/errors", "/faucet", "/rpc/base-sepolia", "/", "*", "http://evil.example/health"]
)
_twists = st.sampled_from(
    ["", "/", "//", "/.", "/..", "/..;/", "%2F", "%2f..", "%00", "%0d%0aX-Evil:1", "%ff%fe", "%F0%9F%98%80", "%", "%zz"]
    + [";a=b", "?", "??a=b&a=c", "#x", "/%2e%2e/%2e%2e/secret", "\\", "|", "x" * 70_000]
)
_targets = st.builds(
    lambda base, twist, other, shout: (base.upper() if shout else base) + twist + other,
    _known,
    _twists,
    st.just("") | _visible,
    st.booleans(),
)


def test_any_method_and_path_gets_an_answer_of_ours(target: Target) -> None:
    def shot(method: str, path: str, body: bytes) -> None:
        answer = target.send(request(method.encode(), path.encode(), body=body), method=method.encode())
        if answer is None or (answer.status, answer.body) != raw_http.NOT_HTTP:
            check(answer)

    fuzz({"method": _methods, "path": _targets, "body": st.just(b"") | _encoded}, shot)


_header_names = st.sampled_from(
    [b"Host", b"PAYMENT-SIGNATURE", b"SIGN-IN-WITH-X", b"Idempotency-Key", b"X-PAYMENT", b"Authorization", b"Range"]
    + [b"Content-Type", b"Content-Encoding", b"Transfer-Encoding", b"Content-Length", b"Expect", b"Connection"]
    + [b"Upgrade", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded", b"Cookie", b"If-Range"]
    + [b"HTTP2-Settings", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Accept", b"Origin"]
)
_header_values = (
    st.sampled_from(
        [
            b"",
            b"chunked",
            b"gzip",
            b"100-continue",
            b"upgrade",
            b"websocket",
            b"h2c",
            b"13",
            b"-1",
            b"99999999999999999999",
        ]
        + [b"bytes=0-", b"bytes=-", b"evil.example", b"[evil", b"Payment e30", b"a" * 60_000, CANARY.encode()]
    )
    | st.binary(max_size=40)
    | st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: text.encode("latin-1"))
)
_header_lists = st.lists(st.tuples(_header_names, _header_values), max_size=6)


@pytest.mark.parametrize("path", [PATH, "/api/jobs", "/health", "/faucet"])
def test_any_headers_get_an_answer_or_a_clean_close(target: Target, path: str) -> None:
    def shot(method: str, headers: list[tuple[bytes, bytes]]) -> None:
        data = request(method.encode(), path.encode(), headers=headers, body=b'{"prompt": "a"}')
        # A frame that promises more than there is gets no answer until we end our side.
        answer = target.send(data, method=method.encode(), cut=_may_wait(headers))
        if answer is None or (answer.status, answer.body) != raw_http.NOT_HTTP:
            check(answer)

    fuzz({"method": _methods, "headers": _header_lists}, shot)


def _may_wait(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name in (b"Transfer-Encoding", b"Content-Length", b"Connection", b"Upgrade") for name, _ in headers)


def test_a_websocket_handshake_is_no_failure(target: Target) -> None:
    headers = [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
    headers.append((b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="))

    check(target.send(request(b"GET", PATH.encode(), headers=headers)))


def test_bytes_that_are_hardly_http_get_an_answer_or_a_clean_close(target: Target) -> None:
    whole = request(b"POST", PATH.encode(), body=b'{"prompt": "a"}')
    chunked = b'POST /api/upload HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'

    def shot(base: bytes, start: int, end: int, junk: bytes) -> None:
        answer = target.send(base[: start % len(base)] + junk + base[end % len(base) :], method=b"POST", cut=True)
        if answer is None or (answer.status, answer.body) != raw_http.NOT_HTTP:
            check(answer)

    places = st.integers(0, 400)
    fuzz(
        {"base": st.sampled_from([whole, chunked]), "start": places, "end": places, "junk": st.binary(max_size=30)},
        shot,
    )


def test_any_body_is_quoted_or_refused(target: Target) -> None:
    def shot(path: str, body: bytes, encoding: bytes) -> None:
        answer = target.post(path, body, [(b"content-encoding", encoding)])
        # Names of unknown fields are told, so the body itself is looked for only where it is long.
        check(answer, statuses={400, 402, 413}, secrets=())

    encodings = st.sampled_from([b"identity", b"gzip", b"br, gzip"])
    fuzz({"path": st.sampled_from(SELLING), "body": _bodies, "encoding": encodings}, shot, examples=400)


_header_text = st.binary(max_size=120).filter(lambda data: not set(data) & set(b"\r\n\0") and data == data.strip())
_tokens = (
    _header_text.map(lambda data: CANARY.encode() + data)
    | _json.map(armoured)
    | st.dictionaries(_anything, _json).map(lambda value: armoured({"x402Version": 2, **value}))
    | st.binary().map(base64.b64encode)
    | st.just(base64.b64encode(b"[" * 30_000))
    | st.just(base64.b64encode(b'{"a":' * 5_000 + b"1" + b"}" * 5_000))
    | st.just(b"e30" * 5_000)
)


@pytest.mark.parametrize(("header", "method", "path"), [
    (b"payment-signature", b"POST", PATH.encode()),
    (b"sign-in-with-x", b"GET", b"/api/jobs"),
    (b"sign-in-with-x", b"GET", b"/api/jobs/job_x"),
    (b"sign-in-with-x", b"DELETE", b"/api/jobs/job_x"),
])  # fmt: skip
def test_any_text_as_a_payment_or_a_proof_is_refused(target: Target, header: bytes, method: bytes, path: bytes) -> None:
    def shot(token: bytes) -> None:
        body = json.dumps(BODY).encode() if method == b"POST" else b""
        answer = target.send(request(method, path, headers=[(header, token)], body=body), method=method)
        # Bytes that no header may hold are refused before we see them.
        if answer is None or (answer.status, answer.body) != raw_http.NOT_HTTP:
            check(answer, statuses={402})

    fuzz({"token": _tokens}, shot)


def _nodes(value: object, path: JsonPath = ()) -> Iterator[JsonPath]:
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in members:
        yield from _nodes(inner, (*path, name))


def _changed(value: Any, path: JsonPath, change: Callable[[Any], Any]) -> Any:
    """Return a copy with one part changed; the part is left out where the change says so."""
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


def _text_change(change: Callable[[str], object]) -> Callable[[Any], Any]:
    return lambda old: change(old) if isinstance(old, str) else [old]


_CHANGES: list[Callable[[Any], Any]] = [
    _text_change(lambda old: old + "0"),
    _text_change(lambda old: "0" + old),
    _text_change(lambda old: old[:-1]),
    _text_change(lambda old: old + "\n"),
    _text_change(lambda old: " " + old),
    _text_change(lambda old: "-" + old),
    _text_change(lambda old: old * 2),
    _text_change(lambda old: old * 200),
    _text_change(lambda old: old[:-1] + chr(ord(old[-1]) ^ 1) if old else "1"),
    _text_change(lambda old: old.translate({ord("1"): "１", ord("0"): "０"}) + "٣"),
    _text_change(lambda old: int(old) if old.isdecimal() else {}),
    _text_change(lambda old: str(int(old) + 1) if old.isdecimal() else ""),
    lambda old: _LEFT_OUT,
    lambda old: {"a": old},
    lambda old: [old, old],
]
_changes = st.sampled_from(_CHANGES) | _json.map(lambda new: lambda old: new)
_HEARSAY = (("resource",), ("extensions",), ("accepted", "maxTimeoutSeconds"), ("accepted", "extra"))


def _is_hearsay(path: JsonPath) -> bool:
    return any(path[: len(prefix)] == prefix for prefix in _HEARSAY)


def test_a_payment_with_a_part_that_counts_changed_buys_nothing(target: Target) -> None:
    paths = [path for path in _nodes(target.payment()) if not _is_hearsay(path)]

    def shot(path: JsonPath, change: Callable[[Any], Any]) -> None:
        payment = target.payment()
        changed = _changed(payment, path, change)
        if changed != payment:
            signature = payment["payload"]["signature"][2:]
            check(target.pay(changed), statuses={402}, secrets=(CANARY, signature))

    fuzz({"path": st.sampled_from(paths), "change": _changes}, shot, examples=400)


def test_a_payment_buys_one_order_whatever_is_hung_on_it(shot_at: Target) -> None:
    """What is not signed may be anything, and it is this that the other tests' payment lacks: it does buy."""
    payment = Target(shot_at.service).payment()
    before = shot_at.books()
    orders = {shot_at.pay(payment).json()["jobId"]}

    def shot(path: JsonPath, change: Callable[[Any], Any]) -> None:
        answer = shot_at.pay(_changed(payment, path, change))
        check(answer, statuses={200, 402})
        if answer.status == 200:
            orders.add(answer.json()["jobId"])

    fuzz({"path": st.sampled_from([*filter(_is_hearsay, _nodes(payment))]), "change": _changes}, shot)
    after = shot_at.books()
    assert len(orders) == 1
    assert {name: after[name] - before[name] for name in ("orders", "payments", "jobs", "transfers")} == {
        "orders": 1,
        "payments": 1,
        "jobs": 1,
        "transfers": 1,
    }


def test_a_wrong_idempotency_key_is_refused_before_the_payment_counts(target: Target) -> None:
    def shot(key: bytes) -> None:
        answer = target.pay(target.payment(), (b"idempotency-key", key))
        if (answer.status, answer.body) != raw_http.NOT_HTTP:
            check(answer, statuses={400})

    wrong = _header_text.filter(lambda data: not data or any(not 0x21 <= byte <= 0x7E for byte in data))
    fuzz({"key": wrong | st.just(b"k" * 256) | st.just(b"two words")}, shot)


def test_a_proof_with_a_part_changed_lets_nobody_in(target: Target) -> None:
    assert getattr(target.read_list(target.proof()), "status", None) == 200
    paths = [path for path in _nodes(target.proof()) if path != ("type",)]

    def shot(path: JsonPath, change: Callable[[Any], Any]) -> None:
        proof = target.proof()
        changed = _changed(proof, path, change)
        if changed != proof:
            check(target.read_list(changed), statuses={402}, secrets=(proof["signature"][2:],))

    fuzz({"path": st.sampled_from(paths), "change": _changes}, shot, examples=400)


def test_any_filter_of_the_job_list_is_applied_or_refused(target: Target) -> None:
    def shot(terms: list[tuple[str, str]]) -> None:
        query = "?" + "&".join(f"{name}={value}" for name, value in terms)
        check(target.read_list(target.proof(), query), statuses={200, 400})

    values = st.sampled_from(
        ["", "0", "1", "101", "-1", "1e3", "%31", "%EF%BC%91", "complete", "%00", "%ff", "~", "job_0"]
    )
    names = st.sampled_from(["limit", "status", "before", "Limit", "wallet", "%6cimit", "", "a%00"])
    fuzz(
        {"terms": st.lists(st.tuples(names, values | _visible.filter(lambda text: "#" not in text)), max_size=12)}, shot
    )


def test_any_link_to_an_asset_that_is_not_ours_leads_nowhere(target: Target) -> None:
    def shot(method: str, key: str, exp: str, sig: str, span: bytes) -> None:
        path = f"/assets/{key}?exp={exp}&sig={sig}".encode()
        answer = target.send(request(method.encode(), path, headers=[(b"range", span)]), method=method.encode())
        check(answer, statuses={403, 404, 405, 410})

    words = st.sampled_from(["", "0", "99999999999999999999", "%ff", "..%2f..", "%00", "a/../b"])
    words |= _visible.filter(lambda text: "#" not in text)
    spans = st.sampled_from([b"bytes=0-", b"bytes=9-1", b"junk"])
    fuzz({"method": _methods, "key": words, "exp": words, "sig": words, "span": spans}, shot)


_RPC = "eth_chainId net_version eth_blockNumber eth_getBalance eth_getCode eth_call eth_getTransactionReceipt eth_x".split()
_SELECTORS = ["0x70a08231", "0xe94a0102", "0x06fdde03", "0x54fd4d50", "0x95d89b41", "0x313ce567", "0x", "0xdeadbeef"]
_hex_text = st.text("0123456789abcdefABCDEF \t", max_size=200)
_data = st.builds(str.__add__, st.sampled_from(_SELECTORS), _hex_text) | st.just(
    "0xe94a0102" + "a" * 64 + " " + "b" * 64
)
_calls = st.fixed_dictionaries(
    {},
    optional={
        "to": st.just("0x036CbD53842c5426634e7929541eC2318f3dCF7e") | _json,
        "data": _data | _json,
        "input": _data,
    },
)
_rpc = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | _json, "method": st.sampled_from(_RPC) | _json},
    optional={"id": _json, "params": st.lists(_calls | _data | _json, max_size=3) | _json},
)
_rpc_monsters = st.sampled_from(
    [b'{"method":"eth_chainId","id":' + b"[" * depth + b"]" * depth + b"}" for depth in (200, 500, 900)]
)


def test_any_call_to_the_ledger_chain_gets_a_json_rpc_answer(target: Target) -> None:
    def shot(body: bytes) -> None:
        answer = target.post("/rpc/base-sepolia", body)
        check(answer, statuses={200, 400, 413}, secrets=())
        if answer.status == 200:
            told = answer.json()
            assert told["jsonrpc"] == "2.0"
            assert ("result" in told) != ("error" in told)

    calls = _rpc.map(lambda call: json.dumps(call).encode())
    fuzz({"body": calls | _rpc_monsters | _bodies}, shot, examples=400)


def test_any_wish_to_the_faucet_is_answered(target: Target) -> None:
    def shot(body: bytes) -> None:
        check(target.post("/faucet", body), statuses={200, 400, 413}, secrets=())

    addresses = st.just("0x" + "aB" * 20) | st.text("0123456789abcdefx", max_size=50) | _json
    wishes = st.dictionaries(st.sampled_from(["address", "amount"]), addresses).map(
        lambda wish: json.dumps(wish).encode()
    )
    fuzz({"body": wishes | _bodies}, shot)

"""Whatever is sent over a real socket, the service answers it in its own words or hangs up, and no money moves."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, Kind
from tests.acceptance.fuzzing import (
    CANARY,
    MAX_BODY,
    PATH,
    Long,
    Target,
    any_json,
    check,
    check_rough,
    fuzz,
    visible,
)
from tests.acceptance.raw_http import request

SELLING = [offering.path for offering in OFFERINGS if offering.kind is not Kind.UPLOAD]
FACES = ["/v1/images/generations", "/v1/images/edits", "/v1/videos"]

_openais = {"model", "size", "n", "quality", "response_format", "stream", "seconds", "input_reference"}
_fields = sorted(_openais.union(*(offering.input.model_fields for offering in OFFERINGS)))
_nearly_right = st.dictionaries(st.sampled_from(_fields), any_json | st.lists(any_json, max_size=70), max_size=8)
_encoded = (any_json | _nearly_right).map(lambda value: json.dumps(value).encode())
MONSTERS = [
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
    json.dumps({"prompt": "a", "duration": "5", "urls": [1] * 60, "audioUrls": [1]}).encode(),
    b"a" * (MAX_BODY + 1),
    gzip.compress(b'{"prompt": "a"}'),
    b"prompt=a&imageSize=1K",
]
_bodies = st.binary(max_size=200) | _encoded | st.sampled_from(MONSTERS).map(Long)
_methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "QUERY"])
_known = st.sampled_from(
    [
        *SELLING,
        *("/api/upload", "/api/upload/confirm", "/api/jobs", "/api/jobs/job_x", "/assets/job_x/0.png", "/health"),
        *(
            "/api/models",
            "/api/models/veo-3.1",
            "/api/quote",
            "/openapi.json",
            "/docs/errors",
            *(
                "/v1/images/generations",
                "/v1/images/edits",
                "/v1/videos",
                "/v1/videos/job_x",
                "/v1/videos/job_x/content",
            ),
            *(
                "/api/jobs/job_x/events",
                "/api/jobs/job_x/cancel",
                "/api/jobs/job_x/webhooks",
                "/api/x402/veo-3.1/generate",
            ),
            "/faucet",
            "/rpc/base-sepolia",
            "/",
            "*",
            "http://evil.example/health",
        ),
    ]
)
_twists = st.sampled_from(
    [
        *("", "/", "//", "/.", "/..", "/..;/", "%2F", "%2f..", "%00", "%0d%0aX-Evil:1", "%ff%fe", "%F0%9F%98%80", "%"),
        *("%zz", ";a=b", "?", "??a=b&a=c", "#x", "/%2e%2e/%2e%2e/secret", "\\", "|", "/" + "x" * 60_000),
    ]
)


def test_any_method_and_path_gets_an_answer_of_ours(target: Target) -> None:
    def shot(method: str, path: str, twist: str, tail: str, body: bytes, *, shout: bool) -> None:
        aimed = (path.upper() if shout else path) + twist + tail
        check_rough(target.send(request(method, aimed, body=body), method=method))

    fuzz(
        {
            "method": _methods,
            "path": _known,
            "twist": _twists,
            "tail": st.just("") | visible,
            "body": st.just(b"") | _encoded,
            "shout": st.booleans(),
        },
        shot,
        examples=400,
    )


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/generate/", "/assets/", "/rpc/", "/"])
def test_a_very_long_path_gets_a_short_answer(target: Target, path: str) -> None:
    answer = target.send(request("GET", path + "x" * 60_000))

    assert answer is not None
    check(answer)
    assert len(answer.body) < 10_000


_header_names = st.sampled_from(
    [
        *(b"Host", b"PAYMENT-SIGNATURE", b"SIGN-IN-WITH-X", b"Idempotency-Key", b"X-PAYMENT", b"Authorization"),
        *(b"Content-Type", b"Content-Encoding", b"Transfer-Encoding", b"Content-Length", b"Expect", b"Connection"),
        *(b"Upgrade", b"HTTP2-Settings", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Accept", b"Origin"),
        *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded", b"Range", b"If-Range"),
    ]
)
_header_values = (
    st.sampled_from(
        [
            *(b"", b"chunked", b"gzip", b"100-continue", b"upgrade", b"websocket", b"h2c", b"13", b"-1", b"9" * 20),
            *(b"bytes=0-", b"evil.example", b"[evil", b"Payment e30", Long(b"a" * 60_000), CANARY.encode()),
        ]
    )
    | st.binary(max_size=40)
    | st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: text.encode("latin-1"))
)
_framing = {b"Transfer-Encoding", b"Content-Length", b"Connection", b"Upgrade"}


@pytest.mark.parametrize("path", [PATH, "/api/jobs", "/health", "/faucet"])
def test_any_headers_get_an_answer_or_a_clean_close(target: Target, path: str) -> None:
    def shot(method: str, headers: list[tuple[bytes, bytes]]) -> None:
        data = request(method, path, headers=headers, body=b'{"prompt": "a"}')
        # Framing that promises more than there is gets no answer until we end our side.
        check_rough(target.send(data, method=method, cut=any(name in _framing for name, _ in headers)))

    fuzz({"method": _methods, "headers": st.lists(st.tuples(_header_names, _header_values), max_size=6)}, shot)


def test_a_websocket_handshake_is_no_failure(target: Target) -> None:
    headers = [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
    headers.append((b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="))

    check(target.send(request("GET", PATH, headers=headers)), statuses={405})


def test_bytes_that_are_hardly_http_get_an_answer_or_a_clean_close(target: Target) -> None:
    whole = request("POST", PATH, body=b'{"prompt": "a"}')
    chunked = b'POST /api/upload HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'

    def shot(base: bytes, start: int, end: int, junk: bytes) -> None:
        spoilt = base[: start % len(base)] + junk + base[end % len(base) :]
        check_rough(target.send(spoilt, method="POST", cut=True))

    places = st.integers(0, 400)
    bases = st.sampled_from([whole, chunked])
    fuzz({"base": bases, "start": places, "end": places, "junk": st.binary(max_size=30)}, shot)


@pytest.mark.parametrize("path", [PATH, "/faucet", "/rpc/base-sepolia"])
def test_a_buyer_who_hangs_up_half_way_is_no_fault_of_ours(target: Target, path: str) -> None:
    data = request("POST", path, body=b'{"prompt": "a"}')

    for end in (len(data) - 1, len(data) - 15):
        assert target.send(data[:end], method="POST", cut=True) is None


def test_any_body_is_quoted_or_refused(target: Target) -> None:
    def shot(path: str, body: bytes, encoding: bytes) -> None:
        check(target.post(path, body, [(b"content-encoding", encoding)]), statuses={400, 402, 413})

    encodings = st.sampled_from([b"identity", b"gzip", b"br, gzip"])
    fuzz({"path": st.sampled_from([*SELLING, *FACES]), "body": _bodies, "encoding": encodings}, shot, examples=400)


def test_each_monster_is_refused_by_each_route(target: Target) -> None:
    for path in SELLING:
        for body in MONSTERS:
            answer = target.post(path, body)
            check(answer, statuses={400, 413})
            assert len(answer.body) < 30_000


_terms = st.sampled_from(["limit", "status", "before", "Limit", "wallet", "%6cimit", "", "a%00"])
_sought = st.sampled_from(
    ["", "0", "1", "101", "-1", "1e3", "%31", "%EF%BC%91", "complete", "%00", "%ff", "~", "job_0"]
)


def test_any_filter_of_the_job_list_is_applied_or_refused(target: Target) -> None:
    def shot(terms: list[tuple[str, str]]) -> None:
        query = "?" + "&".join(f"{name}={value}" for name, value in terms)
        check(target.read_list(target.proof(), query), statuses={200, 400})

    fuzz({"terms": st.lists(st.tuples(_terms, _sought | visible), max_size=12)}, shot)


def test_any_link_to_an_asset_that_is_not_ours_leads_nowhere(target: Target) -> None:
    def shot(method: str, key: str, exp: str, sig: str, span: bytes) -> None:
        data = request(method, f"/assets/{key}?exp={exp}&sig={sig}", headers=[(b"range", span)])
        check(target.send(data, method=method), statuses={204, 403, 404, 405, 410})

    words = st.sampled_from(["", "0", "9" * 20, "%ff", "..%2f..", "%00", "a/../b", "%0a"]) | visible
    spans = st.sampled_from([b"bytes=0-", b"bytes=9-1", b"junk"])
    fuzz({"method": _methods, "key": words, "exp": words, "sig": words, "span": spans}, shot)


_token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
_views = ["0x70a08231", "0xe94a0102", "0x06fdde03", "0x54fd4d50", "0x95d89b41", "0x313ce567", "0x", "0xdeadbeef"]
_hex = st.text("0123456789abcdefABCDEF \t", max_size=200)
_data = st.builds(str.__add__, st.sampled_from(_views), _hex) | st.just("0xe94a0102" + "a" * 64 + " " + "b" * 64)
_call = st.fixed_dictionaries({}, optional={"to": st.just(_token) | any_json, "data": _data | any_json, "input": _data})
_rpc_methods = st.sampled_from(
    [
        *("eth_chainId", "net_version", "eth_blockNumber", "eth_getBalance", "eth_getCode", "eth_call"),
        *("eth_getTransactionReceipt", "eth_sendRawTransaction"),
    ]
)
_rpc = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | any_json, "method": _rpc_methods | any_json},
    optional={"id": any_json, "params": st.lists(_call | _data | any_json, max_size=3) | any_json},
)
_deep_ids = st.sampled_from(
    [b'{"method":"eth_chainId","id":' + b"[" * depth + b"]" * depth + b"}" for depth in (200, 500, 900)]
)


@pytest.mark.parametrize("network", ["base-sepolia", "tempo"])
def test_any_call_to_a_ledger_chain_gets_a_json_rpc_answer(target: Target, network: str) -> None:
    def shot(body: bytes) -> None:
        answer = target.post(f"/rpc/{network}", body)
        check(answer, statuses={200, 400, 413})
        if answer.status == 200:
            told = answer.json()
            for each in told if isinstance(told, list) else [told]:
                assert each["jsonrpc"] == "2.0"
                assert ("result" in each) != ("error" in each)

    calls = _rpc.map(lambda call: json.dumps(call).encode())
    fuzz({"body": calls | _deep_ids | _bodies}, shot, examples=400)


def test_any_wish_to_the_faucet_is_answered(target: Target) -> None:
    def shot(body: bytes) -> None:
        check(target.post("/faucet", body), statuses={200, 400, 413})

    addresses = st.just("0x" + "aB" * 20) | st.text("0123456789abcdefx", max_size=50) | any_json
    wishes = st.dictionaries(st.sampled_from(["address", "amount"]), addresses)
    fuzz({"body": wishes.map(lambda wish: json.dumps(wish).encode()) | _bodies}, shot)

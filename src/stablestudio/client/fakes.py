"""A seller in memory, for tests of programs that buy: real signatures and proofs, scripted faults, time moved by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from stablestudio.client.offers import TOKENS, Token
from stablestudio.client.steps import Call, Reply
from stablestudio.errors import StudioError
from stablestudio.money import Money
from stablestudio.protocols import siwx, x402

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63680000008200815d3f9c4b0000000049454e44ae426082"
)
_PICTURE = {"type": "string", "x-media": ["image"]}
_MENU: dict[tuple[str, str], dict[str, Any]] = {
    ("nano-banana", "generate"): {},
    ("nano-banana", "edit"): {"images": {"type": "array", "items": _PICTURE}},
    ("veo-3.1", "generate"): {"image": _PICTURE, "lastFrame": _PICTURE},
}
_PAY_TO = "0x1111111111111111111111111111111111111111"


@dataclass(slots=True)
class HandClock:
    """A clock that moves when it is told to, and when somebody sleeps by it."""

    ms: int = 1_795_204_579_000
    slept: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        return self.ms

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += round(seconds * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one paid request in place of an honest answer.

    `takes` settles the payment first; `reply` answers, and where there is none the connection breaks.
    """

    takes: bool = False
    reply: Reply | None = None


def error_reply(status: int, code: str, **told: Any) -> Reply:
    """Return an error in the shape of contract section 6."""
    return _json(status, {"success": False, "error": code.replace("_", " "), "code": code, "status": status} | told)


@dataclass(slots=True, kw_only=True)
class FakeSeller:
    """One seller. `transfers` are the payments that moved money, `signatures` all that were ever presented.

    `faults` happen to paid requests, `quote_faults` and `read_faults` to unpaid ones and to reads of jobs, one each.
    """

    origin: str = "http://seller.test"
    clock: HandClock = field(default_factory=HandClock)
    token: Token = TOKENS[0]
    price: Money = Money(67_000)  # noqa: RUF009 - frozen
    pay_to: str = _PAY_TO
    resource_origin: str | None = None
    states: tuple[str, ...] = ("pending", "loading", "complete")
    faults: list[Fault] = field(default_factory=list)
    quote_faults: list[Reply | None] = field(default_factory=list)
    read_faults: list[Reply | None] = field(default_factory=list)
    transfers: dict[str, str] = field(default_factory=dict)
    signatures: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    identifiers: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    links: int = 0
    _nonces: siwx.NonceIssuer = field(default_factory=lambda: siwx.NonceIssuer(bytes(32)))

    def transport(self) -> httpx2.MockTransport:
        """Return this seller as a transport; a broken connection is a `ReadError`."""

        def handle(request: httpx2.Request) -> httpx2.Response:
            call = Call(method=request.method, url=str(request.url), headers=request.headers, body=request.read())
            reply = self.answer(call)
            if reply is None:
                raise httpx2.ReadError("the connection broke", request=request)
            return httpx2.Response(reply.status, headers=dict(reply.headers), content=reply.body)

        return httpx2.MockTransport(handle)

    def answer(self, call: Call) -> Reply | None:
        """Answer one request; None breaks the connection."""
        self.calls.append(call)
        path = urlsplit(call.url).path
        for prefix, handler in self._routes().items():
            if path.startswith(prefix):
                return handler(call)
        return error_reply(404, "route_not_found", charged=False)

    def _routes(self) -> Mapping[str, Callable[[Call], Reply | None]]:
        return {
            "/api/generate/": self._sell,
            "/api/models": self._models,
            "/api/jobs": self._jobs,
            "/assets/": self._asset,
            "/faucet": lambda _: _json(200, {"success": True, "transaction": "0xfa"}),
            "/rpc/": lambda _: _json(200, {"jsonrpc": "2.0", "id": 1, "result": f"{100_000_000:#066x}"}),
        }

    def _sell(self, call: Call) -> Reply | None:
        header = call.headers.get(x402.PAYMENT_SIGNATURE)
        if header is None:
            if self.quote_faults:
                return self.quote_faults.pop(0)
            return self._challenge(urlsplit(call.url).path)
        payload = x402.decode_payment(header)
        assert isinstance(payload, x402.PaymentPayload), "this seller asks for EVM payments only"
        self.signatures.append(header)
        self.keys.append(call.headers.get("idempotency-key"))
        self.identifiers.append(x402.payment_identifier(payload))
        self.bodies.append(call.body or b"")
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not fault.takes:
            return fault.reply
        honest = self._take(payload)
        return fault.reply if fault is not None else honest

    def _take(self, payload: x402.PaymentPayload) -> Reply:
        try:
            verified = x402.check_exact(payload, self._offer(), now_s=self.clock.now_ms() // 1000)
        except StudioError as error:
            if payload.authorization.key not in self.transfers:
                return _json(error.status, error.body())
            key = payload.authorization.key
        else:
            key = verified.key
        job = self.transfers.setdefault(key, f"job_{len(self.transfers)}")
        body = {"success": True, "jobId": job, "type": "nano-banana-generate", "status": "pending", "pollAfter": 5}
        receipt = x402.SettleResponse(
            success=True, payer=payload.authorization.sender, transaction="0xab", network=self.token.network
        )
        return _json(200, body, {x402.PAYMENT_RESPONSE: x402.encode_response(receipt)})

    def _challenge(self, path: str) -> Reply:
        required = x402.PaymentRequired(
            accepts=[self._offer()],
            resource=x402.Resource(url=(self.resource_origin or self.origin) + path),
            extensions=x402.declare_payment_identifier(),
        )
        return _json(402, {}, {x402.PAYMENT_REQUIRED: x402.encode_required(required)})

    def _offer(self) -> x402.PaymentRequirements:
        name, version = self.token.domain
        return x402.PaymentRequirements(
            network=self.token.network,
            amount=str(self.price.micros),
            asset=self.token.contract,
            pay_to=self.pay_to,
            max_timeout_seconds=300,
            extra={"name": name, "version": version},
        )

    def _models(self, call: Call) -> Reply:
        told = {"priceFrom": "0.045", "priceTo": "0.151", "typicalSeconds": [5, 5]}
        model = urlsplit(call.url).path.removeprefix("/api/models").removeprefix("/")
        dishes = [
            {"model": each, "operation": operation} | told | ({"input": _input(fields)} if model else {})
            for (each, operation), fields in _MENU.items()
            if model in ("", each)
        ]
        return _json(200, {"models": dishes})

    def _jobs(self, call: Call) -> Reply | None:
        path = urlsplit(call.url).path
        if self.read_faults:
            return self.read_faults.pop(0)
        try:
            proof = siwx.decode_proof(call.headers.get(siwx.HEADER))
            now = self.clock.now_ms()
            siwx.verify(
                proof, origin=self.origin, path=path, chains=[self.token.network], nonces=self._nonces, now_ms=now
            )
        except siwx.SiwxRefused as error:
            return self._ask_sign_in(path, error)
        self.proofs.append(proof.nonce)
        return self._read(call.method, path.removeprefix("/api/jobs").strip("/"))

    def _ask_sign_in(self, path: str, error: StudioError) -> Reply:
        now = self.clock.now_ms()
        body = siwx.challenge(
            self.resource_origin or self.origin,
            path=path,
            nonce=self._nonces.issue(now),
            now_ms=now,
            chains=[self.token.network],
        )
        return _json(402, error.body() | body, {x402.PAYMENT_REQUIRED: siwx.encode_challenge(body)})

    def _read(self, method: str, job_id: str) -> Reply:
        if not job_id:
            return _json(
                200, {"success": True, "jobs": [self._job(each, look=False) for each in self.transfers.values()]}
            )
        if job_id not in self.transfers.values() or job_id in self.deleted:
            return error_reply(404, "job_not_found", charged=False)
        if method == "DELETE":
            self.deleted.add(job_id)
            return _json(200, {"success": True})
        return _json(200, self._job(job_id, look=True))

    def _job(self, job_id: str, *, look: bool) -> dict[str, Any]:
        seen = self.looks.get(job_id, 0)
        self.looks[job_id] = seen + look
        status = self.states[min(seen, len(self.states) - 1)]
        payment = {"amount": str(self.price), "network": self.token.network, "transaction": "0xab", "state": "charged"}
        if status == "refunded":
            payment |= {"state": "refunded", "refund": {"transaction": "0xba"}}  # type: ignore[dict-item]
        body = {"jobId": job_id, "status": "failed" if status == "refunded" else status, "payment": payment}
        if status in {"failed", "refunded"}:
            return body | {"error": "the vendor gave up"}
        if status == "complete":
            self.links += 1
            return body | {"result": {"imageUrl": f"{self.origin}/assets/{job_id}.png?link={self.links}"}}
        return body | {"progress": 50, "pollAfter": 5}

    def _asset(self, call: Call) -> Reply:
        fresh = call.url.endswith(f"link={self.links}")
        return Reply(status=200, headers={"content-type": "image/png"}, body=PIXEL) if fresh else Reply(status=410)


def _input(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"prompt": {"type": "string"}, **fields}}


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        status=status,
        headers={"content-type": "application/json"} | dict(headers or {}),
        body=json.dumps(body).encode(),
    )

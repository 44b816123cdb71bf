"""The rules that a seller is held against: how grave a breach is, where the rule comes from, and how to mend it.

An error makes a stock client fail, or costs somebody money; a warning makes buying harder than it need be.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How grave a breach is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `area` names its chapter, `source` who relies on it, `mend` what the seller changes."""

    code: str
    severity: Severity
    area: str
    source: str
    mend: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach: the rule, the request that showed it, and what was seen there."""

    rule: Rule
    where: str
    problem: str


ERROR, WARNING = Severity.ERROR, Severity.WARNING
_X402 = "x402 v2, transports-v2/http"
_MPP = "draft-httpauth-payment"
_RFC9110 = "RFC 9110"
_AGENTCASH = "npm agentcash 0.14"
_DISCOVERY = "npm @agentcash/discovery 1.7"
_MPPX = "npm mppx 0.11, discover validate"
_SIWX = "x402 extension sign-in-with-x"
_CORS = "Fetch standard, CORS protocol"
_HEADERS = "Node.js, --max-http-header-size of 16 KB"

_TABLE = (
    # answers as such
    Rule("no_answer", ERROR, "answers", _RFC9110, "Answer each request within 20 seconds, with at most 8 MB."),
    Rule("server_error", ERROR, "answers", _RFC9110, "Answer what a client gets wrong with 4xx; find the fault in the log."),
    Rule("rate_limited", WARNING, "answers", "RFC 6585", "Nothing, or a higher limit: what this request would show is not known."),
    Rule("redirected", ERROR, "answers", _DISCOVERY, "Answer at this address itself: payments are signed for one address."),
    Rule("error_not_json", ERROR, "answers", _AGENTCASH, "Answer errors as application/json: other bodies are dropped by clients."),
    Rule("error_shape", WARNING, "answers", "StableStudio contract, section 6", "Give errors `error`, a sentence, and a stable `code`."),
    Rule("unknown_route", WARNING, "answers", _RFC9110, "Answer 404 where there is nothing."),
    # discovery
    Rule("document_missing", ERROR, "documents", _DISCOVERY, "Serve an OpenAPI document as JSON at /openapi.json."),
    Rule("document_unreadable", ERROR, "documents", "OpenAPI 3.1", "Serve `openapi` 3.x, `info.title`, `info.version` and `paths`."),
    Rule("document_foreign_server", ERROR, "documents", _DISCOVERY, "Name this origin first in `servers`: set the public address."),
    Rule("document_too_long", WARNING, "documents", _DISCOVERY, "Describe at most 40 operations: registries drop the rest."),
    Rule("document_too_large", WARNING, "documents", "MPPScan, mppx 0.11", "Keep it under 64 KB: registries refuse larger ones. Share schemas and answers."),
    Rule("sells_nothing", ERROR, "documents", _DISCOVERY, "Give each route that sells `x-payment-info`."),
    Rule("guidance", WARNING, "documents", _DISCOVERY, "Tell agents how to buy in `info.x-guidance`, in 4000 characters."),
    Rule("llms_missing", WARNING, "documents", "llmstxt.org", "Serve /llms.txt as text."),
    Rule("price_undeclared", ERROR, "documents", _DISCOVERY, "Declare `price`: mode fixed with amount, or dynamic with min and max, in USD."),
    Rule("protocols_undeclared", WARNING, "documents", _DISCOVERY, "List x402 and mpp in `x-payment-info.protocols`, as far as you take them."),
    Rule("body_undeclared", WARNING, "documents", "x402scan, MPPScan", "Give the route a JSON `requestBody` with a schema."),
    Rule("example_missing", WARNING, "documents", "StableStudio contract, section 5", "Give the `requestBody` an `example` that can be bought."),
    Rule("payment_response_undeclared", ERROR, "documents", _MPPX, "List 402 among the responses."),
    # the 402
    Rule("not_asked_to_pay", ERROR, "402", "x402scan, MPPScan", "Answer an unpaid request with 402, also one with an empty body."),
    Rule("offers_missing", ERROR, "402", _X402, "Put the offers into PAYMENT-REQUIRED or WWW-Authenticate: Payment; a body alone is ignored."),
    Rule("price_differs", ERROR, "402", _DISCOVERY, "Make document and 402 from one price: the empty body costs the highest, an example one within the bounds."),
    Rule("example_refused", ERROR, "402", "StableStudio contract, section 5", "Document an example that the route takes."),
    Rule("not_on_sale", WARNING, "402", "StableStudio contract, section 1", "Configure who serves the route, or take it out of the document."),
    Rule("junk_payment", ERROR, "402", "npm mppx 0.11, validate", "Answer a payment that cannot be read with 402 and fresh offers."),
    # x402
    Rule("offers_unreadable", ERROR, "x402", _X402, "Send PAYMENT-REQUIRED as base64 of a PaymentRequired with x402Version 2."),
    Rule("offers_base64", ERROR, "x402", _X402, "Use standard base64: browsers decode it with atob, which takes no `-` and `_`."),
    Rule("offers_empty", ERROR, "x402", _X402, "Offer one network at least in `accepts`."),
    Rule("offer_terms", ERROR, "x402", _DISCOVERY, "Give each offer a CAIP-2 network, a whole amount above 0 and a positive maxTimeoutSeconds."),
    Rule("offer_extra", ERROR, "x402", "x402 v2, schemes/exact", "Give EVM offers the token's EIP-712 `name` and `version`, Solana offers a `feePayer`."),
    Rule("resource_missing", ERROR, "x402", _DISCOVERY, "Name the route in `resource.url`."),
    Rule("resource_foreign", ERROR, "x402", _X402, "Set the public address: careful clients sign nothing for another origin, nor another route."),
    # MPP
    Rule("challenge_unreadable", ERROR, "MPP", f"{_RFC9110}, section 11.6.1", "Send `Payment` and name=value pairs, values in quotes, each name once."),
    Rule("challenge_incomplete", ERROR, "MPP", _MPP, "Send id, realm, method, intent, request and expires."),
    Rule("challenge_realm", WARNING, "MPP", "npm mppx 0.11, validate", "Use the host's name as realm."),
    Rule("challenge_request", ERROR, "MPP", _MPP, "Send `request` as base64url JSON with amount, currency and recipient."),
    Rule("challenge_expires", ERROR, "MPP", f"{_MPP}; RFC 3339", "Send a time of the future, with its zone, as expires."),
    # headers
    Rule("headers_too_large", ERROR, "headers", _HEADERS, "Keep all headers of an answer under 16 KB: clients on Node.js fail."),
    Rule("headers_large", WARNING, "headers", _HEADERS, "Keep all headers of an answer under 12 KB: proxies and clients add theirs."),
    Rule("cached", ERROR, "headers", "RFC 9111", "Send Cache-Control: no-store with each 402: a cached offer is expired."),
    Rule("cors_hidden", WARNING, "headers", _CORS, "Allow all origins, and expose the headers of payments: wallets in browsers need them."),
    Rule("preflight", WARNING, "headers", _CORS, "Answer OPTIONS with 204 and Access-Control-Allow-Methods and -Headers, unpaid."),
    Rule("wrong_method", ERROR, "headers", _RFC9110, "Answer GET and HEAD on a route that sells by POST with 405; registries try all methods."),
    Rule("allow_missing", WARNING, "headers", f"{_RFC9110}, section 15.5.6", "Name POST in Allow."),
    # inputs
    Rule("wrong_body_for_sale", ERROR, "inputs", "StableStudio contract, section 2", "Look at the body before asking for money."),
    Rule("wrong_body_status", ERROR, "inputs", _RFC9110, "Answer a body that does not fit with 400 or 422."),
    Rule("issues_missing", WARNING, "inputs", "StableStudio contract, section 6", "Name each field at fault in `issues`, with `path` and `message`."),
    Rule("no_limit", WARNING, "inputs", f"{_RFC9110}, section 15.5.14", "Limit bodies and answer 413 before reading them."),
    # sign-in
    Rule("sign_in_undeclared", WARNING, "sign-in", _DISCOVERY, "Give routes that read jobs a security scheme named siwx."),
    Rule("sign_in_not_asked", ERROR, "sign-in", _SIWX, "Answer an unsigned read with 402 and a sign-in-with-x challenge."),
    Rule("sign_in_offers", ERROR, "sign-in", _SIWX, "Ask for no money: `accepts` is []."),
    Rule("sign_in_header", ERROR, "sign-in", _AGENTCASH, "Put the challenge into PAYMENT-REQUIRED: clients ignore the body."),
    Rule("sign_in_body", WARNING, "sign-in", "StableStudio contract, section 3", "Repeat the challenge in the body, for people and simple clients."),
    Rule("sign_in_nonce", ERROR, "sign-in", "EIP-4361", "Use a nonce of 8 letters and digits at least, without dashes."),
    Rule("sign_in_domain", ERROR, "sign-in", "EIP-4361", "Set the public address: domain and uri are this host and this very address."),
    Rule("sign_in_times", ERROR, "sign-in", "EIP-4361; RFC 3339", "Send issuedAt and an expirationTime of the future, with their zone."),
    Rule("sign_in_chains", ERROR, "sign-in", _SIWX, "List in supportedChains each `chainId` with its `type`, eip191 or ed25519."),
)  # fmt: skip

RULES = {rule.code: rule for rule in _TABLE}
AREAS = tuple(dict.fromkeys(rule.area for rule in _TABLE))


def breach(code: str, where: str, problem: str) -> Finding:
    """Return a finding by the code of its rule."""
    return Finding(RULES[code], where, problem)

"""What a facilitator's answer means for the money: pure, and never surer than the answer itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols.x402 import MalformedReceipt, SettleResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One signed payment as it is sent: the same bytes each time, and what a true receipt must agree with."""

    key: str  # what the chain accepts once
    network: str  # CAIP-2
    payer: str
    amount: int  # base units
    expires_at: int  # seconds
    content: bytes  # the JSON body of /verify and /settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """This facilitator did not take the payment, so the next may be asked.

    Only a `sure` one lets us say in the end that nothing moved: an answer from a proxy does not.
    """

    reason: str
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """No answer in time: the one case in which the same facilitator may get the same bytes once more."""

    reason: str = "facilitator_timed_out"


Answer = Outcome | Passed | Silent
# A success that is none: each is a fault of the facilitator that its operator should hear of.
BAD_RECEIPTS = frozenset({"receipt_unreadable", "receipt_without_transaction", "receipt_of_another_payment"})

# Refused before the request reached the code that settles.
_CLOSED_DOORS = frozenset({401, 403, 404, 429})
_UNAVAILABLE = 503

_KIND = r"(?:invalid_)?(?:exact_)?(?:evm_|svm_)?(?:payload_)?"
_REFUSALS = tuple(
    (re.compile(pattern), reason, message)
    for pattern, reason, message in (
        (
            _KIND + r"insufficient_(?:funds|balance)",
            "insufficient_funds",
            "The wallet does not hold enough of the token for this payment.",
        ),
        (
            _KIND + r"(?:authorization_valid_before|authorization_expired|payment_expired)",
            "payment_expired",
            "The authorization expired before it was settled.",
        ),
        (
            _KIND + r"(?:authorization_valid_after|authorization_not_yet_valid)",
            "payment_not_yet_valid",
            "The authorization is not valid yet.",
        ),
        (
            _KIND + r"(?:signature|signature_address|authorization_typed_data_message)",
            "invalid_signature",
            "The settlement service refused the signature.",
        ),
        (
            _KIND + r"undeployed_smart_wallet",
            "wallet_not_deployable",
            "The paying contract wallet has no code on this network yet; deploy it first.",
        ),
        (
            _KIND + r"(?:authorization_)?from_address_kyt",
            "payer_refused",
            "The settlement service may not take payments from this wallet.",
        ),
        (
            _KIND + r"(?:authorization_)?to_address_kyt",
            "recipient_refused",
            "The settlement service may not pay the recipient of this payment.",
        ),
    )
)
# About the facilitator and us, not about the payment; each is said before anything is sent to a chain. A new signature
# would mend none of them. Compliance refusals (`kyt`) are not among them: going round one by asking somebody else is
# not ours to do.
_NOT_HERE = frozenset(
    {
        "asset_not_deployed_contract",
        "eip6492_factory_not_allowed",
        "extension_echo_mismatch",
        "fee_payer_not_managed_by_facilitator",
        "forbidden",
        "invalid_exact_evm_eip3009_not_supported",
        "invalid_exact_evm_failed_to_get_asset_info",
        "invalid_exact_evm_failed_to_get_network_config",
        "invalid_exact_evm_failed_to_verify_signature",
        "invalid_exact_evm_token_name_mismatch",
        "invalid_exact_evm_token_version_mismatch",
        "invalid_network",
        "invalid_payment_requirements",
        "invalid_scheme",
        "invalid_x402_version",
        "missing_eip712_domain",
        "network_mismatch",
        "network_not_supported",
        "payment_method_required",  # Coinbase: the free settlements of the month are used up
        "quota_exceeded",
        "rate_limit_exceeded",
        "rate_limited",
        "too_many_requests",
        "unauthorized",
        "unsupported_network",
        "unsupported_scheme",
    }
)
_MAY_BE_IN_FLIGHT = re.compile(
    r"pending|duplicate|unexpected|transaction|transfer|settle|broadcast|confirm|time_?d?_?out|already|nonce|used|replay"
    r"|progress|process|internal|server|unknown|deploy|simulat|unavailable|retry|state|receipt|block|error"
)
_ABOUT_THE_PAYMENT = re.compile(r"(?:invalid|unsupported|missing|malformed|permit2)_\w+|\w+_mismatch")
_WORD = re.compile(r"[^a-z0-9]+")
_TRANSACTION = {
    "eip155": re.compile(r"0x[0-9a-fA-F]{64}"),
    "solana": re.compile(r"[1-9A-HJ-NP-Za-km-z]{64,88}"),
}


def read_settlement(status: int, body: bytes, *, submission: Submission) -> Answer:
    """Judge an answer of `POST /settle`; any status that carries the protocol's JSON is an answer.

    `Rejected` only where the facilitator names a fault of the payment that it sees before it sends anything, `Passed`
    only where it was not asked in effect; all else is `Unknown`, and the chain decides.
    """
    fields = _object(body)
    word = _word(fields)
    said = fields.get("success", fields.get("isValid"))  # some answer a settle with the verdict of their verify
    if said is None:
        return _without_verdict(status, word)
    if status == 200 and fields.get("success") is True:
        return _receipt(fields, submission)
    refused = said is False and (status == 200 or 400 <= status < 500)
    if not refused or any(fields.get(name) for name in ("transaction", "txHash", "paymentId")):
        return Unknown(reason=word or f"facilitator_answered_{status}")
    return _refusal(status, word)


def read_verdict(status: int, body: bytes) -> Answer | None:
    """Judge an answer of `POST /verify`; None means valid. As it moves nothing, an odd one only skips this facilitator."""
    fields = _object(body)
    if status == 200 and fields.get("isValid") is True:
        return None
    word = _word(fields)
    judged = _refusal(status, word) if fields.get("isValid") is False else _without_verdict(status, word)
    if isinstance(judged, Rejected) or (word and "nonce" in word):
        return judged  # a used nonce may be our own payment, so it is the chain's to explain
    return Passed(reason=judged.reason if isinstance(judged, Passed | Unknown) else "facilitator_unclear")


def _without_verdict(status: int, word: str | None) -> Answer:
    if status in _CLOSED_DOORS or (word in _NOT_HERE and 400 <= status < 500):
        return Passed(reason=f"facilitator_answered_{status}")
    if status == _UNAVAILABLE:
        return Passed(reason=f"facilitator_answered_{status}", sure=False)
    return Unknown(reason=f"facilitator_answered_{status}")


def _receipt(fields: Mapping[str, Any], submission: Submission) -> Answer:
    try:
        receipt = SettleResponse.read(fields)
    except MalformedReceipt:
        return Unknown(reason="receipt_unreadable")
    namespace = submission.network.partition(":")[0]
    pattern = _TRANSACTION.get(namespace)
    if pattern is None or not pattern.fullmatch(receipt.transaction):
        return Unknown(reason="receipt_without_transaction")
    # Version 1 names such as "base-sepolia" cannot be compared. The payer of Solana receipts may be the fee payer.
    wrong_network = ":" in receipt.network and receipt.network != submission.network
    wrong_payer = namespace == "eip155" and (receipt.payer or submission.payer).lower() != submission.payer.lower()
    wrong_amount = receipt.amount is not None and receipt.amount != str(submission.amount)
    if wrong_network or wrong_payer or wrong_amount:
        return Unknown(reason="receipt_of_another_payment")
    return Settled(transaction=receipt.transaction)


def _refusal(status: int, word: str | None) -> Rejected | Unknown | Passed:
    if fault := _fault(word):
        return fault
    in_flight = word is not None and _MAY_BE_IN_FLIGHT.search(word)
    if word in _NOT_HERE or (status in _CLOSED_DOORS and not in_flight):
        return Passed(reason=word or f"facilitator_answered_{status}")
    if word is not None and not in_flight and _ABOUT_THE_PAYMENT.fullmatch(word):
        return Rejected(reason="payment_refused", message=f"The settlement service refused the payment: {word}.")
    return Unknown(reason=word or "refused_without_reason")


def _fault(word: str | None) -> Rejected | None:
    """Return what is wrong with the payment, in our own words, where the facilitator's word is a known one."""
    for pattern, reason, message in _REFUSALS:
        if word is not None and pattern.fullmatch(word):
            return Rejected(reason=reason, message=message)
    return None


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _word(fields: Mapping[str, Any]) -> str | None:
    """Return the reason that an answer gives, as one short word that is safe to log, keep and show."""
    for name in ("errorReason", "invalidReason", "errorType", "error"):
        value = fields.get(name)
        if isinstance(value, str) and (word := _WORD.sub("_", value[:200].lower()).strip("_")):
            return word[:96]
    return None

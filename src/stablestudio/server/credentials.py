"""What a paid request brings along: its payment by either protocol, and what the buyer says of itself."""

from __future__ import annotations

import re

from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.payments.rail import Presented
from stablestudio.protocols import mpp, x402
from stablestudio.protocols.evm import is_address
from stablestudio.protocols.solana import is_address as is_solana_address
from stablestudio.protocols.wallet import Wallet
from stablestudio.sales.order import Buyer
from stablestudio.server.http import Scope, header

_PAYMENT = x402.PAYMENT_SIGNATURE.lower().encode()
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_SESSION = re.compile(r"[\x21-\x7e]{8,128}")


class TwoPayments(StudioError):
    """The request carries two payments."""

    status = 400
    hint = "Send either PAYMENT-SIGNATURE or `Authorization: Payment`, not both; nothing was charged."


def payment_header(scope: Scope) -> str | None:
    """Return the header that carries the payment, or None where there is none; raise `TwoPayments`."""
    signature = header(scope, _PAYMENT)
    authorization = header(scope, b"authorization")
    if authorization is None or not mpp.is_payment(authorization):
        return signature
    if signature is not None:
        raise TwoPayments
    return authorization


def read_payment(value: str) -> Presented:
    """Read the header of `payment_header`; raise a `StudioError`. A PAYMENT-SIGNATURE is base64 and has no space."""
    if mpp.is_payment(value):
        return mpp.decode_credential(value)
    return x402.decode_payment(value)


def read_buyer(scope: Scope, presented: Presented) -> Buyer:
    """Return what the request says of its buyer. Hints that cannot be read are no hints; a wrong key is an error."""
    session = header(scope, b"x-session-id")
    return Buyer(
        session=session if session is not None and _SESSION.fullmatch(session) else None,
        companions=_companions(scope),
        idempotency_key=_idempotency_key(scope, presented),
    )


def _companions(scope: Scope) -> list[Wallet]:
    evm, solana = header(scope, b"x-wallet-address"), header(scope, b"x-solana-wallet-address")
    found = []
    if evm is not None and is_address(evm):
        found.append(Wallet(namespace="eip155", address=evm.lower()))
    if solana is not None and is_solana_address(solana):
        found.append(Wallet(namespace="solana", address=solana))
    return found


def _idempotency_key(scope: Scope, presented: Presented) -> str | None:
    """Return the buyer's own key of this order, from the header or from the payment-identifier extension."""
    given = header(scope, b"idempotency-key")
    identifier = None if isinstance(presented, mpp.Credential) else x402.payment_identifier(presented)
    if given is not None and not _KEY.fullmatch(given):
        raise _bad_key("invalid", "Idempotency-Key takes 1 to 255 visible ASCII characters.")
    if given is not None and identifier is not None and given != identifier:
        raise _bad_key("conflict", "Idempotency-Key and the payment-identifier extension name different orders.")
    return given or identifier


def _bad_key(code: str, message: str) -> InvalidInput:
    return InvalidInput(message, issues=[Issue(("Idempotency-Key",), code, message)])

"""Why an MPP credential is refused: one class per reason, each with the problem type that the draft has for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from stablestudio.errors import StudioError

_PROBLEMS = "https://paymentauth.org/problems/"


class MppRefused(StudioError):
    """This Payment credential was refused; nothing was charged."""

    problem: ClassVar[str] = "verification-failed"
    status = 402
    hint = "Answer one of the challenges in this answer's WWW-Authenticate headers; nothing was charged."

    def __init__(self, message: str | None = None, *, extra: Mapping[str, Any] | None = None, **more: Any) -> None:
        super().__init__(message, extra={"type": _PROBLEMS + self.problem, **(extra or {})}, **more)


class MalformedCredential(MppRefused):
    """The Payment credential cannot be read."""

    problem = "malformed-credential"
    hint = (
        "Send `Authorization: Payment` with the base64url JSON of one credential: the challenge as it was issued and a "
        "payload; nothing was charged."
    )


class SeveralCredentials(MppRefused):
    """The request carries more than one Payment credential."""

    problem = "malformed-credential"
    status = 400
    hint = "Pay with one credential per request; nothing was charged."


class MethodUnsupported(MppRefused):
    """This payment method or intent is not offered here."""

    problem = "method-unsupported"
    status = 400
    hint = "Answer a challenge with method `tempo` and intent `charge`; nothing was charged."


class ChallengeNotIssued(MppRefused):
    """This challenge was not issued by this service, or was changed since."""

    problem = "invalid-challenge"
    hint = "Send the challenge back exactly as it was issued; nothing was charged."


class ChallengeMismatch(MppRefused):
    """The challenge was issued for another request: another price, body or path."""

    problem = "invalid-challenge"
    hint = "Send the request that was quoted, byte for byte, or pay a challenge for this one; nothing was charged."


class ChallengeExpired(MppRefused):
    """The challenge has expired."""

    problem = "payment-expired"
    hint = "Answer a challenge within five minutes and check your clock; nothing was charged."


class TransferExpired(MppRefused):
    """The signed transaction expires before it could be settled."""

    problem = "payment-expired"
    hint = "Sign with validBefore = now + 25 seconds, send it at once and check your clock; nothing was charged."


class TransferRefused(MppRefused):
    """The signed transaction is not the payment that the challenge asks for."""

    hint = (
        "Sign a Tempo transaction (0x76) that calls transferWithMemo once, with the challenge's amount, recipient and "
        "attribution memo, and pays its own fee; nothing was charged."
    )


class PushUnsupported(MppRefused):
    """The payment was sent by the buyer; only transactions that this service sends are taken."""

    hint = (
        "Challenges say supportedModes pull: sign the transaction and send it in the credential instead of to the "
        "chain; this service took nothing."
    )


class ProofRefused(MppRefused):
    """The zero-amount proof does not hold."""

    hint = (
        "Sign EIP-712 Proof(address account,string challengeId,string realm) under the domain MPP version 3 with the "
        "account's own key, and name the account in `source`; nothing was charged."
    )

"""What a token's revert strings mean for a payment. The strings are those of Circle's FiatTokenV2_2."""

from __future__ import annotations

from stablestudio.payments.rail import Rejected

NONCE_SPENT = Rejected(reason="nonce_already_used", message="This authorization's nonce was spent on another transfer.")
NONCE_CANCELLED = Rejected(reason="nonce_already_used", message="This authorization was cancelled by its owner.")
EXPIRED = Rejected(reason="payment_expired", message="The authorization expired before it was settled.")
UNAVAILABLE = Rejected(
    reason="settlement_unavailable",
    message="The chain cannot be asked about this payment at the moment; nothing moved.",
)
_POOR = Rejected(reason="insufficient_funds", message="The wallet does not hold enough of the token for this payment.")
_EARLY = Rejected(reason="payment_not_yet_valid", message="The authorization is not valid yet.")
_FORGED = Rejected(reason="invalid_signature", message="The token refused the signature.")
_BARRED = Rejected(
    reason="payment_refused", message="The token's issuer bars one of the two accounts of this transfer."
)

# By beginning: the library behind the contract adds which part of a signature is wrong.
_MEANINGS = (
    ("FiatTokenV2: authorization is not yet valid", _EARLY),
    ("FiatTokenV2: authorization is expired", EXPIRED),
    ("FiatTokenV2: authorization is used or canceled", NONCE_SPENT),
    ("FiatTokenV2: invalid signature", _FORGED),
    ("ECRecover: invalid signature", _FORGED),
    ("ERC20: transfer amount exceeds balance", _POOR),
    ("Blacklistable: account is blacklisted", _BARRED),
)


def rejection_of(revert: str) -> Rejected:
    """Return what a revert of `transferWithAuthorization` means; an unknown one is `simulation_failed`.

    "Used" is only the token's word that the nonce is gone: whether it paid us must be looked up before.
    """
    for beginning, meaning in _MEANINGS:
        if revert.startswith(beginning):
            return meaning
    return Rejected(reason="simulation_failed", message=f"The token refuses this transfer: {revert}")

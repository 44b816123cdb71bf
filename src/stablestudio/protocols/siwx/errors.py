"""Why a sign-in is refused: one class per reason, each answered with 402 and a fresh challenge."""

from __future__ import annotations

from stablestudio.errors import StudioError


class SiwxRefused(StudioError):
    """This sign-in was refused."""

    status = 402
    hint = "Sign the fresh challenge in this answer, unchanged, with the wallet that paid."


class SiwxMissing(SiwxRefused):
    """The SIGN-IN-WITH-X header is required."""

    hint = "Sign the challenge in this answer with the wallet that paid and send it as SIGN-IN-WITH-X."


class SiwxMalformed(SiwxRefused):
    """The SIGN-IN-WITH-X header cannot be read."""

    hint = (
        "Send SIGN-IN-WITH-X as base64 of JSON: the challenge's `info`, unchanged, "
        "with address, chainId, type and signature."
    )


class SiwxDomainMismatch(SiwxRefused):
    """The sign-in was signed for another host."""


class SiwxUriMismatch(SiwxRefused):
    """The sign-in was signed for another address of this service."""

    hint = "A sign-in holds for one path: sign the challenge that this very path answers with."


class SiwxIssuedAtTooOld(SiwxRefused):
    """The sign-in is older than five minutes."""


class SiwxIssuedAtInFuture(SiwxRefused):
    """The sign-in was issued in the future."""

    hint = "Keep the challenge's issuedAt; if you set it yourself, check your clock."


class SiwxExpired(SiwxRefused):
    """The sign-in has expired."""


class SiwxNotYetValid(SiwxRefused):
    """The sign-in's notBefore lies in the future."""


class SiwxUnknownNonce(SiwxRefused):
    """The sign-in's nonce was not issued by this service."""


class SiwxUnsupportedChain(SiwxRefused):
    """The sign-in is for a chain that the challenge does not offer."""

    hint = "Sign for one of the challenge's supportedChains, with the wallet that paid."


class SiwxInvalidSignature(SiwxRefused):
    """The sign-in was not signed by its address."""

    hint = "Sign the exact text of the challenge with the key of `address`; contract wallets cannot sign in yet."


class SiwxNonceUsed(SiwxRefused):
    """This sign-in was used already; requests that change something take a fresh one each."""


class SiwxChallengeRefused(StudioError):
    """The seller's sign-in challenge was not signed."""

    status = 502
    hint = "Tell the seller; nothing was signed."

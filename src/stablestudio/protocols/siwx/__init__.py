"""SIGN-IN-WITH-X: a wallet shows itself by signing a short-lived challenge (CAIP-122; x402 extension `sign-in-with-x`)."""

from stablestudio.protocols.siwx.challenge import HEADER, LIFETIME_MS, NAME, READS, challenge, encode_challenge, sign
from stablestudio.protocols.siwx.errors import (
    SiwxChallengeRefused,
    SiwxDomainMismatch,
    SiwxExpired,
    SiwxInvalidSignature,
    SiwxIssuedAtInFuture,
    SiwxIssuedAtTooOld,
    SiwxMalformed,
    SiwxMissing,
    SiwxNonceUsed,
    SiwxNotYetValid,
    SiwxRefused,
    SiwxUnknownNonce,
    SiwxUnsupportedChain,
    SiwxUriMismatch,
)
from stablestudio.protocols.siwx.message import Message, message_text
from stablestudio.protocols.siwx.nonces import NonceIssuer
from stablestudio.protocols.siwx.proof import MAX_HEADER, SKEW_MS, Proof, decode_proof, verify, wallet_question

__all__ = [
    "HEADER",
    "LIFETIME_MS",
    "MAX_HEADER",
    "NAME",
    "READS",
    "SKEW_MS",
    "Message",
    "NonceIssuer",
    "Proof",
    "SiwxChallengeRefused",
    "SiwxDomainMismatch",
    "SiwxExpired",
    "SiwxInvalidSignature",
    "SiwxIssuedAtInFuture",
    "SiwxIssuedAtTooOld",
    "SiwxMalformed",
    "SiwxMissing",
    "SiwxNonceUsed",
    "SiwxNotYetValid",
    "SiwxRefused",
    "SiwxUnknownNonce",
    "SiwxUnsupportedChain",
    "SiwxUriMismatch",
    "challenge",
    "decode_proof",
    "encode_challenge",
    "message_text",
    "sign",
    "verify",
    "wallet_question",
]

"""Read and verify the SIGN-IN-WITH-X header: who is asking, proved for one path, for five minutes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stablestudio.clock import from_iso
from stablestudio.protocols import evm, solana
from stablestudio.protocols._wire import Fields, WireError, decode_json, form
from stablestudio.protocols.siwx import errors
from stablestudio.protocols.siwx.challenge import LIFETIME_MS
from stablestudio.protocols.siwx.message import Message, message_text, read_chain, signature_type
from stablestudio.protocols.siwx.nonces import NonceIssuer
from stablestudio.protocols.wallet import InvalidWallet, Wallet

SKEW_MS = 30 * 1000
MAX_HEADER = 8 * 1024
_SIGNATURE = form("a signature in hexadecimal or base58", r"[0-9a-zA-Z]{1,4096}")
_ADDRESS = form("an address", r"[0-9a-zA-Z]{1,64}")
_FAMILIES = ("eip155:", "solana:")
_TYPE = form("eip191 or ed25519", r"eip191|ed25519")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A sign-in as it was sent: well formed, not yet verified. Moments in Unix milliseconds."""

    message: Message
    chain: str
    wallet: Wallet
    signature: str
    issued_at_ms: int
    expires_at_ms: int
    not_before_ms: int

    @property
    def nonce(self) -> str:
        return self.message.nonce


def decode_proof(header: str | None) -> Proof:
    """Read the header, base64 of JSON of at most 8 KiB; raise `SiwxMissing`, `SiwxMalformed` or `SiwxUnsupportedChain`.

    A missing `type` follows from the chain (the service's first documents had none), and an EVM address may have any case.
    """
    if not header:
        raise errors.SiwxMissing
    try:
        return _read_proof(decode_json(header, limit=MAX_HEADER))
    except WireError as error:
        raise errors.SiwxMalformed(f"The SIGN-IN-WITH-X header cannot be read: {error}.") from None


def _read_proof(fields: Fields) -> Proof:
    message = Message.read(fields)
    chain = read_chain(fields)
    if not chain.startswith(_FAMILIES):
        raise errors.SiwxUnsupportedChain
    if (fields.optional_text("type", _TYPE) or signature_type(chain)) != signature_type(chain):
        raise fields.fault("type", "does not fit chainId")
    try:
        wallet = Wallet.parse(chain, fields.text("address", _ADDRESS))
    except InvalidWallet:
        raise fields.fault("address", "must be an account of the chain that chainId names") from None
    issued_at = _moment(fields, "issuedAt")
    return Proof(
        message=message,
        chain=chain,
        wallet=wallet,
        signature=fields.text("signature", _SIGNATURE),
        issued_at_ms=issued_at,
        expires_at_ms=_moment(fields, "expirationTime") if message.expiration_time else issued_at + LIFETIME_MS,
        not_before_ms=_moment(fields, "notBefore") if message.not_before else 0,
    )


def _moment(fields: Fields, name: str) -> int:
    try:
        return from_iso(fields.value[name])
    except (ValueError, OverflowError):
        raise fields.fault(name, "is no moment of the calendar") from None


def verify(
    proof: Proof, *, origin: str, path: str, chains: Collection[str], nonces: NonceIssuer, now_ms: int
) -> Wallet:
    """Return the wallet that signed in for `path` (without query) of `origin`; raise a `SiwxRefused`.

    A proof holds until it expires: requests that change something must also spend `proof.nonce` once. The signature is
    looked at last: after `SiwxInvalidSignature` all else fits, and a contract wallet can be asked `wallet_question`.
    """
    _check_place(proof.message, origin=origin, path=path)
    if proof.chain not in chains:
        raise errors.SiwxUnsupportedChain
    _check_time(proof, now_ms=now_ms)
    _check_nonce(proof, issued_at_ms=nonces.issued_at_ms(proof.nonce), now_ms=now_ms)
    _check_signature(proof)
    return proof.wallet


def wallet_question(proof: Proof) -> tuple[bytes, bytes] | None:
    """Return the digest and the signature that a contract wallet is asked about (ERC-1271); None if it is no such proof."""
    if proof.wallet.namespace != "eip155":
        return None
    try:
        signature = bytes.fromhex(proof.signature.removeprefix("0x"))
    except ValueError:
        return None
    text = message_text(proof.message, chain=proof.chain, address=proof.wallet.display)
    return evm.personal_digest(text), signature


def _check_place(message: Message, *, origin: str, path: str) -> None:
    host = origin.partition("://")[2]
    # Libraries before x402 2.19 sign the host without its port.
    if message.domain not in (host, _without_port(host)):
        raise errors.SiwxDomainMismatch(f"The sign-in was signed for another host than {host}.")
    if message.uri.partition("?")[0] != origin + path:
        raise errors.SiwxUriMismatch


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _check_time(proof: Proof, *, now_ms: int) -> None:
    if proof.issued_at_ms < now_ms - LIFETIME_MS:
        raise errors.SiwxIssuedAtTooOld
    if proof.issued_at_ms > now_ms + SKEW_MS:
        raise errors.SiwxIssuedAtInFuture
    if proof.expires_at_ms <= now_ms:
        raise errors.SiwxExpired
    if proof.expires_at_ms > proof.issued_at_ms + LIFETIME_MS + SKEW_MS:
        raise errors.SiwxMalformed("expirationTime lies more than five minutes after issuedAt.")
    if proof.not_before_ms > now_ms + SKEW_MS:
        raise errors.SiwxNotYetValid


def _check_nonce(proof: Proof, *, issued_at_ms: int, now_ms: int) -> None:
    if proof.issued_at_ms < issued_at_ms - SKEW_MS:
        raise errors.SiwxUnknownNonce("The sign-in's nonce is younger than its issuedAt.")
    if issued_at_ms < now_ms - LIFETIME_MS - SKEW_MS:
        raise errors.SiwxExpired("The sign-in's nonce was issued more than five minutes ago.")


def _check_signature(proof: Proof) -> None:
    text = message_text(proof.message, chain=proof.chain, address=proof.wallet.display)
    fits = _signed_on_solana if proof.wallet.namespace == "solana" else _signed_on_evm
    if not fits(proof, text):
        raise errors.SiwxInvalidSignature


def _signed_on_solana(proof: Proof, text: str) -> bool:
    try:
        signature = solana.b58decode(proof.signature)
    except ValueError:
        return False
    return solana.verify(proof.wallet.address, text.encode(), signature)


def _signed_on_evm(proof: Proof, text: str) -> bool:
    try:
        signature = bytes.fromhex(proof.signature.removeprefix("0x"))
        return evm.recover_account(evm.personal_digest(text), signature).hex() == proof.wallet.address[2:]
    except ValueError:
        return False

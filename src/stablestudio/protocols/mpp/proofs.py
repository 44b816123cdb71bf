"""Zero-amount proofs: an answer to a challenge for nothing, which proves who asks (mppx 0.11, Proof version 3).

The older versions are not taken: a signature of version 1 names no realm, so another service could pass it on.
"""

from __future__ import annotations

import re
from functools import lru_cache

from stablestudio.protocols.evm import BadSignature, keccak256, recover_account
from stablestudio.protocols.mpp.challenges import ChallengeDesk, ChargeTerms
from stablestudio.protocols.mpp.errors import ProofRefused
from stablestudio.protocols.mpp.messages import ChallengeEcho, Credential
from stablestudio.protocols.wallet import Wallet

_DOMAIN_TYPE = keccak256(b"EIP712Domain(string name,string version,uint256 chainId)")
_PROOF_TYPE = keccak256(b"Proof(address account,string challengeId,string realm)")
_SOURCE = re.compile(r"did:pkh:eip155:(0|[1-9][0-9]{0,19}):(0x[0-9a-fA-F]{40})")
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")


def proof_challenge(desk: ChallengeDesk, terms: ChargeTerms, *, path: str, now_s: int) -> str:
    """Return the header line that asks for a proof, for this path only."""
    return desk.issue(terms.request(0), path=path, now_s=now_s)


def is_proof(credential: Credential) -> bool:
    """Tell whether a credential says that it proves an account instead of paying."""
    return credential.payload.get("type") == "proof"


def verify_proof(desk: ChallengeDesk, terms: ChargeTerms, credential: Credential, *, path: str, now_s: int) -> Wallet:
    """Return whose key signed the proof; raise an `MppRefused`.

    The caller remembers `credential.challenge.id` until the challenge expires, so that a proof serves once.
    """
    desk.require(credential.challenge, terms.request(0), path=path, now_s=now_s)
    signature = credential.payload.get("signature")
    if not is_proof(credential) or not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise ProofRefused("A challenge for nothing takes a payload of type proof with a signature of 65 bytes.")
    account = account_of(credential, chain_id=terms.chain_id)
    if account is None:
        raise ProofRefused(f"The proof's source must be did:pkh:eip155:{terms.chain_id} and the account's address.")
    digest = proof_digest(credential.challenge, account=account, chain_id=terms.chain_id)
    try:
        signer = recover_account(digest, bytes.fromhex(signature[2:]))
    except BadSignature as error:
        raise ProofRefused(f"The proof's signature cannot be taken: {error}.") from None
    if signer.hex() != account[2:]:
        raise ProofRefused("The proof was not signed by the account that its source names.")
    return Wallet(namespace="eip155", address=account)


def account_of(credential: Credential, *, chain_id: int) -> str | None:
    """Return the address (lower case) that a credential's `source` names on this chain; it proves nothing."""
    match = _SOURCE.fullmatch(credential.source or "")
    return match[2].lower() if match and int(match[1]) == chain_id else None


def proof_digest(challenge: ChallengeEcho, *, account: str, chain_id: int) -> bytes:
    """Return the 32 bytes that an account signs to prove itself."""
    message = b"".join(
        (
            _PROOF_TYPE,
            bytes(12) + bytes.fromhex(account[2:]),
            keccak256(challenge.id.encode()),
            keccak256(challenge.realm.encode()),
        )
    )
    return keccak256(b"\x19\x01" + _separator(chain_id) + keccak256(message))


@lru_cache(maxsize=8)
def _separator(chain_id: int) -> bytes:
    return keccak256(_DOMAIN_TYPE + keccak256(b"MPP") + keccak256(b"3") + chain_id.to_bytes(32))

"""A zero-amount proof says who asks, for one path of one realm, and nothing else passes for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from stablestudio.protocols import mpp
from stablestudio.protocols.evm import EvmKey, keccak256
from tests.unit.payments.tempo_buyer import read_challenge, read_part

NOW = 1_795_204_441
CHAIN_ID = 42431
KEY = EvmKey.from_hex("0x" + "4c" * 32)
STRANGER = EvmKey.from_hex("0x" + "5d" * 32)
DESK = mpp.ChallengeDesk(realm="studio.test", keys=[b"0123456789abcdef0123456789abcdef"])
TERMS = mpp.ChargeTerms(
    chain_id=CHAIN_ID,
    currency="0x20c0000000000000000000000000000000000000",
    recipient="0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
)
PATH = "/api/jobs/job_1"
PROOF = {
    "Proof": [
        {"name": "account", "type": "address"},
        {"name": "challengeId", "type": "string"},
        {"name": "realm", "type": "string"},
    ]
}


def _challenge(**changes: Any) -> mpp.ChallengeEcho:
    given: dict[str, Any] = {"path": PATH, "now_s": NOW} | changes
    return read_challenge(mpp.proof_challenge(DESK, TERMS, **given))


def _source(key: EvmKey = KEY, chain_id: int = CHAIN_ID) -> str:
    return f"did:pkh:eip155:{chain_id}:{key.address}"


def _typed(message: dict[str, str], *, version: str, types: Any, chain_id: int = CHAIN_ID, key: EvmKey = KEY) -> str:
    domain = {"name": "MPP", "version": version, "chainId": chain_id}
    signed = Account.sign_message(encode_typed_data(domain, types, message), key.hex())
    return "0x" + bytes(signed.signature).hex()


def _proof(challenge: mpp.ChallengeEcho, **changes: Any) -> mpp.Credential:
    """Prove as mppx 0.11 does, with eth_account as the oracle of typed data; changes are of what is signed."""
    given = {"account": KEY.address, "challengeId": challenge.id, "realm": challenge.realm}
    how: dict[str, Any] = {"version": "3", "types": PROOF}
    for name, value in changes.items():
        (given if name in given else how)[name] = value
    payload = {"type": "proof", "signature": _typed(given, **how)}
    return mpp.Credential(challenge=challenge, payload=payload, source=_source())


def _verify(credential: mpp.Credential, **changes: Any) -> str:
    given: dict[str, Any] = {"path": PATH, "now_s": NOW} | changes
    return str(mpp.verify_proof(DESK, TERMS, credential, **given))


def test_a_proof_names_its_wallet() -> None:
    credential = _proof(_challenge())
    assert mpp.is_proof(credential)
    assert _verify(credential) == f"eip155:{KEY.address.lower()}"
    assert _verify(mpp.decode_credential(mpp.encode_credential(credential))) == f"eip155:{KEY.address.lower()}"


def test_the_challenge_asks_for_nothing_and_each_is_another() -> None:
    first, second = _challenge(), _challenge()
    assert read_part(first.request)["amount"] == "0"
    assert first.digest is None
    assert first.id != second.id


@pytest.mark.parametrize(
    "change",
    [
        {"account": STRANGER.address},
        {"challengeId": "another"},
        {"realm": "other.test"},
        {"version": "2"},
        {"chain_id": 4217},
        {"key": STRANGER},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_of_anything_else_proves_nothing(change: dict[str, Any]) -> None:
    with pytest.raises(mpp.ProofRefused):
        _verify(_proof(_challenge(), **change))


def test_the_older_proofs_are_not_taken() -> None:
    """Version 1 signs no realm: another service could have been given it."""
    challenge = _challenge()
    for version, names in (("1", ["challengeId"]), ("2", ["challengeId", "realm"])):
        types = {"Proof": [{"name": name, "type": "string"} for name in names]}
        message = {name: getattr(challenge, {"challengeId": "id"}.get(name, name)) for name in names}
        payload = {"type": "proof", "signature": _typed(message, version=version, types=types)}
        with pytest.raises(mpp.ProofRefused):
            _verify(mpp.Credential(challenge=challenge, payload=payload, source=_source()))


@pytest.mark.parametrize(
    "source",
    [
        None,
        _source(STRANGER),
        _source(chain_id=4217),
        KEY.address,
        f"did:pkh:eip155:{CHAIN_ID}:0x12",
        f"did:pkh:eip155:0{CHAIN_ID}:{KEY.address}",
        f"did:key:{KEY.address}",
    ],
)
def test_the_source_must_be_the_signers_account(source: str | None) -> None:
    with pytest.raises(mpp.ProofRefused):
        _verify(replace(_proof(_challenge()), source=source))


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "proof"},
        {"type": "proof", "signature": None},
        {"type": "proof", "signature": "0x"},
        {"type": "proof", "signature": "0x" + "00" * 65},
        {"type": "proof", "signature": "0x" + "ff" * 65},
        {"type": "transaction", "signature": "0x76"},
        {"type": "hash", "hash": "0x" + "00" * 32},
    ],
)
def test_what_is_no_signed_proof_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(mpp.ProofRefused):
        _verify(replace(_proof(_challenge()), payload=payload))


def test_a_proof_must_say_that_it_is_one() -> None:
    good = _proof(_challenge())
    with pytest.raises(mpp.ProofRefused):
        _verify(replace(good, payload={**good.payload, "type": "transaction"}))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"path": "/api/jobs/job_2"}, mpp.ChallengeMismatch),
        ({"now_s": NOW + 300}, mpp.ChallengeExpired),
    ],
)
def test_a_proof_is_for_one_path_and_five_minutes(asked: dict[str, Any], error: type[Exception]) -> None:
    credential = _proof(_challenge())
    _verify(credential)
    with pytest.raises(error):
        _verify(credential, **asked)


def test_a_payments_challenge_proves_nobody() -> None:
    line = DESK.issue(TERMS.request(1), path=PATH, now_s=NOW)
    with pytest.raises(mpp.ChallengeMismatch):
        _verify(_proof(read_challenge(line)))


def test_a_challenge_of_somebody_else_proves_nobody() -> None:
    other = mpp.ChallengeDesk(realm="studio.test", keys=[b"another key that is long enough"])
    line = mpp.proof_challenge(other, TERMS, path=PATH, now_s=NOW)
    with pytest.raises(mpp.ChallengeNotIssued):
        _verify(_proof(read_challenge(line)))


def test_the_digest_is_the_one_of_the_specification() -> None:
    challenge = mpp.ChallengeEcho(id="abc", realm="studio.test", method="tempo", intent="charge", request="e30")
    message = {"account": KEY.address, "challengeId": "abc", "realm": "studio.test"}
    signable = encode_typed_data({"name": "MPP", "version": "3", "chainId": CHAIN_ID}, PROOF, message)
    theirs = keccak256(b"\x19" + signable.version + signable.header + signable.body)
    assert mpp.proofs.proof_digest(challenge, account=KEY.address.lower(), chain_id=CHAIN_ID) == theirs

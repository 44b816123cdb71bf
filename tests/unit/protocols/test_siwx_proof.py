from __future__ import annotations

import base64
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.clock import iso
from stablestudio.protocols import evm, siwx, solana
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.solana import SolanaKey
from stablestudio.protocols.wallet import Wallet

from .builders import (
    BASE_SEPOLIA,
    CHAINS,
    KEY,
    NONCES,
    NOW_MS,
    ORIGIN,
    PATH,
    SOLANA_DEVNET,
    SOLANA_KEY,
    STRANGER,
    b64,
    sign_in,
    unb64,
)
from .test_evm import twin

MINUTE = 60_000
MARK = "Zm9yZ2Vk<script>"


def check(header: str, *, origin: str = ORIGIN, path: str = PATH, now_ms: int = NOW_MS) -> Wallet:
    proof = siwx.decode_proof(header)
    return siwx.verify(proof, origin=origin, path=path, chains=CHAINS, nonces=NONCES, now_ms=now_ms)


def changed(**members: object) -> str:
    """A good sign-in whose members were changed, or removed by `...`, without signing again."""
    body = {**unb64(sign_in()), **members}
    return b64({name: value for name, value in body.items() if value is not ...})


def signed(key: EvmKey | SolanaKey = KEY, **members: Any) -> str:
    """A sign-in that its wallet really signed with these members in place of the challenge's."""
    info = siwx.challenge(ORIGIN, path=PATH, nonce=NONCES.issue(NOW_MS), now_ms=NOW_MS, chains=CHAINS)
    body = {**info["extensions"]["sign-in-with-x"]["info"], **members}
    body = {name: value for name, value in body.items() if value is not ...}
    is_solana = isinstance(key, SolanaKey)
    body = {"address": key.address, "chainId": SOLANA_DEVNET if is_solana else BASE_SEPOLIA, **body}
    text = siwx.message_text(siwx.decode_proof(b64({**body, "signature": "0x"})).message, **place(body, key))
    if isinstance(key, SolanaKey):
        return b64({**body, "signature": solana.b58encode(key.sign(text.encode()))})
    return b64({**body, "signature": "0x" + key.sign_digest(evm.personal_digest(text)).hex()})


def place(body: dict[str, Any], key: EvmKey | SolanaKey) -> dict[str, str]:
    return {"chain": body["chainId"], "address": key.address}


@pytest.mark.parametrize("key", [KEY, SOLANA_KEY])
def test_a_signed_challenge_proves_its_wallet(key: EvmKey | SolanaKey) -> None:
    wallet = check(sign_in(key))
    assert wallet.display == key.address


def test_the_challenge_is_the_one_that_clients_know() -> None:
    body = siwx.challenge(ORIGIN, path=PATH, nonce="a1" * 16, now_ms=NOW_MS, chains=CHAINS)
    extension = body["extensions"]["sign-in-with-x"]
    assert {name: body[name] for name in ("x402Version", "error", "resource", "accepts")} == {
        "x402Version": 2,
        "error": "The SIGN-IN-WITH-X header is required.",
        "resource": {"url": "https://studio.test:8402/api/jobs/job_1"},
        "accepts": [],
    }
    assert extension["info"] == {
        "domain": "studio.test:8402",
        "uri": "https://studio.test:8402/api/jobs/job_1",
        "version": "1",
        "nonce": "a1" * 16,
        "issuedAt": "2026-11-20T19:54:01.836Z",
        "expirationTime": "2026-11-20T19:59:01.836Z",
        "statement": "Sign in to read your jobs",
        "resources": ["https://studio.test:8402/api/jobs/job_1"],
    }
    assert extension["supportedChains"] == [
        {"chainId": BASE_SEPOLIA, "type": "eip191"},
        {"chainId": SOLANA_DEVNET, "type": "ed25519"},
    ]
    required = ["domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature"]
    assert extension["schema"]["required"] == required
    assert unb64(siwx.encode_challenge(body)) == body


def test_a_wallet_that_only_knows_personal_sign_can_answer() -> None:
    body = unb64(sign_in())
    text = (
        "studio.test:8402 wants you to sign in with your Ethereum account:\n"
        f"{KEY.address}\n\nSign in to read your jobs\n\nURI: https://studio.test:8402/api/jobs/job_1\nVersion: 1\n"
        f"Chain ID: 84532\nNonce: {body['nonce']}\nIssued At: 2026-11-20T19:54:01.836Z\n"
        "Expiration Time: 2026-11-20T19:59:01.836Z\nResources:\n- https://studio.test:8402/api/jobs/job_1"
    )
    signature = Account.from_key(KEY.hex()).sign_message(encode_defunct(text=text)).signature
    assert check(b64({**body, "signature": f"0x{bytes(signature).hex()}"})).display == KEY.address


@pytest.mark.parametrize("key", [KEY, SOLANA_KEY])
def test_a_missing_type_follows_from_the_chain(key: EvmKey | SolanaKey) -> None:
    body = unb64(sign_in(key))
    del body["type"]
    assert check(b64(body)).display == key.address


@pytest.mark.parametrize("address", [KEY.address.lower(), "0x" + KEY.address[2:].upper()])
def test_an_evm_address_may_have_any_case(address: str) -> None:
    assert check(changed(address=address)).display == KEY.address


def test_a_proof_holds_for_its_path_until_it_expires() -> None:
    header = sign_in()
    assert check(header, now_ms=NOW_MS + 5 * MINUTE - 1) == check(header)
    with pytest.raises(siwx.SiwxExpired):
        check(header, now_ms=NOW_MS + 5 * MINUTE)


def test_the_query_is_not_part_of_the_path() -> None:
    header = sign_in(path="/api/jobs?limit=20&status=complete")
    assert check(header, path="/api/jobs").display == KEY.address


def test_a_host_without_its_port_is_what_older_libraries_sign() -> None:
    assert check(signed(domain="studio.test")).display == KEY.address


def test_optional_members_may_be_missing() -> None:
    for key in (KEY, SOLANA_KEY):
        header = signed(key, statement=..., expirationTime=..., resources=...)
        assert check(header).display == key.address
        with pytest.raises(siwx.SiwxIssuedAtTooOld):
            check(header, now_ms=NOW_MS + 5 * MINUTE + 1)


@pytest.mark.parametrize("domain", ["evil.test", "studio.test:8403", "studio.test:8402.evil.test", "STUDIO.test:8402"])
def test_another_host_is_refused(domain: str) -> None:
    with pytest.raises(siwx.SiwxDomainMismatch):
        check(signed(domain=domain))


def test_a_sign_in_made_for_another_origin_is_refused() -> None:
    with pytest.raises(siwx.SiwxDomainMismatch):
        check(sign_in(origin="https://evil.test"))


@pytest.mark.parametrize(
    "uri",
    [
        "https://studio.test:8402/api/jobs/job_2",
        "https://studio.test:8402/api/jobs/job_1/",
        "https://studio.test:8402/api/jobs/job_1#x",
        "https://studio.test:8402/api/jobs/%6aob_1",
        "https://studio.test:8402/api/jobs",
        "https://studio.test:8402",
        "https://studio.test/api/jobs/job_1",
        "http://studio.test:8402/api/jobs/job_1",
        "https://evil.test/api/jobs/job_1",
        "https://user@studio.test:8402/api/jobs/job_1",
        "?https://studio.test:8402/api/jobs/job_1",
        "/api/jobs/job_1",
    ],
)
def test_another_address_is_refused(uri: str) -> None:
    with pytest.raises(siwx.SiwxUriMismatch):
        check(signed(uri=uri))


@pytest.mark.parametrize(
    "chain", ["eip155:1", "eip155:8453", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "cosmos:hub-4"]
)
def test_a_chain_that_was_not_offered_is_refused(chain: str) -> None:
    address = SOLANA_KEY.address if chain.startswith("solana") else KEY.address
    with pytest.raises(siwx.SiwxUnsupportedChain):
        check(changed(chainId=chain, address=address, type=...))


@pytest.mark.parametrize(
    ("members", "refusal"),
    [
        ({"issuedAt": iso(NOW_MS - 5 * MINUTE - 1)}, siwx.SiwxIssuedAtTooOld),
        ({"issuedAt": "1970-01-01T00:00:00Z"}, siwx.SiwxIssuedAtTooOld),
        ({"issuedAt": "0001-01-01T00:00:00+14:00"}, siwx.SiwxIssuedAtTooOld),
        ({"issuedAt": iso(NOW_MS + 30_001)}, siwx.SiwxIssuedAtInFuture),
        ({"issuedAt": "9999-12-31T23:59:59-14:00"}, siwx.SiwxIssuedAtInFuture),
        ({"expirationTime": iso(NOW_MS)}, siwx.SiwxExpired),
        ({"expirationTime": iso(NOW_MS - 1)}, siwx.SiwxExpired),
        ({"expirationTime": iso(NOW_MS + 5 * MINUTE + 30_001)}, siwx.SiwxMalformed),
        ({"notBefore": iso(NOW_MS + 30_001)}, siwx.SiwxNotYetValid),
        ({"issuedAt": iso(NOW_MS - 40_000), "expirationTime": ...}, siwx.SiwxUnknownNonce),
    ],
)
def test_a_sign_in_outside_its_time_is_refused(members: dict[str, Any], refusal: type[siwx.SiwxRefused]) -> None:
    with pytest.raises(refusal):
        check(signed(**members))


@pytest.mark.parametrize(
    "members",
    [
        {"issuedAt": iso(NOW_MS + 30_000)},
        {"issuedAt": iso(NOW_MS - 29_000)},
        {"issuedAt": "2026-11-20T20:54:01.836123456+01:00"},
        {"notBefore": iso(NOW_MS)},
        {"requestId": "r-1", "resources": []},
    ],
)
def test_small_differences_of_clocks_and_spelling_are_fine(members: dict[str, Any]) -> None:
    assert check(signed(**members)).display == KEY.address


@pytest.mark.parametrize(
    "nonce", ["12345678", "a1b2c3d4e5f67890a1b2c3d4e5f67890", "6e60f3e2-8f0c-4f8c-9e7e-6b1f4d9d2f11"]
)
def test_a_nonce_of_somebody_else_is_refused(nonce: str) -> None:
    with pytest.raises(siwx.SiwxUnknownNonce):
        check(signed(nonce=nonce))


def test_an_old_nonce_cannot_be_dated_anew() -> None:
    with pytest.raises(siwx.SiwxExpired, match="nonce was issued more than five minutes ago"):
        check(signed(nonce=NONCES.issue(NOW_MS - 6 * MINUTE)))


@pytest.mark.parametrize(
    "members",
    [
        {"statement": "Sign in to delete your jobs"},
        {"statement": ...},
        {"resources": []},
        {"resources": ["https://studio.test:8402/api/jobs/job_1", "https://evil.test"]},
        {"requestId": "1"},
        {"uri": "https://studio.test:8402/api/jobs/job_1?x"},
        {"domain": "studio.test"},
        {"issuedAt": "2026-11-20T19:54:01.837Z"},
        {"issuedAt": "2026-11-20T19:54:01.8360Z"},
        {"expirationTime": ...},
        {"notBefore": "2026-11-20T19:54:01Z"},
        {"address": STRANGER.address},
        {"signature": "0x" + "00" * 65},
        {"signature": "0x"},
        {"signature": "0x" + "11" * 64},
        {"signature": "0x" + "ab" * 1000},
        {"signature": "zz"},
    ],
)
def test_a_member_changed_after_signing_breaks_the_signature(members: dict[str, object]) -> None:
    with pytest.raises(siwx.SiwxInvalidSignature):
        check(changed(**members))


def test_a_fresh_nonce_under_an_old_signature_is_refused() -> None:
    with pytest.raises(siwx.SiwxInvalidSignature):
        check(changed(nonce=NONCES.issue(NOW_MS + 1)))


def test_the_high_s_twin_of_a_sign_in_is_refused() -> None:
    signature = bytes.fromhex(unb64(sign_in())["signature"][2:])
    with pytest.raises(siwx.SiwxInvalidSignature):
        check(changed(signature="0x" + twin(signature).hex()))


@pytest.mark.parametrize("signature", ["1" * 64, "0" * 88, "z" * 88, "z" * 300, "2"])
def test_a_solana_signature_of_any_other_form_is_refused(signature: str) -> None:
    with pytest.raises(siwx.SiwxInvalidSignature):
        check(b64({**unb64(sign_in(SOLANA_KEY)), "signature": signature}))


def test_a_solana_wallet_in_lower_case_is_somebody_else() -> None:
    with pytest.raises(siwx.SiwxRefused):
        check(b64({**unb64(sign_in(SOLANA_KEY)), "address": SOLANA_KEY.address.lower()}))


@pytest.mark.parametrize("header", [None, ""])
def test_no_header_is_told_apart_from_a_bad_one(header: str | None) -> None:
    with pytest.raises(siwx.SiwxMissing):
        siwx.decode_proof(header)


@pytest.mark.parametrize(
    ("name", "junk"),
    [
        ("domain", ...),
        ("domain", "studio.test:8402\n"),
        ("domain", "x" * 256),
        ("address", ...),
        ("address", MARK),
        ("address", SOLANA_KEY.address),
        ("address", KEY.address[:-1]),
        ("uri", ...),
        ("uri", "https://studio.test:8402/ api"),
        ("uri", "x" * 2049),
        ("version", "2"),
        ("version", 1),
        ("chainId", ...),
        ("chainId", 84532),
        ("chainId", MARK),
        ("type", "ed25519"),
        ("type", MARK),
        ("type", 1),
        ("nonce", ...),
        ("nonce", "a\nb"),
        ("issuedAt", ...),
        ("issuedAt", "yesterday"),
        ("issuedAt", "2026-11-20T19:54:01"),
        ("issuedAt", "2026-11-20 19:54:01Z"),
        ("issuedAt", "2026-13-20T19:54:01Z"),
        ("issuedAt", "2026-11-20T19:54:60Z"),
        ("issuedAt", "2026-11-20T19:54:01+25:00"),
        ("issuedAt", "\u0662026-11-20T19:54:01Z"),
        ("issuedAt", NOW_MS),
        ("expirationTime", "never"),
        ("expirationTime", "2026-02-30T00:00:00Z"),
        ("notBefore", "2026-11-20T24:54:01Z"),
        ("statement", "two\nlines"),
        ("statement", "x" * 513),
        ("statement", ["x"]),
        ("requestId", "1\r"),
        ("resources", MARK),
        ("resources", ["https://x/\n- https://y"]),
        ("resources", [1]),
        ("resources", ["x"] * 17),
        ("signature", ...),
        ("signature", "0x+"),
        ("signature", 1),
    ],
)
def test_a_member_of_wrong_form_is_named_and_not_repeated(name: str, junk: object) -> None:
    with pytest.raises(siwx.SiwxMalformed) as refusal:
        siwx.decode_proof(changed(**{name: junk}))
    assert f": {name} " in refusal.value.message
    assert MARK not in refusal.value.message


def test_a_header_beyond_the_limit_is_refused() -> None:
    with pytest.raises(siwx.SiwxMalformed, match="at most 8192 characters"):
        siwx.decode_proof(changed(padding="x" * 8192))


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    header=st.text(min_size=1)
    | st.binary(min_size=1).map(lambda raw: base64.b64encode(raw).decode())
    | json_value.map(b64)
)
def test_any_header_is_malformed_at_worst(header: str) -> None:
    with pytest.raises(siwx.SiwxMalformed):
        siwx.decode_proof(header)


MEMBERS = [*sorted(unb64(sign_in())), "notBefore", "requestId"]


@given(name=st.sampled_from(MEMBERS), junk=json_value)
def test_any_value_in_any_member_is_refused_or_changes_nothing(name: str, junk: object) -> None:
    try:
        wallet = check(changed(**{name: junk}))
    except siwx.SiwxRefused:
        return
    assert wallet.display == KEY.address


@given(
    name=st.sampled_from(["domain", "uri", "statement", "nonce", "requestId", "address", "signature", "issuedAt"]),
    junk=st.text(min_size=1),
)
def test_any_text_in_any_member_is_refused(name: str, junk: str) -> None:
    with pytest.raises(siwx.SiwxRefused):
        check(changed(**{name: junk}))


def extension(**changes: object) -> dict[str, Any]:
    body = siwx.challenge(ORIGIN, path=PATH, nonce="a1" * 16, now_ms=NOW_MS, chains=CHAINS)
    return {**body["extensions"]["sign-in-with-x"], **changes}


def test_a_buyer_signs_only_for_the_origin_that_asked() -> None:
    for origin in ("https://evil.test", "https://studio.test", "http://studio.test:8402", "https://studio.test:84021"):
        with pytest.raises(siwx.SiwxChallengeRefused, match="another host"):
            siwx.sign(extension(), KEY, origin=origin)


def test_a_buyer_signs_no_uri_outside_the_origin() -> None:
    for uri in ("https://studio.test:8402.evil.test/", "https://studio.test:8402@evil.test/", "https://evil.test/"):
        info = {**extension()["info"], "uri": uri}
        with pytest.raises(siwx.SiwxChallengeRefused, match="another host"):
            siwx.sign(extension(info=info), KEY, origin=ORIGIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"info": None},
        {"info": {}},
        {"info": MARK},
        {"info": {**extension()["info"], "statement": "a\nb"}},
        {"supportedChains": MARK},
        {"supportedChains": [MARK]},
        {"supportedChains": [{"chainId": 1}]},
        {"supportedChains": []},
        {"supportedChains": [{"chainId": SOLANA_DEVNET}]},
    ],
)
def test_a_buyer_refuses_a_challenge_of_wrong_form(changes: dict[str, Any]) -> None:
    with pytest.raises(siwx.SiwxChallengeRefused) as refusal:
        siwx.sign(extension(**changes), KEY, origin=ORIGIN)
    assert MARK not in refusal.value.message


def test_a_buyer_reproduces_every_member_of_the_challenge() -> None:
    info = {**extension()["info"], "notBefore": iso(NOW_MS), "requestId": "r-1"}
    body = unb64(siwx.sign(extension(info=info), SOLANA_KEY, origin=ORIGIN))
    assert body == {
        **info,
        "address": SOLANA_KEY.address,
        "chainId": SOLANA_DEVNET,
        "type": "ed25519",
        "signature": body["signature"],
    }


def test_every_refusal_is_a_402_with_a_code_of_its_own() -> None:
    refusals = siwx.SiwxRefused.__subclasses__()
    assert {refusal.code for refusal in refusals} == {
        "siwx_missing",
        "siwx_malformed",
        "siwx_domain_mismatch",
        "siwx_uri_mismatch",
        "siwx_issued_at_too_old",
        "siwx_issued_at_in_future",
        "siwx_expired",
        "siwx_not_yet_valid",
        "siwx_unknown_nonce",
        "siwx_unsupported_chain",
        "siwx_invalid_signature",
        "siwx_nonce_used",
    }
    assert {refusal().status for refusal in refusals} == {402}

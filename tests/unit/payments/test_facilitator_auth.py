"""Keys of facilitators: tokens exactly as documented, made afresh, and no trace of a key anywhere."""

from __future__ import annotations

import base64
import json
import logging
import pickle
from typing import Any

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from stablestudio.payments.facilitators.auth import CdpAuth, FacilitatorAuth, FacilitatorKeyInvalid, NoAuth, PayAiAuth
from tests.doubles import ManualClock

URL = "https://api.cdp.coinbase.com/platform/v2/x402/settle"
SEED = bytes(range(32))
ED25519 = SigningKey(SEED)
CDP_SECRET = base64.b64encode(SEED + ED25519.verify_key.encode()).decode()
PKCS8 = bytes.fromhex("302e020100300506032b657004220420") + SEED
PAYAI_SECRET = "payai_sk_" + base64.b64encode(PKCS8).decode()
P256 = ECC.construct(curve="P-256", d=0x1234567890ABCDEF1234567890ABCDEF)
PEM = P256.export_key(format="PEM", use_pkcs8=False)
SECRETS = [CDP_SECRET, PAYAI_SECRET, PEM]


def parts(
    auth: FacilitatorAuth, *, method: str = "POST", url: str = URL
) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    header, claims, signature = token(auth, method=method, url=url).split(".")
    return json.loads(unbase64(header)), json.loads(unbase64(claims)), unbase64(signature)


def token(auth: FacilitatorAuth, *, method: str = "POST", url: str = URL) -> str:
    headers = auth.headers(method, url)
    assert list(headers) == ["Authorization"]
    scheme, _, value = headers["Authorization"].partition(" ")
    assert scheme == "Bearer"
    return value


def unbase64(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed_part(value: str) -> bytes:
    return value.rpartition(".")[0].encode()


def cdp(secret: str = CDP_SECRET, **options: Any) -> CdpAuth:
    return CdpAuth(key_id="key-1", secret=secret, clock=ManualClock(), **options)


def test_coinbase_token_has_exactly_the_documented_claims() -> None:
    clock = ManualClock()
    header, claims, _ = parts(cdp(nonce=lambda: "n" * 32))

    assert header == {"alg": "EdDSA", "kid": "key-1", "typ": "JWT", "nonce": "n" * 32}
    assert claims == {
        "sub": "key-1",
        "iss": "cdp",
        "nbf": clock.now_s,
        "exp": clock.now_s + 120,
        "uris": ["POST api.cdp.coinbase.com/platform/v2/x402/settle"],
    }


def test_coinbase_token_names_the_call_it_is_for() -> None:
    url = "https://api.cdp.coinbase.com/platform/v2/x402/supported"

    assert parts(cdp(), method="GET", url=url)[1]["uris"] == ["GET api.cdp.coinbase.com/platform/v2/x402/supported"]


def test_ed25519_signature_holds_and_covers_header_and_claims() -> None:
    value = token(cdp())
    signature = unbase64(value.rpartition(".")[2])

    ED25519.verify_key.verify(signed_part(value), signature)
    with pytest.raises(BadSignatureError):
        VerifyKey(ED25519.verify_key.encode()).verify(signed_part(value) + b"x", signature)


@pytest.mark.parametrize("pem", [PEM, PEM.replace("\n", "\\n"), f"\n{PEM}\n", P256.export_key(format="PEM")])
def test_pem_key_signs_by_es256_with_a_raw_signature(pem: str) -> None:
    value = token(cdp(pem))
    signature = unbase64(value.rpartition(".")[2])

    assert json.loads(unbase64(value.partition(".")[0]))["alg"] == "ES256"
    assert len(signature) == 64
    DSS.new(P256.public_key(), "fips-186-3").verify(SHA256.new(signed_part(value)), signature)


def test_payai_token_has_exactly_the_documented_claims() -> None:
    clock = ManualClock()
    auth = PayAiAuth(key_id=" key-2 ", secret=PAYAI_SECRET, clock=clock, nonce=lambda: "id-1")
    header, claims, signature = parts(auth)

    assert header == {"alg": "EdDSA", "typ": "JWT", "kid": "key-2"}
    assert claims == {
        "sub": "key-2",
        "iss": "payai-merchant",
        "iat": clock.now_s,
        "exp": clock.now_s + 120,
        "jti": "id-1",
    }
    ED25519.verify_key.verify(signed_part(token(auth)), signature)


def test_payai_secret_may_come_without_its_prefix() -> None:
    bare = PayAiAuth(key_id="k", secret=PAYAI_SECRET.removeprefix("payai_sk_"), clock=ManualClock(), nonce=lambda: "n")
    full = PayAiAuth(key_id="k", secret=PAYAI_SECRET, clock=ManualClock(), nonce=lambda: "n")

    assert token(bare) == token(full)


@pytest.mark.parametrize("auth", [cdp(), PayAiAuth(key_id="k", secret=PAYAI_SECRET, clock=ManualClock())])
def test_each_call_gets_a_fresh_token(auth: FacilitatorAuth) -> None:
    assert len({token(auth) for _ in range(20)}) == 20


def test_open_facilitator_is_told_nothing() -> None:
    assert NoAuth().headers("POST", URL) == {}


HALF_WRONG = base64.b64encode(SEED + bytes(32)).decode()
WRONG_CURVE = ECC.construct(curve="P-384", d=77).export_key(format="PEM")
BAD = [
    "",
    "no base64 !",
    CDP_SECRET[:-8],
    CDP_SECRET + "AAAA",
    HALF_WRONG,
    PAYAI_SECRET,
    PEM[:-60],
    "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----",
    WRONG_CURVE,
    P256.public_key().export_key(format="PEM"),
]
BAD_PAYAI = ["", "payai_sk_", CDP_SECRET, PAYAI_SECRET[:-8], base64.b64encode(P256.export_key(format="DER")).decode()]


@pytest.mark.parametrize("secret", BAD)
def test_unusable_coinbase_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(FacilitatorKeyInvalid) as caught:
        cdp(secret)

    assert_nothing_leaks(caught.value, secret)


@pytest.mark.parametrize("secret", BAD_PAYAI)
def test_unusable_payai_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(FacilitatorKeyInvalid) as caught:
        PayAiAuth(key_id="k", secret=secret, clock=ManualClock())

    assert_nothing_leaks(caught.value, secret)


def assert_nothing_leaks(error: BaseException, secret: str) -> None:
    told = f"{error} {error!r} {error.__dict__} {error.__cause__!r}"
    pieces = [piece for piece in secret.replace("payai_sk_", "").split("\n") if len(piece) > 12 and "---" not in piece]
    assert not any(piece in told for piece in pieces)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_key_without_an_id_is_refused() -> None:
    with pytest.raises(FacilitatorKeyInvalid, match="no id"):
        CdpAuth(key_id="  ", secret=CDP_SECRET, clock=ManualClock())


@pytest.mark.parametrize("secret", SECRETS)
def test_key_is_in_no_text_of_its_holder(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = (PayAiAuth if secret == PAYAI_SECRET else CdpAuth)(key_id="k", secret=secret, clock=ManualClock())
    auth.headers("POST", URL)
    logging.getLogger("test").info("auth %r %s", auth, vars(auth))

    for trace in (
        SEED.hex(),
        repr(SEED),
        str(P256.d),
        "1234567890abcdef",
        base64.b64encode(SEED).decode()[:40],
        secret,
    ):
        assert trace not in f"{auth!r} {auth} {vars(auth)} {caplog.text}"
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(auth)

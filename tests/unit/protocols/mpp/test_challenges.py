"""Challenges are what pympp issues, byte for byte, bound to all that they say, and quick to make."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace
from typing import Any

import mpp as pympp
import pytest
from mpp import _body_digest
from mpp.server.verify import verify_or_challenge

from stablestudio.protocols import mpp
from stablestudio.protocols.mpp.messages import canonical
from tests.unit.payments.tempo_buyer import read_challenge, read_part

NOW = 1_795_204_441
KEYS = (b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210")
REALM = "studio.test"
TERMS = mpp.ChargeTerms(
    chain_id=42431,
    currency="0x20c0000000000000000000000000000000000000",
    recipient="0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
)
REQUEST = TERMS.request(134_000)
PATH = "/api/generate/nano-banana-pro/generate"
BODY = b'{"prompt":"a cat"}'
DIGEST = mpp.body_digest(BODY)
SHA256 = hashlib.sha256(BODY).digest()


def _desk(**changes: Any) -> mpp.ChallengeDesk:
    return mpp.ChallengeDesk(**({"realm": REALM, "keys": KEYS} | changes))


def _issue(desk: mpp.ChallengeDesk | None = None, **changes: Any) -> mpp.ChallengeEcho:
    given: dict[str, Any] = {"request": REQUEST, "path": PATH, "now_s": NOW, "digest": DIGEST, **changes}
    return read_challenge((desk or _desk()).issue(given.pop("request"), **given))


def _require(desk: mpp.ChallengeDesk, echo: mpp.ChallengeEcho, **changes: Any) -> None:
    given: dict[str, Any] = {"request": REQUEST, "path": PATH, "now_s": NOW, "digest": DIGEST, **changes}
    desk.require(echo, given.pop("request"), **given)


@pytest.mark.parametrize("digest", [DIGEST, ""], ids=["body", "no body"])
def test_pympp_reads_our_line_finds_the_same_id_and_writes_the_same_line(digest: str) -> None:
    line = _desk().issue(REQUEST, path=PATH, now_s=NOW, digest=digest)
    theirs = pympp.Challenge.from_www_authenticate(line)
    assert theirs.verify(KEYS[0].decode(), REALM)
    assert theirs.request == {
        "amount": "134000",
        "currency": TERMS.currency,
        "methodDetails": {"chainId": 42431, "supportedModes": ["pull"]},
        "recipient": TERMS.recipient,
    }
    assert theirs.opaque is not None
    assert theirs.opaque["path"] == PATH
    assert (theirs.expires, theirs.description) == ("2026-11-20T19:59:01Z", "nano-banana-pro generate")
    assert theirs.to_www_authenticate(REALM) == line


def test_our_line_is_the_one_that_pympp_issues() -> None:
    echo = _issue()
    theirs = pympp.Challenge.create(
        secret_key=KEYS[0].decode(),
        realm=REALM,
        method="tempo",
        intent="charge",
        request=read_part(REQUEST),
        expires=echo.expires,
        digest=_body_digest.compute(BODY),
        description=echo.description,
        meta=read_part(echo.opaque),
    )
    assert theirs.id == echo.id
    assert read_challenge(theirs.to_www_authenticate(REALM)) == echo


@pytest.mark.anyio
async def test_a_server_of_pympp_believes_our_challenge() -> None:
    class Anything:
        name = "charge"

        async def verify(self, credential: Any, request: Any) -> pympp.Receipt:
            return pympp.Receipt.success("0x01")

    echo = _issue(now_s=int(time.time()))
    header = mpp.encode_credential(mpp.Credential(challenge=echo, payload={"type": "transaction"}))
    result = await verify_or_challenge(
        authorization=header,
        intent=Anything(),
        request=read_part(REQUEST),
        realm=REALM,
        secret_key=KEYS[0].decode(),
        method="tempo",
        meta={"path": PATH},
        body=BODY,
    )
    assert isinstance(result, tuple)


def test_our_desk_believes_a_challenge_of_pympp() -> None:
    theirs = pympp.Challenge.create(
        secret_key=KEYS[1].decode(),
        realm=REALM,
        method="tempo",
        intent="charge",
        request=read_part(REQUEST),
        expires="2026-11-20T19:58:00.384697Z",
        digest=DIGEST,
        meta={"path": PATH},
    )
    header = pympp.Credential(challenge=theirs.to_echo(), payload={}).to_authorization()
    _require(_desk(), mpp.decode_credential(header).challenge)


def test_a_challenge_is_believed_for_its_own_request() -> None:
    _require(_desk(), _issue())
    _require(_desk(), _issue(digest=""), digest="")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "A" * 43},
        {"realm": "other.test"},
        {"request": TERMS.request(1)},
        {"expires": "2030-01-01T00:00:00Z"},
        {"expires": None},
        {"digest": mpp.body_digest(b"")},
        {"digest": None},
        {"opaque": canonical({"path": PATH})},
        {"opaque": None},
    ],
    ids=str,
)
def test_a_changed_challenge_is_not_ours(change: dict[str, Any]) -> None:
    with pytest.raises(mpp.ChallengeNotIssued):
        _desk().verify(replace(_issue(), **change))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"request": TERMS.request(134_001)}, "other terms"),
        ({"digest": mpp.body_digest(b"{}")}, "another body"),
        ({"digest": ""}, "another body"),
        ({"path": PATH + "/"}, "another path"),
    ],
    ids=["price", "body", "no body", "path"],
)
def test_a_challenge_is_for_one_request(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(mpp.ChallengeMismatch, match=told):
        _require(_desk(), _issue(), **asked)


def test_a_challenge_without_a_path_is_for_none() -> None:
    theirs = pympp.Challenge.create(
        secret_key=KEYS[0].decode(),
        realm=REALM,
        method="tempo",
        intent="charge",
        request=read_part(REQUEST),
        expires="2026-11-20T19:58:00Z",
        digest=DIGEST,
    ).to_echo()
    echo = mpp.decode_credential(pympp.Credential(challenge=theirs, payload={}).to_authorization()).challenge
    with pytest.raises(mpp.ChallengeMismatch, match="another path"):
        _require(_desk(), echo)


@pytest.mark.parametrize("left", [1, 0, -1])
def test_a_challenge_lives_for_five_minutes(left: int) -> None:
    if left > 0:
        return _require(_desk(), _issue(), now_s=NOW + 300 - left)
    with pytest.raises(mpp.ChallengeExpired):
        _require(_desk(), _issue(), now_s=NOW + 300 - left)
    return None


def test_a_key_can_be_replaced_while_its_challenges_live() -> None:
    before, during, after = _desk(keys=KEYS[1:]), _desk(), _desk(keys=KEYS[:1])
    old, new = _issue(before), _issue(during)
    for echo in (old, new):
        during.verify(echo)
    after.verify(new)
    for desk, echo in ((after, old), (before, new)):
        with pytest.raises(mpp.ChallengeNotIssued):
            desk.verify(echo)


def test_two_quotes_in_one_second_are_two_challenges() -> None:
    desk = _desk()
    assert _issue(desk).id != _issue(desk).id


def test_the_same_entropy_makes_the_same_challenge() -> None:
    assert _issue(_desk(entropy=bytes)) == _issue(_desk(entropy=bytes))
    assert _issue(_desk()) != _issue(_desk()), "two processes would be paid by one transaction"


@pytest.mark.parametrize("body", [b"", b"{}", bytes(range(256))])
def test_a_digest_is_the_one_of_the_sdks(body: bytes) -> None:
    assert mpp.body_digest(body) == _body_digest.compute(body)


@pytest.mark.parametrize("path", [PATH, "/", "/a", '/api/"q"/\\b', "/api/münze/generate", "/x" * 200])
def test_a_path_of_any_spelling_is_bound(path: str) -> None:
    line = _desk().issue(REQUEST, path=path, now_s=NOW, digest=DIGEST)
    theirs = pympp.Challenge.from_www_authenticate(line)
    assert theirs.opaque is not None
    assert theirs.opaque["path"] == path
    assert theirs.verify(KEYS[0].decode(), REALM)
    line.encode("ascii")
    assert len(line) < 8192


@pytest.mark.parametrize("path", [PATH, "/api/payment /x", "/api/Payment x/generate"])
def test_no_line_holds_the_schemes_name_twice(path: str) -> None:
    """Older buyers split a header at the word and a space, even inside quotes."""
    line = _desk().issue(REQUEST, path=path, now_s=NOW, digest=DIGEST)
    assert len(re.findall(r"(?i)payment ", line)) == 1


@pytest.mark.parametrize("realm", ["", "Payment desk", "a|b", 'a"b', "a\\b", "münze.test", "a\r\nb"])
def test_a_realm_that_headers_cannot_carry_is_refused_at_the_start(realm: str) -> None:
    with pytest.raises(ValueError, match="realm"):
        _desk(realm=realm)


@pytest.mark.parametrize("realm", [REALM, "payments.example.com", "127.0.0.1:8402"])
def test_a_host_is_a_realm(realm: str) -> None:
    assert _issue(_desk(realm=realm)).realm == realm


@pytest.mark.parametrize("keys", [[], [b"short"], [KEYS[0], b""]])
def test_a_key_that_could_be_guessed_is_refused_at_the_start(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="key"):
        _desk(keys=keys)


@pytest.mark.parametrize("part", ["", "e", "e30=", "bnVsbA", "!!", base64.b64encode(b"[1]").decode()])
def test_what_is_no_object_is_no_part_of_ours(part: str) -> None:
    if part == "e30=":
        assert mpp.read_part(part).value == {}
        return
    with pytest.raises(mpp.ChallengeNotIssued):
        mpp.read_part(part)


def test_a_line_takes_microseconds() -> None:
    """Each unpaid quote fills one in per token."""
    form, rounds = _form(_desk()), 2000
    best = min(_seconds(form, rounds) for _ in range(5)) / rounds
    assert best < 40e-6  # twenty times what it takes, for slow machines


def _seconds(form: mpp.ChallengeForm, rounds: int) -> float:
    start = time.process_time()
    for _ in range(rounds):
        form.fill(SHA256)
    return time.process_time() - start


def test_a_form_filled_in_is_a_challenge_as_it_is_issued() -> None:
    desk = _desk()
    one, other = _issue(desk), read_challenge(_form(desk).fill(SHA256).decode())
    assert one.id != other.id
    assert replace(one, id="", opaque="") == replace(other, id="", opaque="")
    _require(desk, other)
    with pytest.raises(mpp.ChallengeMismatch):
        _require(desk, other, digest=mpp.body_digest(b"another"))


def _form(desk: mpp.ChallengeDesk) -> mpp.ChallengeForm:
    return desk.form(REQUEST, path=PATH, now_s=NOW)

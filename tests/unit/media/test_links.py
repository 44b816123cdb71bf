from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.media.links import LinkExpired, LinkInvalid, LinkSigner, link_terms

SECRET = b"0123456789abcdef0123456789abcdef"
ORIGIN = "https://studio.example"
KEY = "jobs/job_abc/0.png"
NOW_MS = 1_795_205_641_836


def signer() -> LinkSigner:
    return LinkSigner(SECRET, ORIGIN)


def terms(url: str) -> tuple[str, str]:
    return link_terms(urlsplit(url).query)


def test_link_has_the_documented_form() -> None:
    url = signer().url(KEY, now_ms=NOW_MS)

    assert re.fullmatch(r"https://studio\.example/assets/jobs/job_abc/0\.png\?exp=\d{10}&sig=[A-Za-z0-9_-]{24}", url)


def test_signature_is_hmac_sha256_of_key_and_expiry_under_a_derived_key() -> None:
    exp, sig = terms(signer().url(KEY, now_ms=NOW_MS))

    derived = hmac.digest(SECRET, b"stablestudio asset links", "sha256")
    whole = hmac.new(derived, f"{KEY}\n{exp}\n".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(sig) == whole[:18]


def test_trailing_slash_of_the_origin_is_dropped() -> None:
    assert LinkSigner(SECRET, f"{ORIGIN}/").url(KEY, now_ms=NOW_MS) == signer().url(KEY, now_ms=NOW_MS)


def test_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        LinkSigner(b"short", ORIGIN)


@given(now_ms=st.integers(min_value=0, max_value=4_000_000_000_000))
def test_link_lives_twenty_to_twenty_one_minutes(now_ms: int) -> None:
    expiry = int(terms(signer().url(KEY, now_ms=now_ms))[0])

    assert expiry % 60 == 0
    assert 1200 < expiry - now_ms // 1000 <= 1260


def test_reads_within_a_minute_give_equal_links_and_later_ones_do_not() -> None:
    minute = 1_795_205_640_000 // 60_000 * 60_000 + 60_000
    links = {signer().url(KEY, now_ms=minute + offset) for offset in (1_000, 30_000, 59_999)}

    assert len(links) == 1
    assert signer().url(KEY, now_ms=minute + 61_000) not in links


def test_link_holds_until_its_last_millisecond() -> None:
    exp, sig = terms(signer().url(KEY, now_ms=NOW_MS))

    assert signer().check(KEY, exp, sig, int(exp) * 1000 - 1) == int(exp)
    with pytest.raises(LinkExpired) as caught:
        signer().check(KEY, exp, sig, int(exp) * 1000)
    assert (caught.value.status, "job again" in caught.value.advice) == (410, True)


@pytest.mark.parametrize(
    ("key", "exp", "sig"),
    [
        ("jobs/job_abd/0.png", None, None),
        ("jobs/job_abc/0.png/", None, None),
        (None, "9999999999", None),
        (None, "1795206900 ", None),
        (None, "١٧٩٥٢٠٦٩٠٠", None),
        (None, "", None),
        (None, None, ""),
        (None, None, "A" * 24),
        (None, None, "ä" * 24),
        (None, None, "\ud800"),
        ("\ud800", None, None),
    ],
)
def test_any_change_to_a_link_is_refused(key: str | None, exp: str | None, sig: str | None) -> None:
    genuine = terms(signer().url(KEY, now_ms=NOW_MS))

    with pytest.raises(LinkInvalid) as caught:
        signer().check(
            KEY if key is None else key,
            genuine[0] if exp is None else exp,
            genuine[1] if sig is None else sig,
            NOW_MS,
        )
    assert caught.value.status == 403


@given(position=st.integers(0, 23), letter=st.sampled_from("ABCZabcz0189_-="))
def test_every_letter_of_the_signature_counts(position: int, letter: str) -> None:
    exp, sig = terms(signer().url(KEY, now_ms=NOW_MS))
    altered = sig[:position] + letter + sig[position + 1 :]

    if altered != sig:
        with pytest.raises(LinkInvalid):
            signer().check(KEY, exp, altered, NOW_MS)


def test_forged_link_is_called_invalid_even_after_its_expiry() -> None:
    with pytest.raises(LinkInvalid):
        signer().check(KEY, "1000000000", "A" * 24, NOW_MS)


def test_other_secret_makes_other_links() -> None:
    exp, sig = terms(LinkSigner(b"another secret, as long as this", ORIGIN).url(KEY, now_ms=NOW_MS))

    with pytest.raises(LinkInvalid):
        signer().check(KEY, exp, sig, NOW_MS)


@pytest.mark.parametrize("query", ["", "exp=1", "sig=a", "exp=&sig=", "exp=%FF"])
def test_link_without_both_terms_is_invalid(query: str) -> None:
    with pytest.raises(LinkInvalid):
        link_terms(query)


def test_terms_are_found_among_others() -> None:
    assert link_terms("utm=x&sig=a_-&exp=12&exp=13") == ("12", "a_-")


def test_own_link_is_read_back_to_its_key() -> None:
    url = signer().url(KEY, now_ms=NOW_MS)

    assert signer().key_in(url, now_ms=NOW_MS) == KEY
    assert signer().key_in(f"{url}&utm=x#top", now_ms=NOW_MS) == KEY


@pytest.mark.parametrize(
    "url",
    [
        "https://studio.example.evil.com/assets/jobs/job_abc/0.png?exp=1&sig=a",
        "http://studio.example/assets/jobs/job_abc/0.png?exp=1&sig=a",
        "https://other.example/assets/jobs/job_abc/0.png?exp=1&sig=a",
        "https://studio.example/api/jobs",
        "",
    ],
)
def test_other_addresses_are_not_our_links(url: str) -> None:
    assert signer().key_in(url, now_ms=NOW_MS) is None


@pytest.mark.parametrize("rest", ["", "jobs/job_abc/0.png", "//[", "//[?exp=1&sig=a", "jobs/job_abc/0.png?exp=1&sig=a"])
def test_own_address_without_a_valid_signature_is_refused(rest: str) -> None:
    with pytest.raises(LinkInvalid):
        signer().key_in(f"{ORIGIN}/assets/{rest}", now_ms=NOW_MS)


def test_own_link_expires() -> None:
    with pytest.raises(LinkExpired):
        signer().key_in(signer().url(KEY, now_ms=NOW_MS), now_ms=NOW_MS + 1_260_000)

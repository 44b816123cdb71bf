"""The headers of a 402 are put together from parts that were encoded before: they say what is offered, bit by bit."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.config import load_settings
from stablestudio.money import Money
from stablestudio.payments.rail import Asked, BindingRail
from stablestudio.protocols import x402
from stablestudio.server.challenge import Challenges
from stablestudio.server.rails import Rails, build_rails
from stablestudio.store.database import Database
from tests.doubles import NOW_MS, ManualClock

OFFERING = OFFERINGS[0]
ASKED = Asked(path=OFFERING.path, body=b"{}", price=Money(45_000), now_s=NOW_MS // 1000)
MEMO = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{32}(?![A-Za-z0-9+/])")


@pytest.fixture
def rails(database: Database, clock: ManualClock) -> Rails:
    return build_rails(load_settings({}), database=database, secret=b"s" * 32, clock=clock)


# Base64 has groups of three bytes, and a memo may begin anywhere in one.
@pytest.mark.parametrize("origin", ["https://a.example", "https://ab.example", "https://abc.example"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_woven_header_is_the_encoded_offer(rails: Rails, origin: str, times: int) -> None:
    bound = [rail for rail in rails.x402 if isinstance(rail, BindingRail)]
    others = [rail for rail in rails.x402 if rail not in bound]
    challenges = Challenges([*bound * times, *others], origin=origin)

    for body in (b"{}", b'{"prompt": "a lighthouse"}'):
        asked = replace(ASKED, body=body)
        [(name, value)] = challenges.offers(OFFERING, asked)
        assert name == b"payment-required"
        woven, encoded = value.decode(), x402.encode_required(challenges.required(OFFERING, asked))
        assert _without_memos(woven) == _without_memos(encoded)
        assert len(woven) == len(encoded)
        for offer in x402.decode_required(woven).accepts[: len(bound) * times]:
            assert MEMO.fullmatch(offer.extra["memo"])


def _without_memos(header: str) -> list[str]:
    return MEMO.split(base64.b64decode(header, validate=True).decode())


def test_two_quotes_of_one_second_share_no_id_and_no_memo(rails: Rails) -> None:
    challenges = Challenges(rails.x402, rails.mpp, origin="https://a.example")
    one, other = (challenges.offers(OFFERING, replace(ASKED)) for _ in range(2))

    assert len(one) == len(other) == 1 + len(rails.mpp)
    assert not {value for _, value in one} & {value for _, value in other}

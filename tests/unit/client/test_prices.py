from __future__ import annotations

import pytest

from stablestudio.client import StudioApiError
from stablestudio.client.fakes import error_reply
from stablestudio.client.offers import Wish
from stablestudio.client.prices import Price, ask_price
from stablestudio.client.steps import Call, Outcome, Reply, drive

WISH = Wish(model="m", operation="o", url="http://seller.test/api/generate/m/o", body=b'{"prompt":"a fox"}')


def ask(reply: Reply) -> Price | None:
    def perform(call: Call) -> Outcome:
        assert call.url == "http://seller.test/api/quote"
        assert call.body == b'{"model":"m","operation":"o","input":{"prompt":"a fox"}}'
        return reply

    return drive(ask_price("http://seller.test", WISH), perform=perform, sleep=lambda _: None)


@pytest.mark.parametrize(
    "reply",
    [
        error_reply(404, "route_not_found"),
        Reply(status=402, body=b"{}"),
        Reply(status=405),
        Reply(status=501),
        Reply(status=308),
        Reply(status=200, body=b"<html>"),
        Reply(status=200, body=b'{"price": "a lot"}'),
    ],
    ids=["404", "402", "405", "501", "308", "a page", "another document"],
)
def test_a_seller_without_such_a_route_tells_by_its_402_alone(reply: Reply) -> None:
    assert ask(reply) is None


@pytest.mark.parametrize("status", [400, 410, 429, 500, 503])
def test_what_the_service_has_against_an_input_is_told(status: int) -> None:
    with pytest.raises(StudioApiError) as caught:
        ask(error_reply(status, "odd"))
    assert (caught.value.code, caught.value.status) == ("odd", status)

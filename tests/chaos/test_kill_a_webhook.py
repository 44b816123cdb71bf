"""`kill -9` around a webhook: what became true is told after the next start, at least once, under one id."""

from __future__ import annotations

import signal

import pytest

from tests.fakes.receiver import Receiver

from .conftest import DOOMED, PICTURE, World

_SECONDS = 60.0


@pytest.mark.parametrize("place", ["close.complete", "webhook.taken", "webhook.sent"])
def test_a_buyer_is_told_of_its_job_whenever_the_service_dies(world: World, place: str) -> None:
    world.service.environment["STABLESTUDIO_WEBHOOKS_INSIDE"] = "true"
    with Receiver() as receiver:
        world.service.start(failpoint=place)
        answer = world.buyer.pay(PICTURE.path, PICTURE.body, world.sign(), **{"Webhook-Url": receiver.url})
        assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL
        # Whoever dies after sending and before writing that down sends again.
        assert len(receiver.deliveries) == (1 if place == "webhook.sent" else 0) or place == "close.complete"
        world.service.start()
        deliveries = receiver.wait(2 if place == "webhook.sent" else 1)
        assert {each.message["data"]["jobId"] for each in deliveries} == {answer.json()["jobId"]}
        assert len({each.headers["webhook-id"] for each in deliveries}) == 1
        assert len({each.headers["webhook-timestamp"] for each in deliveries}) == len(deliveries)


def test_a_refund_that_a_kill_cut_off_is_told(world: World) -> None:
    world.service.environment["STABLESTUDIO_WEBHOOKS_INSIDE"] = "true"
    with Receiver() as receiver:
        world.service.start(failpoint="refund.sent")
        payment = world.sign(DOOMED)
        world.buyer.pay(DOOMED.path, DOOMED.body, payment, **{"Webhook-Url": receiver.url})
        assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL
        world.service.start()
        told = {each.message["type"] for each in receiver.wait(2)}
    assert told == {"job.failed", "job.refunded"}

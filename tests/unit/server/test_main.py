"""The log stays readable in an outage."""

from __future__ import annotations

import logging

from stablestudio.server.main import Sparing


def test_what_the_engine_says_again_and_again_is_told_once_a_minute() -> None:
    sparing, told = (
        Sparing(),
        ["Exception polling schedules: Traceback of the second", "Notification listener error: connection is bad"],
    )
    lines = [logging.makeLogRecord({"msg": f"{text} {number}"}) for number in range(50) for text in told]
    assert [line.msg for line in lines if sparing.filter(line)] == [f"{text} 0" for text in told]

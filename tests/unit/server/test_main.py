"""The log stays readable in an outage."""

from __future__ import annotations

import logging

from stablestudio.server.main import Sparing


def test_what_the_engine_says_of_an_outage_is_told_once_a_minute_and_all_else_always() -> None:
    sparing = Sparing()
    outage = [f"Notification listener error: connection is bad: try {number}" for number in range(50)]
    others = [f"Exception encountered in the workflow with id {number}" for number in range(3)]
    told = [text for text in (*outage, *others) if sparing.filter(logging.makeLogRecord({"msg": text}))]
    assert told == [outage[0], *others]

"""docs/refunds.md tells the commands, states and reasons that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import click

from stablestudio.cli.audit import audit
from stablestudio.cli.refunds import refunds
from stablestudio.payments import refund_policy
from stablestudio.store import refunds as store
from stablestudio.store.tables import refunds as table

PAGE = (Path(__file__).parents[2] / "docs" / "refunds.md").read_text()


def test_every_command_of_the_page_exists_with_its_options() -> None:
    lines = re.findall(r"^stablestudio (.+?)\s+#(.*)$", PAGE, re.MULTILINE)
    assert {" ".join(line.split()[:2]) for line, _ in lines if line.startswith("refunds")} == {
        f"refunds {name}" for name in refunds.commands
    }
    for line, remark in lines:
        words = line.split()
        command: click.Command = audit if words[0] == "audit" else refunds.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--\w+", line + remark)) <= known, line


def test_every_state_is_told() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| [a-z]", PAGE.partition("## Why a refund waits")[0], re.MULTILINE))
    states = re.findall(r"'(\w+)'", next(str(check.sqltext) for check in table.constraints if "ck_" in str(check.name)))  # type: ignore[attr-defined]
    assert told == set(states)


def test_every_reason_to_wait_is_told() -> None:
    rows = re.findall(r"^\| (`.+?) \| ", PAGE.partition("## Why a refund waits")[2], re.MULTILINE)
    told = {reason for row in rows for reason in re.findall(r"`(\w+)`", row)}
    assert told == {*store.HELD_BY_RULE, *refund_policy._LASTING, "recipient_account_missing", "recipient_refused"}


def test_the_pauses_are_told() -> None:
    assert (store._FIRST_PAUSE_MS, store._LONGEST_PAUSE_MS) == (5_000, 120_000)
    assert "from five seconds to two minutes" in " ".join(PAGE.split())
    assert refund_policy.PATIENCE_MS == 30 * 60 * 1000
    assert "lasted half an hour" in PAGE

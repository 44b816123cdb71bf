"""Poll tokens: for one job of one wallet, for two hours at most, and nobody else can make one."""

from __future__ import annotations

import pytest

from stablestudio.server.poll_tokens import PollTokenExpired, PollTokenInvalid, PollTokens
from tests.doubles import NOW_MS

JOB, WALLET = "job_1", "eip155:0xabc"
TOKENS = PollTokens(b"s" * 32)
HOUR_MS = 3_600_000


def _until(
    text: str, *, job: str = JOB, wallet: str = WALLET, now_ms: int = NOW_MS, tokens: PollTokens = TOKENS
) -> int:
    return tokens.check(text, job, wallet=wallet, now_ms=now_ms)


def test_a_token_holds_for_one_to_two_hours_and_is_the_same_within_an_hour() -> None:
    start = NOW_MS // HOUR_MS * HOUR_MS
    token = TOKENS.issue(JOB, wallet=WALLET, now_ms=start)
    assert token == TOKENS.issue(JOB, wallet=WALLET, now_ms=start + HOUR_MS - 1)
    assert _until(token.text, now_ms=start) == token.until_ms == start + 2 * HOUR_MS
    assert _until(token.text, now_ms=token.until_ms - 1) == token.until_ms
    with pytest.raises(PollTokenExpired):
        _until(token.text, now_ms=token.until_ms)


def test_a_token_of_another_job_wallet_or_service_does_not_hold() -> None:
    text = TOKENS.issue(JOB, wallet=WALLET, now_ms=NOW_MS).text
    for job, wallet, tokens in (
        ("job_2", WALLET, TOKENS),
        (JOB, "eip155:0xabd", TOKENS),
        (JOB, WALLET, PollTokens(b"t" * 32)),
    ):
        with pytest.raises(PollTokenInvalid):
            _until(text, job=job, wallet=wallet, tokens=tokens)


def test_an_altered_token_does_not_hold() -> None:
    text = TOKENS.issue(JOB, wallet=WALLET, now_ms=NOW_MS).text
    altered = [text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :] for place in range(len(text))]
    for each in [*altered, "", "poll_", text[:-1], text + "A", text.removeprefix("poll_"), f"{text}=", "poll_\u00e9"]:
        with pytest.raises(PollTokenInvalid):
            _until(each)


def test_a_token_fits_into_a_header_as_it_is() -> None:
    assert TOKENS.issue(JOB, wallet=WALLET, now_ms=NOW_MS).text.replace("_", "").replace("-", "").isalnum()

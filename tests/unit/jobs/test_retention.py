"""How long a result is kept is decided once, by its kind, in full minutes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stablestudio.jobs.retention import Retention


@given(now_ms=st.integers(0, 4_000_000_000_000), days=st.floats(0.001, 36_500))
def test_a_file_is_kept_for_the_days_promised_and_less_than_a_minute_more(now_ms: int, days: float) -> None:
    until = Retention(images=days).until("image/png", now_ms=now_ms)
    assert until is not None
    assert until % 60_000 == 0
    assert 0 <= until - now_ms - round(days * 86_400_000) < 60_000


def test_each_kind_has_its_own_time_and_nought_is_for_ever() -> None:
    kept = Retention(images=0, videos=1)
    assert kept.until("image/webp", now_ms=0) is None
    assert kept.until("video/mp4", now_ms=0) == 86_400_000

"""Money is exact: whole millionths of a dollar, never rounded, never a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.money import DECIMALS, Money

amounts = st.integers(0, 10**18).map(Money)
decimals = st.sampled_from([2, 6, 18]) | st.integers(0, 30)


@given(amounts)
def test_what_is_written_reads_as_the_same_amount(amount: Money) -> None:
    assert Money.parse(str(amount)) == amount
    assert Money.parse(f"${amount}") == amount


@given(amounts)
def test_an_amount_is_written_as_its_exact_decimal_with_two_places_or_more(amount: Money) -> None:
    written = str(amount)
    places = written.partition(".")[2]

    assert Decimal(written).scaleb(DECIMALS) == amount.micros
    assert 2 <= len(places) <= DECIMALS
    assert len(places) == 2 or not places.endswith("0")


@given(whole=st.integers(0, 10**20), places=st.text("0123456789", min_size=1, max_size=40))
def test_a_decimal_is_read_exactly_or_refused(whole: int, places: str) -> None:
    written = f"{whole}.{places}"
    if places[DECIMALS:].strip("0"):
        with pytest.raises(ValueError, match="at most 6 decimals"):
            Money.parse(written)
    else:
        assert Money.parse(written).micros == int(f"{whole}{places[:DECIMALS].ljust(DECIMALS, '0')}")


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "$", "$$1", "one", "1,5", "1 5", "0x1", "1.2.3", "NaN", "sNaN", "inf", "-inf", "-1", "-0.000001"),
        *("1e1000000", "1e-1000000", "0.0000001", "0.1340000000000000000000000000000001"),
    ],
)
def test_what_is_no_amount_of_dollars_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"dollars|negative"):
        Money.parse(text)


@given(st.text(max_size=12))
def test_any_other_text_is_refused_as_a_value_error(text: str) -> None:
    try:
        amount = Money.parse(text)
    except ValueError:
        return
    assert type(amount.micros) is int
    assert amount.micros >= 0


@given(amount=amounts, digits=st.integers(DECIMALS, 30))
def test_base_units_of_a_fine_token_come_back_as_the_same_amount(amount: Money, digits: int) -> None:
    units = amount.base_units(decimals=digits)

    assert type(units) is int
    assert Decimal(units).scaleb(-digits) == Decimal(str(amount))
    assert Money.from_base_units(units, decimals=digits) == amount


@given(amount=amounts, digits=st.integers(0, DECIMALS - 1))
def test_a_token_too_coarse_for_an_amount_is_refused(amount: Money, digits: int) -> None:
    if amount.micros % 10 ** (DECIMALS - digits):
        with pytest.raises(ValueError, match="not a whole amount"):
            amount.base_units(decimals=digits)
    else:
        assert Money.from_base_units(amount.base_units(decimals=digits), decimals=digits) == amount


@given(units=st.integers(0, 10**40), digits=decimals)
def test_base_units_are_read_exactly_and_dust_is_refused(units: int, digits: int) -> None:
    try:
        amount = Money.from_base_units(units, decimals=digits)
    except ValueError:
        assert units % 10 ** (digits - DECIMALS)
        return
    assert type(amount.micros) is int
    assert amount.micros * 10**digits == units * 10**DECIMALS


@pytest.mark.parametrize(("digits", "units"), [(2, 15), (6, 150_000), (18, 150_000_000_000_000_000)])
def test_fifteen_cents_in_the_tokens_that_there_are(digits: int, units: int) -> None:
    assert Money.parse("0.15").base_units(decimals=digits) == units
    assert Money.from_base_units(units, decimals=digits) == Money.parse("0.15")


def test_one_unit_of_dust_is_refused() -> None:
    with pytest.raises(ValueError, match="not whole millionths"):
        Money.from_base_units(10**12 + 1, decimals=18)


@given(st.integers(max_value=-1))
def test_there_is_no_negative_amount(micros: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        Money(micros)


@given(one=amounts, other=amounts, count=st.integers(0, 1000))
def test_sums_and_multiples_are_those_of_the_millionths(one: Money, other: Money, count: int) -> None:
    assert (one + other).micros == one.micros + other.micros
    assert (one * count).micros == one.micros * count
    assert (one < other) == (one.micros < other.micros)

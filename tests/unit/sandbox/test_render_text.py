from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.sandbox.render_text import LEADING, PROMPT_CAP, clip, fit, font, readable, width, wrap


def monospaced(text: str) -> float:
    return float(len(text))


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("A red  fox\n\tat dawn", "A red fox at dawn"),
        ("café, naïve, Łódź, Größe", "cafe, naive, Lodz, Grosse"),
        ("5 × 3 – four", "5 x 3 - four"),  # noqa: RUF001 - look-alikes are the point
        ("a 猫猫猫 on the moon", "a … on the moon"),
        ("fox \N{FOX FACE} runs", "fox … runs"),
        ("bell\x07rings", "bell…rings"),
        ("", ""),
        ("  \n ", ""),
    ],
)
def test_a_prompt_is_shown_in_what_the_font_has(given_text: str, shown: str) -> None:
    assert readable(given_text) == shown


@pytest.mark.parametrize("foreign", ["一只猫在月球上", "Привет", "مرحبا", "\N{FOX FACE}"])
def test_a_prompt_wholly_beyond_the_font_is_described(foreign: str) -> None:
    assert readable(foreign).startswith(f"A prompt of {len(foreign)} characters")


def test_a_very_long_prompt_is_cut_before_any_work() -> None:
    shown = readable("word " * 6400)
    assert len(shown) <= PROMPT_CAP + 1
    assert shown.endswith("…")


@given(st.text(max_size=200))
def test_every_shown_letter_has_a_glyph(text: str) -> None:
    missing = bytes(font(32).getmask("\U0010ffff"))
    assert all(bytes(font(32).getmask(letter)) != missing for letter in readable(text) if letter != " ")


@given(st.text(alphabet="abc  ", max_size=80), st.integers(1, 12))
def test_wrapping_keeps_every_letter_and_no_line_is_too_wide(text: str, limit: int) -> None:
    lines = wrap(text, limit=limit, measure=monospaced)
    assert "".join(lines).replace(" ", "") == "".join(text.split())
    assert all(monospaced(line) <= limit for line in lines)


def test_words_stay_whole_where_they_fit() -> None:
    assert wrap("the quick brown fox", limit=9, measure=monospaced) == ["the quick", "brown fox"]


def test_a_short_text_takes_the_largest_size_and_a_long_one_the_largest_that_fits() -> None:
    short = fit("fox", box=(800, 300), largest=70, smallest=20)
    long = fit("a fox and its many words " * 12, box=(800, 300), largest=70, smallest=20)
    assert (short.size, short.lines) == (70, ("fox",))
    assert 20 <= long.size < 70
    assert len(long.lines) * long.size * LEADING <= 300
    assert all(width(line) * long.size <= 800 for line in long.lines)


def test_a_smaller_size_is_taken_rather_than_a_word_broken() -> None:
    block = fit("a lighthouse", box=(100, 400), largest=40, smallest=10)
    assert "lighthouse" in block.lines


def test_what_does_not_fit_even_small_ends_in_an_ellipsis() -> None:
    block = fit("word " * 300, box=(200, 100), largest=40, smallest=12)
    assert block.size == 12
    assert block.height <= 100
    assert block.lines[-1].endswith("…")


def test_clipping_leaves_short_text_alone() -> None:
    assert clip("Veo 3.1", limit=7, measure=monospaced) == "Veo 3.1"
    assert clip("Nano Banana", limit=6, measure=monospaced) == "Nano…"

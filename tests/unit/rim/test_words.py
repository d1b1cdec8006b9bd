"""Durations as people write them, mistyped words, and foreign words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.text import meant, printable
from vcpud.units import NS_PER_MS, NS_PER_S, duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("500ms", 500 * NS_PER_MS),
        ("2s", 2 * NS_PER_S),
        ("1.5s", 1500 * NS_PER_MS),
        ("5m", 300 * NS_PER_S),
        ("5min", 300 * NS_PER_S),
        ("1h 30m", 5400 * NS_PER_S),
        (" 0s ", 0),
    ],
)
def test_durations_are_read_with_their_units(text: str, expected_ns: int) -> None:
    assert parse_duration(text) == expected_ns


@pytest.mark.parametrize(
    "text", ["", "5", "-1s", "1 s", "s", "1e3s", "1s2", "9" * 30 + "s", "\u0661s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_printed_duration_reads_back_as_the_same(duration_ns: int) -> None:
    text = duration_text(duration_ns)
    if len(text) <= 11:
        assert parse_duration(text) == duration_ns


@given(st.text(max_size=300))
def test_foreign_words_end_up_on_one_bounded_printable_line(text: str) -> None:
    shown = printable(text, 100)
    assert shown.isprintable()
    assert len(shown) <= 10 * 100 + 3


def test_a_friendly_name_is_shown_as_it_is() -> None:
    assert printable("web-1 ünï") == "web-1 ünï"


def test_a_name_cannot_forge_a_line() -> None:
    assert "\n" not in printable('x\n{"event": "vcpu.change"}\x1b[31m')
    assert "\x1b" not in printable("\x1b[31m")


def test_a_mistyped_word_is_answered_with_its_neighbours() -> None:
    assert meant("wbe", ["web", "db"]) == "; did you mean 'web'?"
    assert meant("zzz", ["web", "db"]) == "; there are: db, web"
    assert meant("zzz", [f"{n}x" for n in range(50)]) == ""

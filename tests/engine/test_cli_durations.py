"""Durations as typed on the command line."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_engine.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("2d", 172_800),
        ("1.5s", 1.5),
        ("0s", 0),
        (" 10S ", 10),
        ("1m250ms", 60.25),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    """A duration is the sum of its parts."""
    assert timedelta(seconds=seconds) == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "has no unit: write 5s for seconds or 5m"),
        ("", "is not a duration: write it like"),
        ("five minutes", "is not a duration"),
        ("-5s", "is not a duration"),
        ("5m 3", "is not a duration"),
        ("\u0665m", "is not a duration"),
        ("30m1h", "each unit once, larger units first"),
        ("1s1s", "each unit once, larger units first"),
        ("9999999999999d", "longer than a duration can be"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_way_to_write_it(text: str, says: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(ValueError, match=says):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_what_is_formatted_is_read_back_to_the_millisecond(duration: timedelta) -> None:
    """`format_duration` and `parse_duration` agree."""
    back = parse_duration(format_duration(duration))
    assert abs(back - duration) <= timedelta(milliseconds=0.51)

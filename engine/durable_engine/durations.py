"""Durations as people write them: `5m`, `1h30m`, `250ms`."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from typing import Final

_SECONDS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read a duration: numbers, each with a unit out of d, h, m, s, ms, the larger units first.

    Raises ValueError with a message for the person who typed it.
    """
    word = text.strip().lower()
    if not _WHOLE.fullmatch(word):
        raise ValueError(_problem(text, word))
    parts = _PART.findall(word)
    sizes = [_SECONDS[unit] for _, unit in parts]
    if any(left <= right for left, right in pairwise(sizes)):
        raise ValueError(f"{text!r} must name each unit once, larger units first, like 1h30m")
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is longer than a duration can be") from None


def _problem(text: str, word: str) -> str:
    if re.fullmatch(r"\d+(\.\d+)?", word):
        return f"{text!r} has no unit: write {word}s for seconds or {word}m for minutes"
    return f"{text!r} is not a duration: write it like 250ms, 30s, 5m or 1h30m"


def format_duration(duration: timedelta) -> str:
    """The shortest way to write a duration, exact to the millisecond; `parse_duration` reads it back."""
    left = round(duration / timedelta(milliseconds=1))
    words = []
    for unit, seconds in _SECONDS.items():
        count, left = divmod(left, round(seconds * 1000))
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"

"""Waiting for something that other processes do: by looking again and again, with a deadline that tells the state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
INTERVAL_SECONDS = 0.02


def eventually(look: Callable[[], T], *, timeout: float = TIMEOUT_SECONDS, state: Callable[[], object] = str) -> T:
    """The first true value of `look`; AssertionError with `state()` when there is none in time.

    An exception of `look` counts as "not yet", and is told when the time is up.
    """
    until = time.monotonic() + timeout
    seen: object = None
    while time.monotonic() < until:
        try:
            found = look()
            if found:
                return found
            seen = found
        except Exception as error:
            seen = repr(error)
        time.sleep(INTERVAL_SECONDS)
    raise AssertionError(f"not within {timeout:g} s; last seen: {seen}; state:\n{state()}")

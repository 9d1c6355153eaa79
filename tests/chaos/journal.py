"""The chain that every entry of a journal is a link of: whoever knows it at a length knows all entries up to there."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from typing import Any

START = 0
"""The chain of an empty journal."""


def link(chain: int, *entry: Any) -> int:
    """The chain after one more entry: 48 bits, so that JSON in any language holds it."""
    return int.from_bytes(blake2b(repr((chain, *entry)).encode(), digest_size=6).digest())


def incarnation() -> int:
    """What tells this process from every other, and grows from one that serves an object to its successor.

    It is the time at which this process was first asked: nanoseconds of a clock that all processes of a machine share.
    """
    global _incarnation  # noqa: PLW0603 - one per process, also after a fork
    pid = os.getpid()
    if _incarnation[0] != pid:
        _incarnation = (pid, time.monotonic_ns())
    return _incarnation[1]


_incarnation = (0, 0)

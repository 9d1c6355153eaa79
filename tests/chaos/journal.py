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


class _Process:
    """This one; a fork begins another."""

    born = 0
    """As an instance of the objects in it: when it was first asked."""

    @classmethod
    def begin(cls) -> None:
        cls.born = 0


os.register_at_fork(after_in_child=_Process.begin)


def incarnation() -> int:
    """What tells this process from every other, and grows from one that serves an object to its successor.

    It is the time at which this process was first asked, in nanoseconds of a clock that all processes of a machine
    share. Not that of its fork: one that stood by may follow one that was forked later.
    """
    if not _Process.born:
        _Process.born = time.monotonic_ns()
    return _Process.born

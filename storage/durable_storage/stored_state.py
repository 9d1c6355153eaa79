"""A stored object as a scan sees it, and how many of them it sees at a time."""

from __future__ import annotations

from typing import Final, NamedTuple

PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""States in one page; the last one of them may be beyond."""


class StoredState(NamedTuple):
    """A row as it rests."""

    object_id: str
    state: bytes
    version: int

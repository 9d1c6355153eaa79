"""How long service was away, as clients saw it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.chaos.records import History


class Strike(NamedTuple):
    """A fault that hit a shard."""

    at: float
    """CLOCK_MONOTONIC."""
    shard: int
    kind: str
    is_restart: bool
    """The shard was replaced: only its successor counts as service."""


def recoveries(history: History, strikes: Iterable[Strike], shards: int) -> dict[str, list[float]]:
    """Kind of fault: seconds from each strike to the next success on its shard, sorted."""
    raise NotImplementedError

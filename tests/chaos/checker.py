"""Skeleton."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.chaos.final import Final
from tests.chaos.records import History, Op


class Violation(NamedTuple):
    """Something that must not be."""

    invariant: str
    """"I1" to "I12"."""
    where: str
    """The object, client or fault."""
    what: str


def check(history: Iterable[Op] | History, final: Final) -> list[Violation]:
    """All violations; `history` is `records.Recorded(folder)`, or operations."""
    raise NotImplementedError

"""What the checker reports."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """Something that must not be."""

    invariant: str
    """"I1" to "I12"."""
    where: str
    """The object, client or fault."""
    what: str

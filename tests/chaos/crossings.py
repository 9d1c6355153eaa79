"""Tokens that went from one object to another: the parts of I1, I2 and I3 that no object can be asked alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.chaos.records import Op
from tests.chaos.replay import Replay
from tests.chaos.violation import Violation


class Origin(NamedTuple):
    """A call that was to leave its token elsewhere, too."""

    kind: str
    source: str
    target: str
    is_at_source: bool


class Crossings:
    """Gathers, object by object, and judges at the end."""

    def __init__(self) -> None:
        self._origins: dict[int, Origin] = {}
        self._strangers: dict[str, list[int]] = {}
        """Object: tokens in its journal of calls to others, or of nobody."""

    def note(self, name: str, ops: list[Op], journal: Replay) -> None:
        """Take in one object."""
        own = set()
        for op in ops:
            if op.token:
                own.add(op.token)
                if op.kind in ("relay", "send"):
                    self._origins[op.token] = Origin(op.kind, name, op.asked, op.token in journal.at)
        strangers = [token for token in journal.at if token > 0 and token not in own]
        if strangers:
            self._strangers[name] = strangers

    def violations(self) -> Iterator[Violation]:
        """Once all objects were noted."""
        arrived = {token: name for name, tokens in self._strangers.items() for token in tokens}
        for name, tokens in self._strangers.items():
            for token in tokens:
                origin = self._origins.get(token)
                if origin is None or origin.target != name:
                    yield Violation("I2", name, f"token {token} is there, and nobody sent it: {origin}")
        for token, origin in self._origins.items():
            is_there = arrived.get(token) == origin.target
            if origin.kind == "relay" and origin.is_at_source and not is_there:
                yield Violation("I1", origin.target, f"token {token} was handed on to it, and is not there: {origin}")
            if origin.kind == "send" and is_there and not origin.is_at_source:
                yield Violation("I3", origin.target, f"token {token} left a turn that was undone: {origin}")

"""Tokens that went from one object to another: the parts of I1, I2 and I3 that no object can be asked alone.

A one-way call is kept nowhere until it arrives: it may be lost with the process that was to send it, and with the one
that was to run it. So a message that was acknowledged has to be there if both lived on, by what clients heard of them,
and if nothing struck that can fail a turn and spare its process. In a run without faults, and after the last of them,
it has to be there in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.chaos.final import Final
from tests.chaos.records import Op
from tests.chaos.replay import Replay
from tests.chaos.violation import Violation

UNDER_WAY_SECONDS = 3.0
"""A message has arrived so long after its turn was acknowledged, if both sides work; on a crowded machine, too."""


class Origin(NamedTuple):
    """A call that was to leave its token elsewhere, too."""

    kind: str
    source: str
    target: str
    is_at_source: bool


class Message(NamedTuple):
    """An acknowledged `send`."""

    token: int
    target: str
    epoch: int
    """Of the process that ran the turn."""
    begun: float
    arrived: float
    """It is under way no longer then."""


class Crossings:
    """Gathers, object by object, and judges at the end."""

    def __init__(self) -> None:
        self._origins: dict[int, Origin] = {}
        self._strangers: dict[str, list[int]] = {}
        """Object: tokens in its journal of calls to others, or of nobody."""
        self._messages: list[Message] = []
        self._lives: dict[int, tuple[float, float]] = {}
        """Process, by its epoch: when it had answered, and when something began that it made durable."""
        self._servers: dict[str, set[int]] = {}
        """Object: epochs of the processes that have served it."""

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
        self._servers[name] = self._note_lives(ops) | {*journal.epochs}
        for op in ops:
            if op.kind == "send" and op.outcome == "ok" and op.answered is not None and op.token in journal.at:
                epoch = journal.epochs[journal.at[op.token]]
                arrived = op.answered + UNDER_WAY_SECONDS
                self._messages.append(Message(op.token, op.asked, epoch, op.invoked, arrived))

    def _note_lives(self, ops: Iterable[Op]) -> set[int]:
        lives, found = self._lives, set()
        for op in ops:
            if op.epoch and op.answered is not None:
                found.add(op.epoch)
                first, last = lives.get(op.epoch, (op.answered, 0.0))
                is_durable = op.token and op.outcome == "ok"
                lives[op.epoch] = min(first, op.answered), max(last, op.invoked if is_durable else 0.0)
        return found

    def violations(self, final: Final) -> Iterator[Violation]:
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
        for message in self._messages:
            if arrived.get(message.token) != message.target and not self._may_be_lost(message, final):
                yield Violation(
                    "I1", message.target, f"nothing that lost it is known of, and it is not there: {message}"
                )

    def _may_be_lost(self, message: Message, final: Final) -> bool:
        if not any(final.faults.values()):
            return False
        if final.calm_since is not None and message.begun >= final.calm_since:
            return False
        if any(begun <= message.arrived and message.begun <= ended for begun, ended in final.storms):
            return True
        targets = self._servers.get(message.target, set())
        return not (self._outlived(message.epoch, message) and any(self._outlived(each, message) for each in targets))

    def _outlived(self, epoch: int, message: Message) -> bool:
        """Whether a process served before a message was sent, and when it must have arrived."""
        first, last = self._lives.get(epoch, (message.arrived, message.begun))
        return first <= message.begun and message.arrived <= last

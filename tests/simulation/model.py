"""What must be true, checked at each commit and at each reply.

The objects keep append-only logs, so the model of one is what its log held at its last commit: a reply is right when it
is a beginning of that, and no shorter than what anybody had been told before the call was made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from durable_shards import wire
from durable_shards.errors import HandlerFailed, IdempotencyMismatch
from durable_storage.address import Address
from durable_storage.errors import DurableError
from durable_storage.ownership import Ownership
from durable_storage.store import AlarmRow, Change, Claim
from tests.simulation.clock import Simulation
from tests.simulation.objects import EXPECTED_FAILURES, log_of


@dataclass(slots=True, eq=False)
class Operation:
    """One call of a client, with all its attempts."""

    client: str
    name: str
    """Of the object."""
    handler: str
    token: int
    arguments: list[Any]
    key: str | None
    told_before: int = 0
    """How much of the log anybody had been told when the first attempt was made."""
    deletes: int = 0
    attempts: int = 0
    open: int = 0
    """Attempts under way: other clients may try the same key."""
    maybe: bool = False
    """An attempt may have been applied, for all that its caller knows."""
    results: list[Any] = field(default_factory=list)
    applied: bool = False


@dataclass(slots=True)
class Kept:
    """What the model knows of one object."""

    log: list[int] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    fence: tuple[int, int] = (0, 0)
    """(epoch, seq) of its last commit."""
    told: int = 0
    """The longest log that anybody was told."""
    deletes: int = 0
    poisoned: bool = False


class Model:
    """All objects, and the promises."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.objects: dict[str, Kept] = {}
        self.effects: Counter[tuple[str, int]] = Counter()
        """(object, token): how often it was ever appended."""
        self.absent: dict[tuple[str, int], str] = {}
        """Tokens of which somebody was told that they left no trace."""
        self.twice: Counter[int] = Counter()
        """Tokens whose call the wire delivered more than once."""
        self.fired: Counter[tuple[str, str, float, str]] = Counter()
        self.commits = self.replies = self.failures = self.firings = 0

    def kept(self, name: str) -> Kept:
        return self.objects.setdefault(name, Kept())

    # Commits.

    def committed(
        self, claim: Claim, owned: Ownership, changes: Sequence[Change], alarms: dict[Address, dict[str, AlarmRow]]
    ) -> None:
        """A unit is durable."""
        self.commits += 1
        names = [change.address.object_id for change in changes]
        self.simulation.note(f"commit {claim.host} epoch {owned.epoch} seq {owned.seq + 1} {' '.join(names)}")
        for change in changes:
            name = change.address.object_id
            kept = self.kept(name)
            fence = (owned.epoch, owned.seq + 1)
            if fence <= kept.fence:
                self._broken("I5 one instance", f"{name} was committed by {fence} after {kept.fence}")
            kept.fence = fence
            if change.delete:
                kept.log, kept.state, kept.version, kept.told = [], {}, 0, 0
                kept.deletes += 1
            if change.state is not None:
                self._state_committed(name, kept, change)
            self._alarms_agree(name, kept, alarms.get(change.address, {}))

    def _state_committed(self, name: str, kept: Kept, change: Change) -> None:
        assert change.state is not None
        state = json.loads(change.state)
        log = log_of(state)
        if change.version <= kept.version:
            self._broken("I5 one instance", f"{name}: version {change.version} after {kept.version}")
        if log[: len(kept.log)] != kept.log:
            self._broken("I1 durable", f"{name}: {log} was stored over {kept.log}")
        for token in log[len(kept.log) :]:
            self.effects[name, token] += 1
            if self.effects[name, token] > 1 + self.twice[abs(token)]:
                self._broken("I2 no effect twice", f"{name}: {token} in {log}")
            if (name, token) in self.absent and not self.twice[abs(token)]:
                self._broken("I3 failed is absent", f"{name}: {token} is stored after {self.absent[name, token]}")
        if state.get("poisoned") or state.get("left", 0) + state.get("right", 0) != 0:
            self._broken("I4 turns are whole", f"{name}: half a turn is stored: {state}")
        self._alarms_conserved(name, kept.state, state)
        kept.log, kept.state, kept.version = log, state, change.version

    def _alarms_conserved(self, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        fired_before = len(before.get("fired", ()))
        fired = after.get("fired", [])
        for alarm, token, due, at in fired[fired_before:]:
            self.firings += 1
            self.fired[name, alarm, token, due if alarm.startswith("every_") else ""] += 1
            if self.fired[name, alarm, token, due if alarm.startswith("every_") else ""] > 1:
                self._broken("I6 alarms are conserved", f"{name}: {alarm} {token} for {due} fired twice: {fired}")
            # What was due is due, even if the clock was set back before its turn came.
            if max(datetime.fromisoformat(at), self.simulation.wall_latest) < datetime.fromisoformat(due):
                self._broken("I6 alarms are conserved", f"{name}: {alarm} {token} for {due} fired early, at {at}")
        fates = {*after.get("armed", {}).values(), *after.get("dropped", ()), *(row[1] for row in fired)}
        lost = [token for token in before.get("armed", {}).values() if token not in fates]
        if lost:
            self._broken("I6 alarms are conserved", f"{name}: {lost} vanished from {before} to {after}")

    def _alarms_agree(self, name: str, kept: Kept, rows: dict[str, AlarmRow]) -> None:
        armed = {row.name: json.loads(row.payload or b"{}").get("token") for row in rows.values()}
        if armed != kept.state.get("armed", {}):
            self._broken("I7 state and alarms agree", f"{name}: rows {armed}, state {kept.state.get('armed')}")

    # Calls.

    def invoked(self, operation: Operation) -> None:
        """An attempt is about to be made."""
        if not operation.attempts:
            kept = self.kept(operation.name)
            operation.told_before, operation.deletes = kept.told, kept.deletes
        operation.attempts += 1
        operation.open += 1
        self.absent.pop((operation.name, operation.token), None)
        self.simulation.note(f"{operation.client} asks {operation.name}.{operation.handler} {operation.token}")

    def answered(self, operation: Operation, value: Any) -> None:
        """An attempt succeeded."""
        self.replies += 1
        operation.open -= 1
        operation.applied = True
        self.simulation.note(
            f"{operation.client} hears {operation.name}.{operation.handler} {operation.token}: {value}"
        )
        if operation.results and value != operation.results[0]:
            self._broken("I2 no effect twice", f"{operation} heard {value} now")
        operation.results.append(value)
        kept = self.kept(operation.name)
        if operation.handler == "$delete" or kept.deletes != operation.deletes:
            return
        if value != kept.log[: len(value)]:
            self._broken("P3 told is durable", f"{operation} heard {value}, the store has {kept.log}")
        if operation.handler != "read":
            self._log_of_its_turn(operation, kept, value)
        if len(value) < operation.told_before and operation.key is None:
            self._broken(
                "I4, I10 no stale reply", f"{operation} heard {value}, {operation.told_before} were told before"
            )
        kept.told = max(kept.told, len(value))

    def _log_of_its_turn(self, operation: Operation, kept: Kept, value: list[int]) -> None:
        if operation.token not in kept.log:
            self._broken("I1 durable", f"{operation} was acknowledged and is not in {kept.log}")
        elif value[-1] != operation.token:
            self._broken("I4 turns are whole", f"{operation} heard {value}, of another turn")

    def failed(self, operation: Operation, error: DurableError) -> None:
        """An attempt failed."""
        self.failures += 1
        operation.open -= 1
        said = f"{type(error).__name__} {error.outcome}"
        self.simulation.note(f"{operation.client} fails {operation.name}.{operation.handler} {operation.token}: {said}")
        if isinstance(error, HandlerFailed) and not any(text in str(error) for text in EXPECTED_FAILURES):
            self._broken("I4 turns are whole", f"a handler found something wrong: {error} {error.traceback}")
        if isinstance(error, IdempotencyMismatch):  # each key here is of one call
            self._broken("I2 no effect twice", f"{operation} is taken for another call: {error}")
        if error.outcome != "not_applied":
            operation.maybe = True

    def given_up(self, operation: Operation) -> None:
        """No more attempts, and none succeeded. If none may have been applied, there is no trace, now or later."""
        if operation.maybe or operation.open or operation.applied or operation.handler in ("read", "$delete"):
            return
        key = (operation.name, operation.token)
        if self.effects[key] and not self.twice[operation.token]:
            self._broken("I3 failed is absent", f"{operation} is stored")
        self.absent[key] = str(operation)

    def delivered_twice(self, message: bytes) -> None:
        """The wire repeats a message of calls; those without a key are run twice by right."""
        if wire.kind_of(message) == wire.CALLS:
            for call in wire.unpack_calls(message)[0]:
                if call.args and type(call.args[0]) is int and (call.key is None or call.flags & wire.FLAG_FRESH == 0):
                    self.twice[call.args[0]] += call.key is None

    def _broken(self, invariant: str, text: str) -> None:
        self.simulation.fail(f"{invariant}: {text}")

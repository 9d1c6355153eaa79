"""What the chaos servers serve: journals that remember every turn, so that a checker can tell what happened.

Each turn that changes an object appends one entry, with the token of the call, to its journal; each answer shows the
length of the journal and its chain. Journals are bounded: once one is full, clients go on with another object.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from durable_engine import DurableObject, Rejected, field, handler
from durable_storage import crashpoints
from tests.chaos.journal import START, incarnation, link
from tests.chaos.limits import ACCOUNTS, ALARM_ENTRIES_MAX, ENTRIES_MAX, OPENING

Shown = list[Any]
"""[length, last token, chain, incarnation] of the journal, and what the handler adds."""
FORGOTTEN: Any = {"hibernate_after": timedelta(seconds=3), "shutdown_after": timedelta(seconds=6)}
ASLEEP: Any = {"hibernate_after": timedelta(seconds=3), "shutdown_after": timedelta(minutes=1)}
"""Long enough for a process that was stopped to remember, when it wakes, what was true before."""
AWAKE: Any = {"hibernate_after": timedelta(minutes=1), "shutdown_after": timedelta(minutes=2)}


class Full(Rejected):
    """This journal takes no more entries; go on with another."""

    reason: str = "full"
    shown: list[Any]


class NotCovered(Rejected):
    """There is less on the account."""

    reason: str = "not covered"
    shown: list[Any]


class ElsewhereFull(Rejected):
    """The other journal takes no more entries."""

    reason: str = "full elsewhere"


class Journal:
    """What all of them have in common. `begins` and `epochs`: from which entry on which incarnation wrote."""

    tokens: list[int]
    begins: list[int]
    epochs: list[int]
    chain: int

    def shown(self, *more: Any) -> Shown:
        """As the last entry left it."""
        return [len(self.tokens), self.tokens[-1] if self.tokens else 0, self.chain, incarnation(), *more]

    def note(self, token: int, *more: Any) -> None:
        """Append an entry."""
        me = incarnation()
        if not self.epochs or self.epochs[-1] != me:
            self.begins.append(len(self.tokens))
            self.epochs.append(me)
        self.tokens.append(token)
        self.chain = link(self.chain, token, *more)

    def room(self, most: int = ENTRIES_MAX) -> None:
        """Raises Full."""
        if len(self.tokens) >= most:
            raise Full(shown=self.shown())


class Log(Journal, DurableObject, **ASLEEP):
    """Nothing but its journal."""

    tokens: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    chain: int = START

    @handler
    def append(self, token: int) -> Shown:
        self.room()
        self.note(token)
        return self.shown()

    @handler(readonly=True)
    def read(self) -> Shown:
        return self.shown()

    @handler
    async def relay(self, token: int, other: str) -> Shown:
        """To another log by a call in the middle of the turn, then here."""
        self.room()
        try:
            await self.engine.call(Log.append, other, token)
        except Full:
            raise ElsewhereFull from None
        self.note(token)
        return self.shown()

    @handler
    def receive(self, token: int) -> None:
        """What `send` sends. There is always room, so that nothing but a fault can lose it."""
        self.note(token)

    @handler
    def send(self, token: int, other: str) -> Shown:
        """Here, and with the commit of this to another log."""
        self.room()
        self.note(token)
        self.engine.send(Log.receive, other, token)
        return self.shown()


class Bank(Journal, DurableObject, **AWAKE):
    """Accounts whose sum never changes. `moves`: source, target and amount of each entry, one after the other."""

    tokens: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    chain: int = START
    moves: list[int] = field(default_factory=list)
    balances: list[int] = field(default_factory=lambda: [OPENING] * ACCOUNTS)

    @handler
    def transfer(self, token: int, source: int, target: int, amount: int) -> Shown:
        self.room()
        self.balances[source] -= amount
        self.balances[target] += amount
        if self.balances[source] < 0:
            raise NotCovered(shown=self.shown())  # the engine takes back what was done
        self.moves += [source, target, amount]
        self.note(token, source, target, amount)
        return self.shown()

    @handler(readonly=True)
    def audit(self) -> Shown:
        return self.shown(list(self.balances))


class Timers(Journal, DurableObject, **FORGOTTEN):
    """Alarms. What is armed stands in the state too, so that state and rows can be compared.

    `events`, one for each entry: ["arm", name, due, left, every, fails], ["cancel", name, token or 0],
    ["fire", name, step, due, now, attempt, next due or 0]. Due and now are seconds of the wall clock.
    """

    tokens: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    chain: int = START
    events: list[list[Any]] = field(default_factory=list)
    armed: dict[str, int] = field(default_factory=dict)
    """Name: token."""
    beats: dict[str, int] = field(default_factory=dict)
    """Firings so far of those that repeat."""

    def event(self, token: int, *event: Any) -> None:
        self.events.append([*event])
        self.note(token, *event)

    @handler
    def arm(self, token: int, name: str, due: float, left: int, every: float, fails: int) -> Shown:
        """It fires 1 + `left` times: repeating it `every` so many seconds, or, with 0, each arming the next."""
        self.room(ALARM_ENTRIES_MAX)
        rule = timedelta(seconds=every) if every else None
        payload = {"token": token, "step": 0, "left": left, "every": every, "fails": fails}
        self.alarms.schedule(name, at=moment(due), every=rule, payload=payload)
        self.armed[name] = token
        self.event(token, "arm", name, due, left, every, fails)
        return self.shown()

    @handler
    def cancel(self, token: int, name: str) -> Shown:
        self.room(ALARM_ENTRIES_MAX)
        self.alarms.cancel(name)
        self.beats.pop(name, None)
        self.event(token, "cancel", name, self.armed.pop(name, 0))
        return self.shown()

    @handler(readonly=True)
    def look(self) -> Shown:
        """Adds the names that are armed in the state alone, or as alarms alone."""
        return self.shown(sorted({*self.armed} ^ {each.name for each in self.alarms.pending()}))

    def handle_alarm(self, name: str, payload: dict[str, Any], at: datetime, attempt: int) -> None:
        """Its first `fails` attempts fail, after they have changed the state."""
        left, every, step, following = payload["left"], payload["every"], payload["step"], 0.0
        if every:
            step = self.beats.get(name, 0)
            self.beats[name] = step + 1
            left -= step
        if left > 0 and not every:
            following = round(time.time() + 0.03 * left, 3)
            rest = {**payload, "step": step + 1, "left": left - 1}
            self.alarms.schedule(name, at=moment(following), payload=rest)
        elif left <= 0:
            self.alarms.cancel(name)  # of one that repeats: its next tick
            self.armed.pop(name, None)
            self.beats.pop(name, None)
        self.event(-payload["token"], "fire", name, step, at.timestamp(), time.time(), attempt, following)
        if attempt < payload["fails"]:
            raise RuntimeError("this alarm fails at first")


class Saboteur(DurableObject, **FORGOTTEN):
    """Misbehaves on order. `damage` is never stored: none of these turns comes to a good end."""

    damage: int = 0

    @handler
    def pid(self) -> int:
        """Of its shard."""
        return os.getpid()

    @handler
    def arm_crash(self, point: str, nth: int) -> int:
        """Its shard kills itself when it reaches that crash point for the nth time from now. Its process id."""
        crashpoints.arm(point, nth=nth)
        return os.getpid()

    @handler
    def spin(self) -> None:
        self.damage += 1
        while True:
            pass

    @handler
    def hog(self, size: int) -> int:
        """Takes so many bytes at once, and touches each page."""
        self.damage += 1
        return len(bytearray(b"x") * size)

    @handler
    def leave(self, code: int) -> None:
        self.damage += 1
        os._exit(code)

    @handler
    def block(self, seconds: float) -> None:
        """Blocks the event loop of its shard."""
        time.sleep(seconds)


def moment(seconds: float) -> datetime:
    """A time of the wall clock, aware."""
    return datetime.fromtimestamp(seconds, UTC)

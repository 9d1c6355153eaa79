"""What the benchmarks call. Servers import this module, so it imports nothing of the harness."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from durable_engine import DurableObject, Rejected, alarm, field, handler


class Counter(DurableObject, name="bench.Counter"):
    """The smallest object that changes."""

    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count


class Reminder(DurableObject, name="bench.Reminder"):
    """Notes when its alarm was to fire, and when it did."""

    fired: list[list[str]] = field(default_factory=list)

    @handler
    def arm(self, at: datetime) -> None:
        self.alarms.schedule(Reminder.remind, at=at)

    @alarm
    def remind(self, at: datetime) -> None:
        self.fired.append([at.isoformat(), datetime.now(UTC).isoformat()])

    @handler(readonly=True)
    def tell(self) -> list[list[str]]:
        return self.fired


class Document(DurableObject, name="bench.Document"):
    """A counter that carries a text: each change writes all of it."""

    text: str = ""
    edits: int = 0

    @handler
    def write(self, text: str) -> None:
        self.text = text

    @handler
    def touch(self) -> int:
        self.edits += 1
        return self.edits

    @handler(readonly=True)
    def get(self) -> int:
        return self.edits


class Hub(DurableObject, name="bench.Hub"):
    """Calls many counters at once, and waits for all of them."""

    rounds: int = 0

    @handler
    async def fan_out(self, counters: list[str]) -> int:
        await asyncio.gather(*(self.engine.call(Counter.increment, counter) for counter in counters))
        self.rounds += 1
        return self.rounds

    @handler(readonly=True)
    def get(self) -> int:
        return self.rounds


class Link(DurableObject, name="bench.Link"):
    """Calls the next one in a row, which calls the next one; each waits for the one behind it."""

    passed: int = 0

    @handler
    async def pass_on(self, row: list[str]) -> int:
        if row:
            await self.engine.call(Link.pass_on, row[0], row[1:])
        self.passed += 1
        return self.passed

    @handler(readonly=True)
    def get(self) -> int:
        return self.passed


class Record(DurableObject, name="bench.Record"):
    """A record of YCSB: fields of text."""

    fields: dict[str, str] = field(default_factory=dict)
    updates: int = 0

    @handler
    def insert(self, fields: dict[str, str]) -> None:
        self.fields = fields

    @handler(readonly=True)
    def read(self) -> dict[str, str]:
        return self.fields

    @handler
    def update(self, name: str, value: str) -> None:
        self.fields[name] = value
        self.updates += 1

    @handler
    def read_modify_write(self, name: str) -> dict[str, str]:
        """What was read decides what is written: here the field, turned round by one letter."""
        before = dict(self.fields)
        self.fields[name] = before[name][1:] + before[name][:1]
        self.updates += 1
        return before

    @handler(readonly=True)
    def changes(self) -> int:
        return self.updates


class InsufficientFunds(Rejected):
    """The transaction was refused, and nothing changed."""


class Customer(DurableObject, name="bench.Customer"):
    """A customer of SmallBank with two accounts, in cents. A change replies by how much the customer's money grew."""

    checking: int = 0
    savings: int = 0

    @handler
    def open(self, checking: int, savings: int) -> int:
        grown = checking + savings - self.checking - self.savings
        self.checking, self.savings = checking, savings
        return grown

    @handler(readonly=True)
    def balance(self) -> int:
        return self.checking + self.savings

    @handler
    def deposit_checking(self, amount: int) -> int:
        self.checking += amount
        return amount

    @handler
    def transact_savings(self, amount: int) -> int:
        if self.savings + amount < 0:
            raise InsufficientFunds
        self.savings += amount
        return amount

    @handler
    def write_check(self, amount: int) -> int:
        """A check that is not covered is paid as well, and costs a cent."""
        paid = amount if self.checking + self.savings >= amount else amount + 1
        self.checking -= paid
        return -paid

    @handler
    def withdraw(self, amount: int) -> int:
        """The first half of a payment to somebody else."""
        if self.checking < amount:
            raise InsufficientFunds
        self.checking -= amount
        return -amount

    @handler
    def withdraw_all(self) -> int:
        """The first half of an amalgamation: both accounts are empty then."""
        taken = self.checking + self.savings
        self.checking = self.savings = 0
        return -taken

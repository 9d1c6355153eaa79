"""Wrong uses of the public interface: type checkers report the lines that are marked, and no others."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable_engine import Client, DurableObject, Engine, Rejected, alarm, field, handler
from durable_engine.testing import Durable, perform_alarm


class OutOfStock(Rejected):
    sku: str
    left: int


class Counter(DurableObject):
    count: int = 0

    @handler
    def increment(self, amount: int = 1) -> int:
        return amount

    @handler
    async def rename(self, name: str, *, loud: bool = False) -> list[str]:
        raise OutOfStock(sku=name)  # expect: a field is missing

    @handler(readonly=True)
    def get(self) -> int:
        return "3"  # expect: the body does not fit the annotation

    @handler
    def reject(self) -> None:
        raise OutOfStock(sku="x", left="2")  # expect: a field of another type

    @alarm
    def reset(self) -> None:
        self.id = "other"  # expect: the id is read-only

    def plan(self) -> None:
        self.alarms.schedule(Counter.increment, after=timedelta(minutes=1))  # expect: a handler is no alarm
        self.alarms.schedule(Counter.reset, after=60)  # expect: durations are timedelta
        self.alarms.schedule(Counter.rest, after=timedelta(1))  # expect: no such alarm
        self.alarms.schedule("reset", at="tomorrow")  # expect: times are datetime

    @handler
    async def forward(self, object_id: str) -> int:
        await self.engine.at(Counter, object_id).increment("5")  # expect: wrong type behind self.engine
        await self.engine.call(Counter.increment, object_id, "5")  # expect: the same through call
        return await self.engine.at(Counter, object_id).rename("x")  # expect: returns a list


class Options(DurableObject, hibernate_after=300):  # expect: durations are timedelta
    pass


class Unknown(DurableObject, hibernate=timedelta(1)):  # expect: no such option
    pass


class Mailbox(DurableObject, mailbox="many"):  # expect: a number
    pass


class Default(DurableObject):
    count: int = "0"  # expect: the default does not fit the annotation
    names: list[str] = field(default_factory=dict)  # expect: a factory of another type
    total: int = field(default_factory=lambda: "0")  # expect: a factory of another type


async def unit_test() -> None:
    Counter(3)  # expect: fields are keywords
    Counter(count="3")  # expect: wrong type of a field
    Counter(cuont=3)  # expect: no such field
    counter = Counter(count=3)
    text: str = await counter.increment(2)  # expect: returns an int
    number: int = counter.increment(2)  # expect: not awaited
    print(text, number)


async def caller(engine: Engine, client: Client) -> None:
    ref = engine.at(Counter, "user-123")
    await ref.increment("5")  # expect: wrong type of an argument
    await ref.increment(1, 2)  # expect: too many arguments
    await ref.increment(amuont=5)  # expect: no such argument
    await ref.rename()  # expect: an argument is missing
    await ref.rename("x", True)  # expect: keyword only
    await ref.decrement()  # expect: no such handler
    engine.at(Counter, 123)  # expect: ids are text
    engine.at(Counter(), "user-123")  # expect: an instance is no class
    engine.at(dict, "user-123")  # expect: no class of objects
    names: list[int] = await ref.rename("x")  # expect: returns list[str]
    await engine.call(Counter.increment, "user-123", "5")  # expect: wrong type of an argument
    await engine.call(Counter.rename, "user-123")  # expect: an argument is missing
    await engine.call(Counter.get, "user-123", 1)  # expect: too many arguments
    await engine.call(Counter.increment, 123, 5)  # expect: ids are text
    await engine.call(Counter.decrement, "user-123")  # expect: no such handler
    await engine.call(Counter.reset, "user-123")  # expect: an alarm is no handler
    text: str = await engine.call(Counter.increment, "user-123", 5)  # expect: returns an int
    when: datetime = client.call(Counter.increment, "user-123", 5)  # expect: returns an int, not awaited
    await engine.alarms(Counter, "user-123").schedule(Counter.increment, after=timedelta(1))  # expect: no alarm
    state: Counter = await engine.state(Counter, "user-123")  # expect: may be None
    print(names, text, when, state)


async def in_a_test(durable: Durable) -> None:
    await durable.at(Counter, "user-123").increment("5")  # expect: wrong type of an argument
    await durable.call(Counter.increment, "user-123", "5")  # expect: wrong type of an argument
    text: str = await durable.call(Counter.increment, "user-123", 5)  # expect: returns an int
    state: Counter = await durable.persisted(Counter, "user-123")  # expect: may be None
    await durable.fire(Counter, "user-123", Counter.increment)  # expect: a handler is no alarm
    await durable.advance(60)  # expect: durations are timedelta
    await perform_alarm(Counter(), Counter.get)  # expect: a handler is no alarm
    print(text, state)

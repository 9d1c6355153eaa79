"""Right uses of the public interface: no type checker has anything to say about this file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, assert_type

from durable_engine import Client, DurableObject, Engine, PendingAlarm, Rejected, alarm, field, handler
from durable_engine.testing import Durable, eventually, perform_alarm


class OutOfStock(Rejected):
    """There are not enough of these."""

    sku: str
    left: int


class Counter(DurableObject, hibernate_after=timedelta(minutes=5), shutdown_after=None, mailbox=10):
    LIMIT: ClassVar[int] = 100
    count: int = 0
    names: list[str] = field(default_factory=list)
    last_incremented_at: datetime | None = None
    _scratch: int = 0

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += amount
        self.last_incremented_at = self.now()
        return self.count

    @handler
    async def rename(self, name: str, *, loud: bool = False) -> list[str]:
        self.names.append(name.upper() if loud else name)
        return self.names

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @handler(readonly=True)
    async def wait(self, seconds: float) -> None:
        raise OutOfStock(sku=self.id, left=self.count)

    @alarm
    def reset(self) -> None:
        self.count = 0

    @alarm
    async def remind(self, payload: dict[str, int]) -> None:
        total = await self.increment(payload["amount"])
        assert_type(total, int)

    def plan(self) -> None:
        self.alarms.schedule(Counter.reset, after=timedelta(minutes=1))
        self.alarms.schedule("anything", at=datetime.now(UTC), payload={"a": [1]})
        assert_type(self.alarms.pending(), list[PendingAlarm])
        assert_type(self.alarms.cancel(Counter.remind), bool)
        assert_type(self.alarms.cancel_all(), int)
        self.reset()


class Loud(Counter, name="shop.Loud", call_timeout=timedelta(seconds=1), reentrant=True, schema_version=2):
    volume: float = 1
    ids: set[int] = field(default_factory=set)
    by_name: dict[str, list[int]] = field(default_factory=dict)
    pair: tuple[int, int] = field(default=(0, 0), repr=False)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def after_load(self) -> None:
        self.volume = 2

    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "volume": version}

    @handler
    async def forward(self, object_id: str) -> int:
        other = self.engine.at(Counter, object_id, timeout=1)
        assert_type(await other.increment(2), int)
        self.engine.send(Counter.increment, object_id, 5)
        assert_type(await self.engine.call(Counter.rename, object_id, "x", loud=True), list[str])
        return await self.engine.call(Counter.get, object_id, timeout=timedelta(seconds=1))

    def handle_alarm(self, name: str) -> None: ...


async def unit_test() -> None:
    counter = Counter(count=3, names=["a"], last_incremented_at=None)
    assert_type(await counter.increment(2), int)
    assert_type(await counter.rename("x", loud=True), list[str])
    assert_type(await counter.wait(1), None)
    assert_type(counter.id, str)
    increment: Callable[[int], Awaitable[int]] = counter.increment
    assert await increment(3) == 8
    assert Loud(volume=2.5, count=1).volume > Counter.LIMIT


async def caller(engine: Engine) -> None:
    ref = engine.at(Counter, "user-123", prefix="tenant", timeout=2.0)
    assert_type(ref, Counter)
    assert_type(await ref.increment(), int)
    assert_type(await ref.increment(amount=5), int)
    assert_type(await engine.at(Loud, "x").increment(5), int)
    assert_type(await engine.call(Counter.increment, "user-123", 5), int)
    assert_type(await engine.call(Counter.rename, "user-123", "x", loud=False), list[str])
    assert_type(await engine.call(Loud.forward, "user-123", "x"), int)
    assert_type(await engine.call(Counter.get, "user-123", idempotency_key="k"), int)
    result: Any = await engine.call_by_name("Counter", "user-123", "increment", [5], {"x": 1}, timeout=1.0)
    print(result)
    await engine.send(Counter.increment, "user-123", 5)
    assert_type(await engine.state(Counter, "user-123"), Counter | None)
    assert_type(await engine.objects(Counter, after=None, limit=100), list[str])
    assert_type(await engine.where(Counter, "user-123"), int | None)
    await engine.alarms(Counter, "user-123").schedule(Counter.reset, after=timedelta(minutes=1))
    assert_type(await engine.alarms(Counter, "user-123").pending(), list[PendingAlarm])
    try:
        await ref.wait(1)
    except OutOfStock as error:
        assert_type(error.sku, str)
        assert_type(error.left, int)
        assert error.retryable or error.outcome == "not_applied"  # noqa: PT017
    except Rejected as error:
        print(error.fields)


def blocking(client: Client) -> None:
    assert_type(client.call(Counter.increment, "user-123", 5), int)
    assert_type(client.state(Counter, "user-123"), Counter | None)


async def in_a_test(durable: Durable) -> None:
    assert_type(durable.at(Counter, "user-123", prefix="tenant"), Counter)
    assert_type(await durable.call(Counter.increment, "user-123", 5), int)
    assert_type(await durable.call(Counter.increment, "user-123", idempotency_key="k"), int)
    await durable.send(Counter.increment, "user-123", 5)
    assert_type(await durable.persisted(Counter, "user-123"), Counter | None)
    assert_type(await durable.persisted("Counter", "user-123"), dict[str, Any] | None)
    assert_type(await durable.assert_persisted(Counter, "user-123", count=1), Counter)
    assert_type(await durable.assert_persisted(Counter, "user-123", {"count": 1}), Counter)
    await durable.assert_persisted(Counter, "user-123", None)
    assert_type(await durable.pending(Counter, "user-123"), list[PendingAlarm])
    assert_type(await durable.assert_alarm_scheduled(Counter, "user-123", Counter.reset), PendingAlarm)
    await durable.refute_alarm_scheduled(Counter, "user-123", "reset")
    await durable.fire(Counter, "user-123", Counter.reset)
    assert_type(await durable.drain(max=10), int)
    durable.crash()
    await durable.crash(Counter, "user-123")
    await durable.advance(timedelta(minutes=1))
    assert_type(durable.fail_next_save().fired, bool)
    assert_type((await durable.crash_at("after_commit", nth=2)).fired, bool)
    assert_type(durable.now(), datetime)
    assert_type(await eventually(lambda: durable.persisted(Counter, "user-123"), timeout=1), Counter)
    assert_type(await durable.eventually(durable.now, interval=0.1), datetime)
    await perform_alarm(Counter(count=1), Counter.reset, attempt=1)
    assert_type(durable.engine, Engine)

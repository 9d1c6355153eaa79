"""A class of objects without an engine: its constructor, its state, its handlers and alarms in a unit test."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import orjson
import pytest

from durable_shards.alarms import PendingAlarm, alarm
from durable_shards.errors import EngineClosed, Rejected
from durable_shards.fields import field
from durable_shards.handler import handler
from durable_shards.object import DurableObject
from durable_shards.registry import spec_of
from durable_shards.spec import describe


class Empty(Rejected):
    """There is nothing left."""

    wanted: int


class Counter(DurableObject, hibernate_after=timedelta(minutes=5), shutdown_after=timedelta(hours=1)):
    """Counts."""

    LIMIT: ClassVar[int] = 10
    step = 1
    count: int = 0
    ratio: float = 1
    last_incremented_at: datetime | None
    names: list[str] = field(default_factory=list)
    _calls: int = 0
    _seen: dict[str, int] = field(default_factory=dict)
    _unset: int

    @handler
    def increment(self, amount: int = 1) -> int:
        """Add to the count."""
        self.count += amount
        self._calls += 1
        self.last_incremented_at = self.now()
        return self.count

    @handler
    async def take(self, amount: int) -> int:
        await asyncio.sleep(0)
        if amount > self.count:
            raise Empty(wanted=amount)
        return await self.increment(-amount)

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @alarm
    def reset(self) -> None:
        self.count = 0

    def plan(self, after: timedelta) -> None:
        self.alarms.schedule(Counter.reset, after=after)


class Loud(Counter, mailbox=7):
    volume: int = 11
    count: int = 100

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += 2 * amount
        return self.count


def run(awaitable: Any) -> Any:
    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def test_a_handler_is_unit_tested_without_an_engine() -> None:
    """parity 102: construct, await, compare."""
    counter = Counter(count=3)
    assert run(counter.increment(2)) == 5
    assert run(counter.increment()) == 6
    assert run(counter.get()) == 6
    assert counter.count == 6


def test_an_async_handler_is_awaited_the_same_way() -> None:
    """Sync and async handlers look alike to their callers."""
    assert run(Counter(count=3).take(1)) == 2


def test_a_rejection_reaches_the_unit_test_as_itself() -> None:
    """With its fields and its docstring as the message."""
    with pytest.raises(Empty, match="There is nothing left") as rejected:
        run(Counter().take(4))
    assert rejected.value.wanted == 4


def test_fields_have_the_semantics_of_a_dataclass() -> None:
    """parity 3, 4, 6, 7, 8: defaults, None where there is none, keywords, repr, asdict."""
    counter = Counter(names=["a"])  # type: ignore[call-arg]
    assert (counter.count, counter.last_incremented_at, counter.names) == (0, None, ["a"])
    assert repr(Counter()) == "Counter(count=0, ratio=1.0, last_incremented_at=None, names=[])"  # type: ignore[call-arg]
    assert dataclasses.asdict(counter)["names"] == ["a"]
    assert Counter().names is not Counter().names  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'cuont'"):
        Counter(cuont=1)  # type: ignore[call-arg]


def test_a_state_is_written_as_json_by_common_means() -> None:
    """parity 8: `asdict` gives its fields, orjson writes the instance itself; neither shows scratch or the engine."""
    counter = Counter(count=3, names=["a"])
    run(counter.increment())
    counter.last_incremented_at = None
    plain = {"count": 4, "ratio": 1.0, "last_incremented_at": None, "names": ["a"]}

    assert dataclasses.asdict(counter) == plain
    assert orjson.loads(orjson.dumps(counter)) == plain


def test_objects_are_compared_by_identity() -> None:
    """They stand for addresses, not for values."""
    counter = Counter()  # type: ignore[call-arg]
    assert counter == counter  # noqa: PLR0124
    assert counter != Counter()  # type: ignore[call-arg]
    assert len({counter, Counter()}) == 2  # type: ignore[call-arg]


def test_without_an_engine_the_object_has_no_id_a_clock_and_no_way_out() -> None:
    """parity 9: id is None in unit tests, now() is aware, other objects are out of reach."""
    counter = Counter()  # type: ignore[call-arg]
    assert counter.id is None
    assert counter.now().utcoffset() == timedelta(0)
    with pytest.raises(EngineClosed, match=r"made without an engine.*fixture `durable`"):
        _ = counter.engine


def test_the_id_is_read_only() -> None:
    """It is a part of the address, not of the state."""
    with pytest.raises(AttributeError):
        Counter().id = "x"  # type: ignore[misc, call-arg]


def test_alarms_are_remembered_without_an_engine() -> None:
    """parity 102: a unit test sees what the handler scheduled."""
    counter = Counter()  # type: ignore[call-arg]
    before = counter.now()
    counter.plan(timedelta(minutes=1))
    (pending,) = counter.alarms.pending()
    assert pending.name == "reset"
    assert before + timedelta(minutes=1) <= pending.at <= counter.now() + timedelta(minutes=1)
    assert b"reset" not in spec_of(Counter).codec.encode(counter)


def test_an_alarm_is_a_plain_method_of_the_instance() -> None:
    """parity 103: firing it in a unit test is calling it."""
    counter = Counter(count=3)  # type: ignore[call-arg]
    counter.reset()
    assert counter.count == 0


class Engine:
    """What an object sees of an engine."""

    object_id = "user-1"
    alarms = "the book"
    engine = "the way"

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


def test_with_an_engine_the_object_reaches_it_through_its_context() -> None:
    """parity 9: id, now, alarms and engine are the context's."""
    counter = spec_of(Counter).revive(None, Engine())
    assert (counter.id, counter.alarms, counter.engine) == ("user-1", "the book", "the way")
    assert run(counter.increment()) == 1
    assert counter.last_incremented_at == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_stored_object_is_revived_with_its_state_and_fresh_scratch() -> None:
    """parity 54, 56: stored fields, defaults for the rest, scratch anew at each activation, nothing else."""
    spec = spec_of(Counter)
    first, second = (spec.revive(b'{"count":4}', None) for _ in range(2))
    assert first.__dict__ == {
        "count": 4,
        "ratio": 1.0,
        "last_incremented_at": None,
        "names": [],
        "_calls": 0,
        "_seen": {},
        "_durable": None,
    }
    assert first._seen is not second._seen
    run(first.increment())
    assert first._calls == 1
    assert spec.codec.encode(first).startswith(b'{"count":5,"ratio":1.0,"last_incremented_at":"')
    assert b"_calls" not in spec.codec.encode(first)
    assert b"user-1" not in spec.codec.encode(spec.revive(None, Engine()))


def test_a_class_is_described_in_plain_values() -> None:
    """parity 21: fields, handlers, alarms and options can be looked at."""
    assert describe(Counter) == {
        "name": "Counter",
        "class": f"{__name__}:Counter",
        "doc": "Counts.",
        "fields": [
            "count: int = 0",
            "ratio: float = 1",
            "last_incremented_at: datetime | None",
            "names: list[str] = field(default_factory=list)",
        ],
        "handlers": {
            "increment": {
                "signature": "increment(amount: int = 1) -> int",
                "readonly": False,
                "doc": "Add to the count.",
            },
            "take": {"signature": "take(amount: int) -> int", "readonly": False, "doc": ""},
            "get": {"signature": "get() -> int", "readonly": True, "doc": ""},
        },
        "alarms": ["reset"],
        "hooks": [],
        "options": {
            "hibernate_after": 300.0,
            "shutdown_after": 3600.0,
            "call_timeout": 5.0,
            "reentrant": False,
            "mailbox": 1000,
            "schema_version": 1,
            "create_on_touch": False,
        },
        "default_state": {"count": 0, "ratio": 1.0, "last_incremented_at": None, "names": []},
    }


def test_subclasses_inherit_fields_handlers_alarms_and_options() -> None:
    """And may replace each of them; the stored name is their own."""
    spec = spec_of(Loud)
    assert spec.name == "Loud"
    assert list(spec.fields) == ["count", "ratio", "last_incremented_at", "names", "volume"]
    assert list(spec.handlers) == ["increment", "take", "get"]
    assert list(spec.alarms) == ["reset"]
    assert (spec.options.mailbox, spec.options.shutdown_after) == (7, 3600.0)
    assert spec.handlers["get"] is spec_of(Counter).handlers["get"]
    loud = Loud(volume=3)  # type: ignore[call-arg]
    assert run(loud.take(1)) == 98
    assert spec.revive(b"{}", None).count == 100
    loud.alarms.schedule(Counter.reset, after=timedelta(0))
    assert isinstance(loud.alarms.pending()[0], PendingAlarm)


def test_a_plain_dataclass_may_be_mixed_in() -> None:
    """Its fields become part of the state."""

    @dataclasses.dataclass
    class Stamped:
        created_at: datetime | None = None
        tags: list[str] = dataclasses.field(default_factory=list)

    class Note(DurableObject, Stamped):
        text: str = ""

    assert spec_of(Note).codec.encode(Note(text="x")) == b'{"created_at":null,"tags":[],"text":"x"}'


def test_a_plain_class_may_contribute_handlers() -> None:
    """Mixins without state need not be objects themselves."""

    class Pingable:
        @handler
        def ping(self) -> str:
            return type(self).__name__

    class Host(DurableObject, Pingable):
        pass

    assert run(Host().ping()) == "Host"
    assert Host.ping.owner is Host
    assert list(spec_of(Host).handlers) == ["ping"]


def test_annotations_may_name_what_is_local_to_the_defining_function() -> None:
    """As text, too, which `from __future__ import annotations` makes of them here."""

    @dataclasses.dataclass
    class Line:
        sku: str

    class Cart(DurableObject):
        date: datetime | None = None
        datetime: datetime | None = None
        lines: dict[str, Line] = field(default_factory=dict)

        @handler
        def add(self, line: Line) -> None:
            self.lines[line.sku] = line

    assert spec_of(Cart).fields["lines"].hint == dict[str, Line]
    (line,) = spec_of(Cart).handlers["add"].bind([{"sku": "x"}], None)
    assert line == Line("x")


def test_only_declared_handlers_can_be_called() -> None:
    """parity 11, fault D14: plain methods, alarms and attributes are no public surface, whatever their names."""
    assert list(spec_of(Counter).handlers) == ["increment", "take", "get"]


def test_keys_of_nested_dicts_come_back_as_the_annotation_says() -> None:
    """parity 17: annotations decide; without one, JSON has string keys."""

    class Cart(DurableObject):
        lines: dict[int, dict[str, list[int]]] = field(default_factory=dict)
        loose: dict[str, Any] = field(default_factory=dict)

    spec = spec_of(Cart)
    cart = Cart(lines={7: {"a": [1]}}, loose={"7": {"a": 1}})
    revived = spec.revive(spec.codec.verify(cart, spec.codec.encode(cart)), None)
    assert (revived.lines, revived.loose) == ({7: {"a": [1]}}, {"7": {"a": 1}})

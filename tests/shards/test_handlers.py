"""From the arguments of a call to those of a method, and from results back to types."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import wraps
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_shards.errors import InvalidArguments
from durable_shards.handler import Handler, HandlerSpec, handler
from durable_shards.object import DurableObject
from durable_shards.registry import spec_of
from tests.storage.samples import LEAVES


class Color(enum.Enum):
    RED = "r"


@dataclass
class Line:
    sku: str
    count: int = 1


class Spot(NamedTuple):
    x: float
    y: float


class Extra(TypedDict, total=False):
    note: str


def traced(function: Any) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Shop(DurableObject):
    @handler
    def nothing(self) -> None: ...

    @handler
    def add(self, sku: str, count: int = 1, price: float | None = None) -> Line:
        return Line(sku, count)

    @handler
    def rich(self, line: Line, color: Color = Color.RED, when: datetime | None = None) -> dict[int, Spot]: ...

    @handler
    def many(self, *skus: str, loud: bool = False, **counts: int) -> int: ...

    @handler
    def strict(self, sku: str, /, *, count: int) -> tuple[Any, ...]:
        return sku, count

    @handler
    def anything(self, it, other: Any = None):  # type: ignore[no-untyped-def]
        return it

    @handler
    async def later(self, seconds: float) -> float:
        return seconds

    @handler
    @traced
    async def traced(self, lines: list[Line]) -> list[Line]:
        return lines


def spec(name: str) -> HandlerSpec:
    return spec_of(Shop).handlers[name]


BOUND: list[tuple[str, list[Any], dict[str, Any] | None, tuple[Any, ...]]] = [
    ("nothing", [], None, ()),
    ("nothing", [], {}, ()),
    ("add", ["a"], None, ("a", 1, None)),
    ("add", ["a", 2], None, ("a", 2, None)),
    ("add", ["a", 2, 3], None, ("a", 2, 3.0)),
    ("add", ["a"], {"price": 1.5}, ("a", 1, 1.5)),
    ("add", [], {"count": 3, "sku": "b"}, ("b", 3, None)),
    ("rich", [{"sku": "a"}], None, (Line("a"), Color.RED, None)),
    ("rich", [{"sku": "a", "count": 2}, "r"], None, (Line("a", 2), Color.RED, None)),
    (
        "rich",
        [{"sku": "a"}],
        {"when": "2020-01-01T00:00:00Z"},
        (Line("a"), Color.RED, datetime(2020, 1, 1, tzinfo=UTC)),
    ),
    ("many", [], None, ((), {"loud": False})),
    ("many", ["a", "b"], {"loud": True, "c": 1}, (("a", "b"), {"loud": True, "c": 1})),
    ("strict", ["a"], {"count": 2}, (("a",), {"count": 2})),
    ("anything", [{"x": [1]}], None, ({"x": [1]}, None)),
    ("later", [3], None, (3.0,)),
    ("traced", [[{"sku": "a"}]], None, ([Line("a")],)),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "bound"), BOUND)
def test_arguments_are_converted_and_defaults_filled(
    name: str, args: list[Any], kwargs: dict[str, Any] | None, bound: tuple[Any, ...]
) -> None:
    """parity 14: positional, keyword and default arguments become what the annotations say."""
    found = spec(name).bind(args, kwargs)
    assert found == bound
    assert all(type(a) is type(b) for a, b in zip(found, bound, strict=True))


REFUSED: list[tuple[str, list[Any], dict[str, Any] | None, str]] = [
    ("nothing", [1], None, "it takes no positional arguments, not 1"),
    ("nothing", [], {"x": 1}, "it has no argument named 'x'"),
    ("add", [], None, "argument sku is missing"),
    ("add", ["a", 1, 2.0, 3], None, "it takes at most 3 positional, not 4"),
    ("add", [1], None, "argument sku: expected str, got int"),
    ("add", ["a", "b"], None, "argument count: expected int, got str"),
    ("add", ["a", True], None, "argument count: expected int, got bool"),
    ("add", ["a", 1.0], None, "argument count: expected int, got float"),
    ("add", ["a", None], None, "argument count: expected int, got null"),
    ("add", ["a", 1], {"count": 2}, "argument count is given twice, by position and by name"),
    ("add", ["a"], {"self": 2}, "it has no argument named 'self'"),
    ("add", ["a"], {"colour": 2, "size": 1}, "it has no argument named 'colour', 'size'"),
    ("rich", [{"count": 1}], None, "argument line: object missing required field sku"),
    ("rich", [{"sku": "a", "count": "x"}], None, "argument line.count: expected int, got str"),
    ("rich", [{"sku": "a"}, "blue"], None, "argument color: invalid enum value 'blue'"),
    ("rich", [{"sku": "a"}], {"when": "soon"}, "argument when: invalid RFC3339 encoded datetime"),
    ("many", ["a", 2], None, "argument skus[1]: expected str, got int"),
    ("many", [], {"c": "x"}, "argument counts['c']: expected int, got str"),
    ("strict", [], {"sku": "a", "count": 1}, "argument sku is missing"),
    ("strict", ["a"], None, "argument count is missing"),
    ("traced", [[{"sku": "a"}, {"sku": 1}]], None, "argument lines[1].sku: expected str, got int"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "message"), REFUSED)
def test_arguments_that_do_not_fit_are_refused_with_path_and_signature(
    name: str, args: list[Any], kwargs: dict[str, Any] | None, message: str
) -> None:
    """parity 42: wrong arguments are told from unknown handlers, and nothing was run."""
    with pytest.raises(InvalidArguments) as refused:
        spec(name).bind(args, kwargs)
    assert f"Shop.{name}: {message}" in str(refused.value)
    assert str(refused.value).endswith(f"; its signature is {spec(name).signature}")
    assert (refused.value.retryable, refused.value.outcome) == (False, "not_applied")


def test_signatures_are_shown_as_they_were_written() -> None:
    """With the types' names, whether they were text or not."""
    assert [each.signature for each in spec_of(Shop).handlers.values()] == [
        "nothing() -> None",
        "add(sku: str, count: int = 1, price: float | None = None) -> Line",
        "rich(line: Line, color: Color = <Color.RED: 'r'>, when: datetime | None = None) -> dict[int, Spot]",
        "many(*skus: str, loud: bool = False, **counts: int) -> int",
        "strict(sku: str, /, *, count: int) -> tuple[Any, ...]",
        "anything(it, other: Any = None)",
        "later(seconds: float) -> float",
        "traced(lines: list[Line]) -> list[Line]",
    ]


def test_a_spec_runs_its_method() -> None:
    """Whatever the kinds of its parameters."""
    shop = Shop()
    assert spec("strict").func(shop, *spec("strict").bind(["a"], {"count": 2})) == ("a", 2)
    assert spec("add").func(shop, *spec("add").bind(["a"], None)) == Line("a", 1)
    assert asyncio.run(spec("later").func(shop, *spec("later").bind([2], None))) == 2.0
    assert [name for name, each in spec_of(Shop).handlers.items() if each.is_async] == ["later", "traced"]
    assert spec_of(Shop).has_async


def test_results_are_decoded_by_the_return_annotation() -> None:
    """What travelled as plain values comes out typed; what does not fit comes out as it is."""
    assert spec("add").decode_result({"sku": "a", "count": 2}) == Line("a", 2)
    assert spec("rich").decode_result({"1": [1, 2]}) == {1: Spot(1.0, 2.0)}
    assert spec("later").decode_result(3) == 3.0
    assert spec("nothing").decode_result(None) is None
    assert spec("anything").decode_result({"a": 1}) == {"a": 1}
    assert spec("later").decode_result("soon") == "soon"


def test_a_handler_knows_the_class_it_was_taken_from() -> None:
    """`engine.call(Sub.add, ...)` addresses objects of Sub."""

    class Sub(Shop):
        pass

    assert (Shop.add.owner, Shop.add.name) == (Shop, "add")
    assert (Sub.add.owner, Sub.add.name) == (Sub, "add")
    assert Sub.add is Sub.add
    assert Shop.add is not Sub.add
    assert isinstance(Sub.add, Handler)
    assert (repr(Shop.add), vars(Shop.add)["__name__"]) == ("<handler Shop.add>", "add")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_supported_value_arrives_over_msgpack_as_it_was(data: st.DataObject) -> None:
    """fault E5: arguments and results of every type that a state may have; instants arrive in UTC, as in msgpack."""
    hint, values = data.draw(st.sampled_from([each for each in LEAVES if each[0] is not Any]))

    def echo(self: Any, it: Any) -> Any: ...

    echo.__annotations__ = {"it": hint, "return": hint}
    cls = type("Echo", (DurableObject,), {"echo": handler(echo), "__module__": __name__})
    value = data.draw(values)
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    echo_spec = spec_of(cls).handlers["echo"]
    (arrived,) = echo_spec.bind([wire], None)
    result = echo_spec.decode_result(wire)
    assert (type(arrived), arrived) == (type(value), value)
    assert (type(result), result) == (type(value), value)


@pytest.mark.parametrize("value", [3, "x", None, 1.5, b"x", [1], {"a": 1}, True, 2**70])
@pytest.mark.parametrize(
    "hint",
    [
        *(int, str, bool, float, bytes, None, UUID, Decimal, date, time, timedelta, list[int], dict[str, int], Color),
        *(Line, Spot, Extra, Sequence[int], Literal["x", 3], int | str | None),
    ],
)
def test_whatever_arrives_is_converted_or_refused(hint: Any, value: Any) -> None:
    """fault E2: no argument from the wire leads to any other error."""

    def run(self: Any, it: Any) -> Any: ...

    run.__annotations__ = {"it": hint}
    cls = type("Any_", (DurableObject,), {"run": handler(run), "__module__": __name__})
    try:
        (bound,) = spec_of(cls).handlers["run"].bind([value], None)
    except InvalidArguments as error:
        assert "argument it: " in str(error)  # noqa: PT017 - refusing is one of two right answers
    else:
        assert type(bound) is not bool or hint is bool

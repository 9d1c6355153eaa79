"""Errors: what they say, what they carry, and that they cross the wire as what they are."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_shards import errors as shard_errors
from durable_shards.errors import (
    CallTimeout,
    DefinitionError,
    HandlerFailed,
    Overloaded,
    ReentrantCall,
    Rejected,
    error_from_wire,
    error_to_wire,
)
from durable_storage import errors as storage_errors
from durable_storage.errors import DurableError, PersistenceFailed, Unavailable


class OutOfStock(Rejected):
    """There are not enough of these.

    Only the first line is the message.
    """

    sku: str
    left: int = 0
    HINT: ClassVar[str] = "order more"


class Rich(Rejected):
    at: datetime
    price: Decimal
    ids: set[UUID]
    by_count: dict[int, str]


class Special(OutOfStock):
    """These are special."""

    reason: str


ALL = sorted(
    {
        each
        for module in (shard_errors, storage_errors)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, DurableError)
    },
    key=lambda each: each.__name__,
)


def over_the_wire(error: DurableError) -> DurableError:
    """There and back, by msgpack; JSON must carry the map as well."""
    wire = error_to_wire(error)
    assert orjson.loads(orjson.dumps(wire)) == wire
    return error_from_wire(msgspec.msgpack.decode(msgspec.msgpack.encode(wire)))


def same_error(a: DurableError, b: DurableError) -> bool:
    return (type(a), a.message, a.retryable, a.outcome) == (type(b), b.message, b.retryable, b.outcome)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_crosses_the_wire(kind: type[DurableError]) -> None:
    """Class, message, retryable and outcome are the same on the other side."""
    error = kind("what happened", retryable=True, outcome="unknown")
    assert same_error(over_the_wire(error), error)
    assert same_error(over_the_wire(kind()), kind())


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_happened_by_default(kind: type[DurableError]) -> None:
    """The docstring is the message; nothing is applied unless it says so."""
    error = kind()
    assert error.message == (kind.__doc__ or "").partition("\n")[0]
    assert error.message.endswith(".")
    assert error.outcome == ("unknown" if kind is CallTimeout else "not_applied")
    assert repr(copy.copy(error)) == repr(error)


def test_some_errors_are_those_of_the_standard_library_too() -> None:
    """So that general code catches them."""
    assert issubclass(CallTimeout, TimeoutError)
    assert issubclass(Unavailable, ConnectionError)
    assert issubclass(DefinitionError, TypeError)
    assert (CallTimeout().retryable, Overloaded().retryable, PersistenceFailed().retryable) == (False, True, False)


def test_a_failed_handler_tells_what_was_raised_where() -> None:
    """parity 47: type, message and traceback of the remote exception."""
    error = HandlerFailed(remote_type="KeyError", remote_message="'x'", traceback="Traceback ...")
    assert str(error) == "KeyError: 'x'"
    other = over_the_wire(error)
    assert isinstance(other, HandlerFailed)
    assert (other.remote_type, other.remote_message, other.traceback) == ("KeyError", "'x'", "Traceback ...")
    assert over_the_wire(HandlerFailed(remote_type="E", remote_message="\ud800")).message == "E: \\ud800"


def test_a_reentrant_call_names_its_chain() -> None:
    """Outermost first."""
    error = ReentrantCall(chain=["A/1", "B/2", "A/1"])
    assert str(error).startswith("A/1 -> B/2 -> A/1 comes back to")
    other = over_the_wire(error)
    assert isinstance(other, ReentrantCall)
    assert other.chain == ("A/1", "B/2", "A/1")


def test_a_rejection_has_the_fields_it_declares() -> None:
    """parity 40: with defaults, and its docstring as the message."""
    rejected = OutOfStock(sku="x", left=2)
    assert (rejected.sku, rejected.left, str(rejected)) == ("x", 2, "There are not enough of these.")
    assert OutOfStock(sku="x").left == 0
    assert dict(rejected.fields) == {"sku": "x", "left": 2}
    assert repr(rejected) == "OutOfStock(sku='x', left=2)"
    assert OutOfStock.HINT == "order more"


def test_a_rejection_may_have_a_text_of_its_own() -> None:
    """Plain, or in addition to fields."""
    assert str(Rejected("too late")) == "too late"
    assert repr(Rejected("too late")) == "Rejected('too late')"
    assert str(OutOfStock("none left", sku="x")) == "none left"  # type: ignore[call-arg, misc]


def test_wrong_fields_of_a_rejection_are_told() -> None:
    """As of any constructor."""
    with pytest.raises(TypeError, match=r"OutOfStock\(sku, left\) lacks sku"):
        OutOfStock()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"OutOfStock\(sku, left\) has no field colour"):
        OutOfStock(sku="x", colour="y")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Rejected\(\) has no field sku"):
        Rejected(sku="x")


@pytest.mark.parametrize("name", ["message", "retryable", "outcome", "fields", "args"])
def test_a_field_that_every_rejection_has_already_is_refused(name: str) -> None:
    """When the class is defined."""
    with pytest.raises(
        DefinitionError, match=rf"Bad\.{name}: every Rejected has a '{name}' of its own; choose another"
    ):
        type("Bad", (Rejected,), {"__annotations__": {name: str}})


def test_rejections_with_equal_fields_are_equal() -> None:
    """They are values; copies and pickles are equal as well."""
    one = OutOfStock(sku="x", left=2)
    assert one == OutOfStock(sku="x", left=2)
    assert one != OutOfStock(sku="x", left=3)
    assert one != Special(sku="x", left=2, reason="r")
    assert hash(one) == hash(OutOfStock(sku="x", left=2))
    assert copy.copy(one) == one
    assert pickle.loads(pickle.dumps(one)) == one


def test_subclasses_of_a_rejection_have_its_fields_too() -> None:
    """In the order of declaration."""
    special = Special(sku="x", left=1, reason="r")
    assert list(special.fields) == ["sku", "left", "reason"]
    assert str(special) == "These are special."
    with pytest.raises(OutOfStock):
        raise special


rejections = st.builds(
    Rich,
    at=st.datetimes(timezones=st.just(UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    ids=st.sets(st.uuids(), max_size=3),
    by_count=st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]))),
) | st.builds(OutOfStock, sku=st.text(st.characters(exclude_categories=["Cs"])), left=st.integers(-(2**63), 2**63 - 1))


@given(rejections)
def test_a_rejection_crosses_the_wire_as_its_own_class(rejected: Rejected) -> None:
    """parity 40: equal fields of equal types."""
    other = over_the_wire(rejected)
    assert other == rejected
    assert isinstance(other, Rejected)
    assert {name: type(value) for name, value in other.fields.items()} == {
        name: type(value) for name, value in rejected.fields.items()
    }


def test_an_unknown_rejection_is_a_plain_one_with_its_fields() -> None:
    """Nothing is imported because a server says so."""
    wire = error_to_wire(OutOfStock(sku="x", left=2)) | {"class": "os:Nowhere"}
    rejected = error_from_wire(wire)
    assert type(rejected) is Rejected
    assert (dict(rejected.fields), str(rejected)) == ({"sku": "x", "left": 2}, "There are not enough of these.")


def test_a_rejection_of_a_class_from_main_is_found_by_its_name() -> None:
    """The server imported the file that the caller runs as `__main__`; the name is that of one class only."""

    class OutOfThisTestOnly(Rejected):
        left: int

    wire = error_to_wire(OutOfThisTestOnly(left=2)) | {"class": f"__main__:{OutOfThisTestOnly.__qualname__}"}
    assert error_from_wire(wire) == OutOfThisTestOnly(left=2)


def test_a_rejection_whose_fields_changed_is_a_plain_one() -> None:
    """Client and server run other versions of the class."""
    wire = error_to_wire(OutOfStock(sku="x", left=2)) | {"fields": {"sku": "x"}}
    rejected = error_from_wire(wire)
    assert type(rejected) is Rejected
    assert dict(rejected.fields) == {"sku": "x"}


def test_a_field_that_cannot_travel_is_sent_as_its_repr() -> None:
    """The caller still learns that the call was refused."""
    rejected = over_the_wire(OutOfStock(sku=len, left="\ud800"))  # type: ignore[arg-type]
    assert isinstance(rejected, OutOfStock)
    assert (rejected.sku, rejected.left) == ("<built-in function len>", "'\\ud800'")


def test_a_rejection_with_a_constructor_of_its_own_comes_back() -> None:
    """It is restored, not constructed."""

    class Odd(Rejected):
        def __init__(self, number: int) -> None:
            super().__init__(f"{number} is odd")

    odd = over_the_wire(Odd(3))
    assert (type(odd), str(odd)) == (Odd, "3 is odd")


def test_an_error_that_this_version_does_not_know_keeps_its_message() -> None:
    """And its name, retryable and outcome."""
    error = error_from_wire({"type": "Novel", "message": "new", "retryable": True, "outcome": "applied"})
    assert (type(error), str(error), error.retryable, error.outcome) == (DurableError, "Novel: new", True, "applied")


def test_an_error_of_a_subclass_travels_as_the_class_that_is_known() -> None:
    """Users may derive their own."""

    class Mine(Overloaded):
        pass

    assert same_error(over_the_wire(Mine("full")), Overloaded("full"))


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["type", "message", "retryable", "outcome", "class", "fields", "chain", "traceback", "remote_type"]
kinds = st.sampled_from([each.__name__ for each in ALL])
paths = st.sampled_from([f"{__name__}:OutOfStock", "x:Rich", "Special", ":"])


@given(
    garbage
    | st.dictionaries(st.sampled_from(KEYS), garbage)
    | st.fixed_dictionaries({"type": kinds}, optional=dict.fromkeys(KEYS[1:], garbage))
    | st.fixed_dictionaries(
        {"type": st.just("Rejected"), "class": paths},
        optional={"fields": st.dictionaries(st.sampled_from(["sku", "left", "reason", 3]), garbage)},
    )
)
def test_any_map_becomes_some_error(wire: Any) -> None:
    """A broken or hostile server leads to an error, never to a crash of the client's receiver."""
    error = error_from_wire(wire)
    assert isinstance(error, DurableError)
    assert isinstance(error.retryable, bool)
    assert error.outcome in ("not_applied", "applied", "unknown")
    error_to_wire(error)
    assert str(error) or repr(error)


def test_timeouts_are_unknown_and_retryable_only_when_said() -> None:
    """It is the key that makes a retry safe."""
    assert (CallTimeout().outcome, CallTimeout().retryable) == ("unknown", False)
    assert CallTimeout(retryable=True).retryable

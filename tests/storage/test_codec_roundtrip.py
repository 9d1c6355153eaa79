"""What comes back after a reload equals what was saved, keys and types included."""

from __future__ import annotations

import tracemalloc
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_storage.errors import DurableError
from tests.storage.codecs import Subject, one, same
from tests.storage.samples import HASHABLE, LEAVES, NAMED_ZONES, Line, Point, Spot, annotated, plain_json


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_supported_value_comes_back_as_it_was(data: st.DataObject) -> None:
    """parity 57, fault E5: encode, verify and decode give an equal value of equal types, at any nesting."""
    hint, values = data.draw(annotated)
    value = data.draw(values)
    subject, obj = one(hint, value)
    stored = subject.saved(obj)
    assert same(subject.revived(stored).it, value), stored


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_verify_lets_pass_is_what_memory_holds(data: st.DataObject) -> None:
    """fault E5: whatever value meets whatever annotation: it is refused, or memory and a reload agree afterwards."""
    hint, _ = data.draw(annotated)
    _, values = data.draw(annotated)
    stranger = data.draw(values | strangers)
    subject, obj = one(hint, stranger)
    try:
        stored = subject.saved(obj)
    except DurableError as error:
        assert "state.it" in str(error)  # noqa: PT017 - refusing is one of two right answers
    else:
        assert same(subject.revived(stored).it, obj.it), stored
        assert subject.codec.encode(obj) == stored


class _Text(str):
    __slots__ = ()


strangers: st.SearchStrategy[Any] = st.sampled_from(
    [
        True,
        3,
        2**63,
        2**64,
        -(2**63) - 1,
        2**53 + 1,
        1.0,
        float("nan"),
        float("inf"),
        -0.0,
        "\ud800",
        {"a": "\ud800"},
        _Text("x"),
        [1, 2],
        (1, 2),
        (1, 2.5),
        [True],
        {1, 2},
        {1: 2},
        {"1": 1},
        {None: 1},
        b"x",
        bytearray(b"x"),
        Decimal("NaN"),
        Decimal("sNaN"),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
        datetime(2020, 1, 1, fold=1),
        datetime(2020, 1, 1, tzinfo=UTC).timetz(),
        Point(1, 2),
        Spot(1, 2),
        Line("x", Decimal(1), 1, {1}),  # type: ignore[arg-type]
        object(),
        len,
        ...,
        1j,
        range(3),
    ]
).map(deepcopy)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(min_value=datetime(1950, 1, 1), timezones=NAMED_ZONES))
def test_a_named_time_zone_becomes_its_offset_in_memory_too(value: datetime) -> None:
    """The text keeps the UTC offset, not the zone: so does memory, from the save on."""
    subject, obj = one(datetime, value)
    stored = subject.saved(obj)
    assert obj.it.astimezone(UTC) == value.astimezone(UTC)
    assert obj.it.utcoffset() == value.utcoffset()
    assert same(subject.revived(stored).it, obj.it)


@pytest.mark.parametrize(
    ("hint", "value", "kept"),
    [
        (float, 3, 3.0),
        (float | None, 3, 3.0),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (tuple[float, float], (0, 1), (0.0, 1.0)),
        (set[float], {1, 2}, {1.0, 2.0}),
        (frozenset[float], frozenset({1}), frozenset({1.0})),
        (Point, Point(1, 2), Point(1.0, 2.0)),
        (Spot, Spot(1, 2), Spot(1.0, 2.0)),
        (dict[int, list[Point]], {1: [Point(0, 1)]}, {1: [Point(0.0, 1.0)]}),
    ],
)
def test_an_int_in_the_place_of_a_float_becomes_that_float(hint: Any, value: Any, kept: Any) -> None:
    """Type checkers let it pass; memory and store both hold the float from the save on."""
    subject, obj = one(hint, value)
    stored = subject.saved(obj)
    assert same(obj.it, kept)
    assert same(subject.revived(stored).it, kept)
    assert subject.codec.encode(obj) == stored


def test_containers_keep_their_identity_when_ints_become_floats() -> None:
    """Whoever holds the list sees what was stored."""
    numbers: list[Any] = [1, 2]
    subject, obj = one(list[float], numbers)
    subject.saved(obj)
    assert obj.it is numbers
    assert same(numbers, [1.0, 2.0])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_sets_are_written_in_one_order(data: st.DataObject) -> None:
    """Equal sets have equal text, so that an unchanged state is recognised whatever its history."""
    hint, values = data.draw(st.sampled_from(HASHABLE))
    items = data.draw(st.lists(values, max_size=5))
    subject = Subject({"it": set[hint]}, it=set)
    forwards, backwards = set(items), set()
    for each in reversed(list(forwards)):
        backwards.add(each)
    assert subject.codec.encode(subject.holding(it=forwards)) == subject.codec.encode(subject.holding(it=backwards))


@settings(max_examples=100, deadline=None)
@given(plain_json)
def test_encoding_what_was_decoded_gives_the_same_text(value: Any) -> None:
    """A state that was only read is not written again."""
    subject, obj = one(Any, value)
    stored = subject.saved(obj)
    assert subject.codec.encode(subject.revived(stored)) == stored


def test_a_small_state_takes_little_memory() -> None:
    """What encoding needed on the way is not kept with its result: states are held for every object in memory."""
    subject, obj = one(int, 7)
    tracemalloc.start()
    try:
        states = [subject.codec.encode(obj) for _ in range(1000)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 200 * len(states)


def test_all_kinds_fit_into_one_class() -> None:
    """One class may use every supported annotation at once, and its defaults fill an empty object."""
    fields = {f"f{index}": hint | None if hint is not Any else hint for index, (hint, _) in enumerate(LEAVES)}
    subject = Subject(fields)
    assert subject.codec.decode(b"{}") == dict.fromkeys(fields)

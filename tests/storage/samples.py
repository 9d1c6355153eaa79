"""Annotations with values that fit them, for properties over everything a state may be made of."""

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import strategies as st


class Color(enum.Enum):
    RED = "r"
    BLUE = "bl\u00fce"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2**40


class Kind(enum.StrEnum):
    A = "a"
    B = "b"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Spot(NamedTuple):
    x: float
    y: float
    label: str | None = None


class Options(TypedDict):
    loud: bool
    until: NotRequired[datetime]


@dataclass
class Line:
    sku: str
    price: Decimal
    count: int = 1
    tags: set[str] = field(default_factory=set)
    parts: "list[Line]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


class Event(msgspec.Struct):
    at: datetime
    spots: list[Spot] = []
    blob: bytes = b""


class Cat(msgspec.Struct, tag=True):
    lives: dict[int, str]


class Dog(msgspec.Struct, tag=True, frozen=True, rename="camel"):
    good_boy: bool


class Pair(msgspec.Struct, array_like=True, tag=7):
    left: set[int]
    right: time | None = None


UserId = NewType("UserId", int)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ints = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
datetimes = st.datetimes(timezones=st.none() | st.just(UTC) | offsets)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
spots = st.builds(Spot, floats, floats, st.none() | text)
lines = st.recursive(
    st.builds(Line, text, decimals, ints, st.sets(text, max_size=3)),
    lambda inner: st.builds(Line, text, decimals, ints, st.just(set()), st.lists(inner, max_size=2)),
    max_leaves=4,
)
plain_json = st.recursive(
    st.none() | st.booleans() | ints | floats | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)

KEYS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, text),
    (int, ints),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Size, st.sampled_from(Size)),
    (Kind, st.sampled_from(Kind)),
    (date, st.dates()),
    (datetime, st.datetimes(timezones=st.just(UTC))),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (UserId, ints),
]
HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *KEYS,
    (bool, st.booleans()),
    (time, st.times()),
    (float, floats),
    (bytes, st.binary(max_size=8)),
    (timedelta, st.timedeltas()),
    (Decimal, decimals),
    (Literal[1, "x", None, True], st.sampled_from([1, "x", None, True])),
    (Rights, st.sampled_from([Rights.READ, Rights.WRITE, Rights.READ | Rights.WRITE])),
    (Point, st.builds(Point, floats, floats)),
    (Spot, spots),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 2**64 - 1)),
    (Annotated[str, "a label"], text),
]
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *HASHABLE,
    (datetime, datetimes),
    (Any, plain_json),
    (list, st.lists(plain_json, max_size=3)),
    (dict, st.dictionaries(text, plain_json, max_size=3)),
    (Line, lines),
    (Event, st.builds(Event, datetimes, st.lists(spots, max_size=2), st.binary(max_size=4))),
    (Pair, st.builds(Pair, st.sets(ints, max_size=3), st.none() | st.times())),
    (
        Cat | Dog,
        st.builds(Cat, st.dictionaries(ints, text, max_size=2)) | st.builds(Dog, st.booleans()),
    ),
    (Options, st.fixed_dictionaries({"loud": st.booleans()}, optional={"until": datetimes})),
    (int | str | None, ints | text | st.none()),
    (Decimal | int, decimals | ints),
    (int | float, ints | floats),
    (Color | Size | list[int], st.sampled_from(Color) | st.sampled_from(Size) | st.lists(ints, max_size=3)),
]
NAMED_ZONES = st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]).map(ZoneInfo)


def _containers(
    inner: st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]],
) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    keyed = st.tuples(st.sampled_from(KEYS), inner).map(
        lambda pair: (dict[pair[0][0], pair[1][0]], st.dictionaries(pair[0][1], pair[1][1], max_size=3))
    )
    hashable = st.sampled_from(HASHABLE)
    return st.one_of(
        inner.map(lambda each: (list[each[0]], st.lists(each[1], max_size=3))),
        inner.map(lambda each: (tuple[each[0], ...], st.lists(each[1], max_size=3).map(tuple))),
        st.tuples(inner, inner).map(lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))),
        hashable.map(lambda each: (set[each[0]], st.sets(each[1], max_size=4))),
        hashable.map(lambda each: (frozenset[each[0]], st.frozensets(each[1], max_size=4))),
        inner.map(lambda each: (each[0] | None if each[0] is not Any else Any, each[1] | st.none())),
        keyed,
    )


annotated = st.recursive(st.sampled_from(LEAVES), _containers, max_leaves=4)
"""(annotation, strategy of its values) of every supported kind, nested."""

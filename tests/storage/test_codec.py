"""What a codec refuses, at which path, and what it keeps of rows that another version wrote."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import pytest

from durable_storage.codec import EXTRA, StateCodec
from durable_storage.errors import PersistenceFailed, StateUnreadable, TooLarge
from durable_storage.limits import STATE_BYTES_MAX
from durable_storage.shapes import Unsupported
from tests.storage.codecs import Subject, one, same
from tests.storage.samples import Color, Event, Kind, Line, Options, Point, Rights, Size, Spot


class Sub(Point):
    pass


class Text(str):
    __slots__ = ()


def a_list_in_itself() -> list[Any]:
    it: list[Any] = []
    it.append(it)
    return it


def nested(depth: int) -> list[Any]:
    it: list[Any] = []
    for _ in range(depth):
        it = [it]
    return it


@dataclass
class Tree:
    children: list[Tree]


def tree(depth: int) -> Tree:
    it = Tree([])
    for _ in range(depth):
        it = Tree([it])
    return it


REFUSED: list[tuple[Any, Any, str]] = [
    (int, True, "state.it: expected int, got bool (True)"),
    (int, 3.0, "state.it: expected int, got float (3.0)"),
    (int, "3", "state.it: expected int, got str ('3')"),
    (int, None, "state.it: expected int, got None"),
    (int, 2**64, "state.it: int cannot be stored: Integer exceeds 64-bit range"),
    (int, -(2**63) - 1, "state.it: int cannot be stored: Integer exceeds 64-bit range"),
    (int, Size.SMALL, "state.it: expected int, got Size"),
    (bool, 1, "state.it: expected bool, got int (1)"),
    (float, True, "state.it: expected float, got bool (True)"),
    (float, 2**53 + 1, "state.it: expected float, got an int that no float equals (9007199254740993)"),
    (float, 10**400, "state.it: expected float, got an int that no float equals"),
    (float, float("nan"), "state.it: nan cannot be stored: NaN and infinities have no JSON form"),
    (float, float("-inf"), "state.it: -inf cannot be stored"),
    (dict[str, float], {"a": float("inf")}, "state.it['a']: inf cannot be stored"),
    (str, b"x", "state.it: expected str, got bytes (b'x')"),
    (str, Kind.A, "state.it: expected str, got Kind"),
    (str, Text("x"), "state.it: expected str, got Text ('x')"),
    (str, "a\ud800", "state.it: str cannot be stored: str is not valid UTF-8: surrogates not allowed"),
    (dict[str, str], {"k": "\ud800"}, "state.it['k']: str cannot be stored"),
    (dict[str, int], {"\ud800": 1}, "state.it: dict cannot be stored"),
    (bytes, bytearray(b"x"), "state.it: expected bytes, got bytearray"),
    (date, datetime(2020, 1, 1), "state.it: expected date, got datetime"),
    (datetime, date(2020, 1, 1), "state.it: expected datetime, got date"),
    (datetime, datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=30))), "is not whole minutes"),
    (time, time(1, tzinfo=UTC), "state.it: a time with a time zone cannot be stored"),
    (Decimal, 1.5, "state.it: expected Decimal, got float (1.5)"),
    (Decimal, Decimal("NaN"), "state.it: Decimal('NaN') cannot be stored"),
    (UUID, "x", "state.it: expected UUID, got str ('x')"),
    (Color, "r", "state.it: expected Color, got str ('r')"),
    (Rights, 1, "state.it: expected Rights, got int (1)"),
    (Literal["a", "b"], "c", "state.it: expected Literal['a', 'b'], got str ('c')"),
    (Literal[1, 2], True, "state.it: expected Literal[1, 2], got bool (True)"),
    (list[int], (1, 2), "state.it: expected list[int], got tuple"),
    (list[int], [1, 2, "3"], "state.it[2]: expected int, got str ('3')"),
    (list[list[int]], [[1], [2, None]], "state.it[1][1]: expected int, got None"),
    (tuple[int, ...], [1], "state.it: expected tuple[int, ...], got list"),
    (tuple[int, str], (1,), "state.it: expected tuple[int, str], got 1 items"),
    (tuple[int, str], (1, 2), "state.it[1]: expected str, got int (2)"),
    (set[int], frozenset({1}), "state.it: expected set[int], got frozenset"),
    (dict[str, int], {1: 1}, "state.it[1]: expected str, got int (1)"),
    (dict[int, int], {"1": 1}, "state.it['1']: expected int, got str ('1')"),
    (dict[int, int], {True: 1}, "state.it[True]: expected int, got bool (True)"),
    (dict[UUID, int], {"x": 1}, "state.it['x']: expected UUID, got str ('x')"),
    (dict[str, list[int]], {"a": [1, "x"]}, "state.it['a'][1]: expected int, got str ('x')"),
    (int | None, "x", "state.it: expected int | None, got str ('x')"),
    (list[int] | str, [None], "state.it[0]: expected int, got None"),
    (Options, {"loud": 1}, "state.it['loud']: expected bool, got int (1)"),
    (Options, {}, "state.it: key 'loud' of Options is missing"),
    (Options, {"loud": True, "hue": 1}, "state.it: Options has no key 'hue'"),
    (Spot, (1.0, 2.0, None), "state.it: expected Spot, got tuple"),
    (Spot, Spot(1.0, "x"), "state.it.y: expected float, got str ('x')"),  # type: ignore[arg-type]
    (Point, Sub(1.0, 2.0), "state.it: expected Point, got Sub"),
    (list[Line], [Line("a", Decimal(1), "x")], "state.it[0].count: expected int, got str ('x')"),  # type: ignore[arg-type]
    (Event, Event(datetime(2020, 1, 1), [Spot(1.0, None)]), "state.it.spots[0].y: expected float, got None"),  # type: ignore[arg-type]
    (Annotated[int, msgspec.Meta(ge=0)], -1, "state.it: expected int >= 0"),
    (Annotated[list[int], msgspec.Meta(max_length=1)], [1, 2], "state.it: expected array of length <= 1"),
    (Any, {"a": [1, {2}]}, "state.it['a'][1]: expected plain JSON"),
    (Any, {"a": (1,)}, "state.it['a']: expected plain JSON"),
    (Any, {1: 2}, "state.it[1]: expected str as key of plain JSON, got int (1)"),
    (Any, [datetime(2020, 1, 1)], "state.it[0]: expected plain JSON"),
    (Any, [float("nan")], "state.it[0]: nan cannot be stored"),
    (Any, {"fn": [0, 1, 2, {"fn": len}]}, "state.it['fn'][3]['fn']: expected plain JSON"),
    (Any, open, "state.it: expected plain JSON"),
    (Any, 2**70, "state.it: int cannot be stored: Integer exceeds 64-bit range"),
    (Any, a_list_in_itself(), "state.it: nested too deep (orjson writes 254 levels), or contains itself"),
    (list, nested(300), "state.it: nested too deep (orjson writes 254 levels), or contains itself"),
    (Tree, tree(300), "nested"),
]


@pytest.mark.parametrize(("hint", "value", "message"), REFUSED, ids=[str(each[2])[:40] for each in REFUSED])
def test_a_value_that_would_not_come_back_is_refused_with_its_path(hint: Any, value: Any, message: str) -> None:
    """parity 5, fault D13: saving raises PersistenceFailed, which names the class, the path, and what was expected."""
    subject, obj = one(hint, value)
    with pytest.raises(PersistenceFailed) as refused:
        subject.saved(obj)
    assert message in str(refused.value)
    assert str(refused.value).startswith("Subject: state.it")
    assert (refused.value.retryable, refused.value.outcome) == (False, "not_applied")


def test_an_open_file_is_named_by_its_path() -> None:
    """parity 57, fault D13: the example of the catalogue of faults, `state.items[3].fn`."""

    @dataclass
    class Item:
        fn: Any = None

    Item.__module__ = __name__
    subject, obj = one(list[Item], [Item(), Item(), Item(), Item(fn=lambda: 0)])
    with pytest.raises(PersistenceFailed, match=r"state\.it\[3\]\.fn: expected plain JSON .*, got function"):
        subject.saved(obj)


def test_an_undeclared_attribute_is_refused_by_name() -> None:
    """`self.typo = 1` would be written but never read."""
    subject, obj = one(int, 1)
    obj.typo = 1
    with pytest.raises(PersistenceFailed, match=r"state\.typo: Subject declares no field .* annotate it .* underscore"):
        subject.saved(obj)


def test_undeclared_attributes_of_parts_are_refused_too() -> None:
    """A nested dataclass stores its fields and nothing else."""
    line = Line("a", Decimal(1))
    line.typo = 1  # type: ignore[attr-defined]
    subject, obj = one(list[Line], [line])
    with pytest.raises(PersistenceFailed, match=r"state\.it\[0\]\.typo: Line declares no field of this name"):
        subject.saved(obj)


def test_scratch_is_not_stored() -> None:
    """Attributes that begin with an underscore are left out, whatever they hold."""
    subject, obj = one(int, 1)
    obj._cache = object()
    assert subject.saved(obj) == b'{"it":1}'
    assert subject.saved(obj) == b'{"it":1}'


def test_a_deleted_attribute_is_refused_by_name() -> None:
    """A reload would bring the default back."""
    subject, obj = one(int, 1)
    del obj.it
    with pytest.raises(PersistenceFailed, match=r"state\.it: the attribute was deleted"):
        subject.saved(obj)


def test_a_deleted_attribute_of_a_part_is_refused_by_name() -> None:
    """So it is further inside."""
    line = Line("a", Decimal(1))
    del line.sku
    subject, obj = one(list[Line], [line])
    with pytest.raises(PersistenceFailed, match=r"state\.it\[0\]\.sku: the attribute was deleted"):
        subject.saved(obj)


def test_a_state_over_the_limit_is_refused_with_its_size() -> None:
    """fault F5: the limit holds for the encoded text."""
    subject, obj = one(str, "x" * STATE_BYTES_MAX)
    with pytest.raises(TooLarge, match=rf"{STATE_BYTES_MAX + 9} bytes, more than the {STATE_BYTES_MAX} allowed"):
        subject.saved(obj)
    obj.it = "x" * (STATE_BYTES_MAX - 9)
    assert len(subject.saved(obj)) == STATE_BYTES_MAX


def test_deep_structures_come_back_up_to_the_limit() -> None:
    """253 lists inside one another are stored and read again."""
    for hint, value in ((list, nested(252)), (Tree, tree(120))):
        subject, obj = one(hint, value)
        stored = subject.saved(obj)
        assert subject.codec.encode(subject.revived(stored)) == stored


UNREADABLE: list[tuple[Any, bytes, str]] = [
    (int, b'{"it":"x"}', "state.it: expected int, got str"),
    (int, b'{"it":null}', "state.it: expected int, got null"),
    (int, b'{"it":1.5}', "state.it: expected int, got float"),
    (list[int], b'{"it":[1,"x"]}', "state.it[1]: expected int, got str"),
    (list[Line], b'{"it":[{"sku":"a"}]}', "state.it[0]: object missing required field price"),
    (Color, b'{"it":"green"}', "state.it: invalid enum value 'green'"),
    (UUID, b'{"it":"zz"}', "state.it: invalid UUID"),
    (dict[int, int], b'{"it":{"a":1}}', "state.it: expected int, got str"),
    (float, b'{"it":1e999}', "state.it: number out of range"),
    (int, b"[]", "state: expected object, got array"),
    (int, b"null", "state: expected object, got null"),
    (int, b"", "state: input data was truncated"),
    (int, b'{"it":1', "state: input data was truncated"),
    (int, b"{'it':1}", "state: not JSON"),
    (int, b'{"it":1}x', "state: not JSON"),
    (str, b'{"it":"\xff"}', "state: 'utf-8' codec can't decode byte 0xff"),
    (Any, b'{"it":' + b"[" * 100_000, "state: maximum recursion depth exceeded"),
]


@pytest.mark.parametrize(("hint", "data", "message"), UNREADABLE, ids=[str(each[2])[:40] for each in UNREADABLE])
def test_stored_text_that_does_not_fit_is_refused_with_its_path(hint: Any, data: bytes, message: str) -> None:
    """parity 5: loading raises StateUnreadable, which names the class, the path, and what was found."""
    codec = Subject({"it": hint}, it=lambda: None).codec
    with pytest.raises(StateUnreadable) as unreadable:
        codec.decode(data)
    assert str(unreadable.value).startswith(f"Subject: {message}")
    assert (unreadable.value.retryable, unreadable.value.outcome) == (False, "not_applied")


def test_defaults_fill_missing_fields_afresh() -> None:
    """parity 54: a field that the row does not have yet gets its default, and no two objects share one."""
    subject = Subject({"a": int, "tags": list[str], "b": str | None}, a=3, tags=list)
    first, second = subject.codec.decode(b"{}"), subject.codec.decode(b'{"b":"x"}')
    assert first == {"a": 3, "tags": [], "b": None}
    assert second == {"a": 3, "tags": [], "b": "x"}
    assert first["tags"] is not second["tags"]
    assert subject.codec.initial() == first
    assert subject.codec.initial()["tags"] is not subject.codec.initial()["tags"]


def test_unknown_stored_fields_are_kept_and_written_back() -> None:
    """parity 55: what a newer version stored survives an older one, letter by letter."""
    subject = Subject({"it": int}, it=0)
    obj = subject.revived(b'{"new": {"n": 1.0, "big": 123456789012345678901234567890}, "it": 4, "b\\u00e4": [ 1 ]}')
    assert sorted(obj.__dict__[EXTRA]) == ["b\u00e4", "new"]
    obj.it += 1
    stored = subject.saved(obj)
    assert stored == '{"it":5,"new":{"n": 1.0, "big": 123456789012345678901234567890},"b\u00e4":[ 1 ]}'.encode()
    assert subject.codec.encode(subject.revived(stored)) == stored


def test_unknown_fields_of_a_class_without_fields_are_kept() -> None:
    """Even where the class has nothing of its own to write."""
    subject = Subject({})
    assert subject.saved(subject.revived(b'{"a":1}')) == b'{"a":1}'
    assert subject.saved(subject.holding()) == b"{}"


def test_fields_are_written_in_the_order_of_the_class() -> None:
    """Whatever the order in the row, so that equal states have equal text."""
    subject = Subject({"a": int, "b": int}, a=0, b=0)
    assert subject.codec.encode(subject.revived(b'{"b":2,"a":1}')) == b'{"a":1,"b":2}'


T = TypeVar("T")


class Mixed(enum.Enum):
    ONE = 1
    TWO = "2"


@dataclass
class Box(Generic[T]):
    it: T


@dataclass
class Hidden:
    _secret: int = 0


@dataclass
class WithInit:
    a: InitVar[int]


class Undecorated(Line):
    extra: int = 0


class Plain:
    pass


UNSUPPORTED: list[tuple[Any, str]] = [
    (Plain, "Plain is not supported. Supported are bool, int"),
    (list[Plain], "Plain is not supported"),
    (object, "object is not supported: write Any for plain JSON"),
    (complex, "complex is not supported: store a tuple[float, float]"),
    (bytearray, "bytearray is not supported: write bytes"),
    (Callable[[], int], "is not supported"),
    (T, "generic classes have no one type"),
    (Box[int], "generic classes have no one type"),
    (str | datetime, "not contain more than one str-like type"),
    (list[int] | set[int], "not contain more than one array-like"),
    (Point | Line, "not contain more than one"),
    (Mixed, "Mixed is not supported: the values of an Enum must be all str or all int"),
    (Literal[Color.RED], "a Literal may contain str, int, bool and None"),
    (dict[float, int], "dict[float, ...] is not supported: keys of a dict must be"),
    (dict[bool, int], "dict[bool, ...] is not supported"),
    (dict[time, int], "dict[time, ...] is not supported"),
    (dict[str | int, int], "dict[str | int, ...] is not supported"),
    (dict[Decimal, int], "dict[Decimal, ...] is not supported"),
    (Hidden, "its field '_secret' begins with an underscore, which is never stored"),
    (Undecorated, "decorate it with @dataclass as well"),
    (WithInit, "dataclasses with InitVar fields are not supported"),
    (set[list[int]], "a set cannot contain list[int], which has no hash"),
    (int, "has no default, so it starts as None, which is no int; write it: int | None"),
]


@pytest.mark.parametrize(("hint", "message"), UNSUPPORTED, ids=[str(each[0])[:40] for each in UNSUPPORTED])
def test_types_that_cannot_be_read_back_are_refused_at_definition(hint: Any, message: str) -> None:
    """parity 5: the field is named, and what to write instead."""
    with pytest.raises(Unsupported) as refused:
        StateCodec("Subject", {"fine": int | None, "it": hint}, {})
    assert str(refused.value).startswith("field 'it'")
    assert message in str(refused.value)


def test_a_default_of_another_type_is_refused_at_definition() -> None:
    """With its path, when it is inside."""
    with pytest.raises(
        Unsupported, match=r"field 'it': the default does not fit the annotation: expected int, got str"
    ):
        Subject({"it": int}, it="x")
    with pytest.raises(Unsupported, match=r"field 'it\[1\]': .* expected int, got None"):
        Subject({"it": tuple[int, ...]}, it=(1, None))
    with pytest.raises(Unsupported, match=r"field 'it': .* expected dict\[str, int\], got list"):
        Subject({"it": dict[str, int]}, it=list)


def test_an_int_as_default_of_a_float_is_that_float() -> None:
    """What a fresh object holds is what a reload gives."""
    assert same(Subject({"it": float}, it=0).codec.initial(), {"it": 0.0})


@dataclass
class Picky:
    it: int = 0

    def __post_init__(self) -> None:
        if self.it > 1:
            raise LookupError(f"no {self.it}")


def test_whatever_a_nested_dataclass_raises_makes_the_state_unreadable() -> None:
    """Loading knows one error."""
    with pytest.raises(StateUnreadable, match="Subject: state: no 5"):
        Subject({"it": Picky}, it=Picky).codec.decode(b'{"it":{"it":5}}')


def test_a_class_that_makes_up_names_of_scratch_does_not_fill_the_memory() -> None:
    """Only so many are remembered; the rest are looked at each time."""
    subject, obj = one(int, 1)
    for index in range(3000):
        obj.__dict__[f"_{index}"] = index
        subject.saved(obj)
        del obj.__dict__[f"_{index}"]
    assert len(subject.codec._allowed) <= 1000

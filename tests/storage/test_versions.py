"""The text of classes with a schema version, and what becomes of fields that the code does not declare."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_storage.codec import SCHEMA, StateCodec
from durable_storage.errors import PersistenceFailed, StateUnreadable
from durable_storage.versions import Migrate, VersionedCodec
from tests.storage.codecs import Subject, as_default


class Versioned(Subject):
    """A subject of a schema version: `Versioned(2, migrate, {"count": int}, count=0)`."""

    def __init__(self, version: int, migrate: Migrate | None, fields: dict[str, Any], **defaults: Any) -> None:
        super().__init__(fields, **defaults)
        made = {name: as_default(value) for name, value in defaults.items()}
        self.codec: StateCodec = VersionedCodec("Subject", fields, made, version, migrate)


def never(version: int, data: dict[str, Any]) -> dict[str, Any]:
    """A migrate that must not be called."""
    raise AssertionError(version, data)


def test_the_text_begins_with_the_version_and_comes_back() -> None:
    """Nothing is migrated that the same code wrote."""
    subject = Versioned(2, never, {"count": int}, count=0)
    stored = subject.saved(subject.holding(count=3))
    assert stored == b'{"$schema":2,"count":3}'
    obj = subject.revived(stored)
    assert obj.count == 3
    assert subject.saved(obj) == stored


def test_a_class_without_fields_has_a_version_as_well() -> None:
    """It is the whole of its text."""
    subject = Versioned(3, never, {})
    assert subject.saved(subject.revived(subject.saved(subject.holding()))) == b'{"$schema":3}'


@pytest.mark.parametrize(
    ("stored", "version", "given_data"),
    [
        (b'{"n":1}', 1, {"n": 1}),
        (b'{"$schema":1,"n":1}', 1, {"n": 1}),
        (b'{"n":1,"$schema":2}', 2, {"n": 1}),
        (b'{ "$schema" : 2, "n": 123456789012345678901234567890}', 2, {"n": 123456789012345678901234567890}),
    ],
)
def test_older_data_goes_through_migrate_once(stored: bytes, version: int, given_data: dict[str, Any]) -> None:
    """It is given the version and plain JSON without it, and gives data of the current version."""
    calls = []

    def migrate(version: int, data: dict[str, Any]) -> dict[str, Any]:
        calls.append((version, dict(data)))
        return {"count": 7}

    subject = Versioned(3, migrate, {"count": int, "late": str}, count=0, late="x")
    obj = subject.revived(stored)
    assert calls == [(version, given_data)]
    assert (obj.count, obj.late) == (7, "x")
    assert subject.saved(obj) == b'{"$schema":3,"count":7,"late":"x"}'


def test_migrate_may_return_values_as_the_fields_have_them() -> None:
    """Not only their JSON forms; what the class does not declare is kept, a version in it is not believed."""
    subject = Versioned(
        2, lambda _, data: {**data, "seen": {3, 1}, "old": None, SCHEMA: 9}, {"seen": set[int]}, seen=set
    )
    obj = subject.revived(b'{"seen":[1]}')
    assert obj.seen == {1, 3}
    assert subject.saved(obj) == b'{"$schema":2,"seen":[1,3],"old":null}'


def test_without_migrate_older_data_is_read_as_it_is() -> None:
    """Defaults fill what is new; the version only keeps older code away."""
    subject = Versioned(2, None, {"count": int, "late": str}, count=0, late="x")
    assert subject.saved(subject.revived(b'{"count":4}')) == b'{"$schema":2,"count":4,"late":"x"}'


def test_the_current_version_is_recognized_however_it_is_written() -> None:
    """By hand, say: spaces, and another order."""
    subject = Versioned(2, never, {"count": int}, count=0)
    assert subject.revived(b'{ "count": 4, "$schema": 2, "new": [] }').count == 4


@pytest.mark.parametrize("stored", [b'{"$schema":3,"count":1}', b'{"count":1,"$schema":3}', b'{"$schema":25}'])
def test_a_newer_version_is_refused(stored: bytes) -> None:
    """By the code of any version, that of classes without one included."""
    version = "25" if b"25" in stored else "3"
    for subject, known in ((Versioned(2, never, {"count": int}, count=0), 2), (Subject({"count": int}, count=0), 1)):
        said = f"Subject: the row was written by version {version} of the class, and this code knows version {known}"
        with pytest.raises(StateUnreadable, match=said):
            subject.revived(stored)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (b'{"$schema":"2"}', "state.$schema: expected int, got str"),
        (b'{"$schema":2.5}', "state.$schema: expected int, got float"),
        (b'{"$schema":null}', "state.$schema: expected int, got null"),
        (b'{"$schema":0}', "state.$schema: there is no version 0"),
        (b'{"$schema":-1}', "state.$schema: there is no version -1"),
        (b"[]", "expected object, got array"),
        (b'{"$schema":2,', "input data was truncated"),
        (b'{"$schema":2,"count":"x"}', "state.count: expected int, got str"),
    ],
)
def test_a_text_that_makes_no_sense_is_refused(stored: bytes, said: str) -> None:
    """With the place, as for every class."""
    with pytest.raises(StateUnreadable) as caught:
        Versioned(2, never, {"count": int}, count=0).revived(stored)
    assert said in caught.value.message


def raising(_: int, data: dict[str, Any]) -> dict[str, Any]:
    return {"count": data["gone"]}


@pytest.mark.parametrize(
    ("migrate", "said"),
    [
        (raising, "raised KeyError: 'gone'"),
        (lambda *_: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda *_: sys.exit(1), "raised SystemExit: 1"),
        (lambda *_: None, "returned None; it has to return the dict of the new state"),
        (lambda *_: [1], "returned [1]; it has to return"),
        (lambda *_: {"count": "x"}, "what does not fit the class: Subject: state.count: expected int, got str"),
        (lambda *_: {"count": 1 << 64}, "returned what cannot be stored: Integer exceeds 64-bit range"),
        (lambda *_: {"count": object()}, "returned what cannot be stored: object has no form in JSON"),
    ],
)
def test_a_migrate_that_fails_names_class_version_and_problem(migrate: Any, said: str) -> None:
    """The row cannot be read, and that is all."""
    with pytest.raises(StateUnreadable) as caught:
        Versioned(3, migrate, {"count": int}, count=0).revived(b'{"$schema":2,"count":1}')
    assert caught.value.message.startswith("Subject: migrate(version=2, ...) ")
    assert said in caught.value.message


def test_the_version_cannot_get_lost() -> None:
    """Without it the next reader would migrate the state once more."""
    subject = Versioned(2, never, {"count": int}, count=0)
    obj = subject.holding()
    del obj.__dict__[SCHEMA]
    with pytest.raises(PersistenceFailed, match="schema"):
        subject.saved(obj)


@given(st.integers(2, 2**63 - 1), st.integers(-(2**63), 2**64 - 1))
def test_any_version_and_state_come_back(version: int, count: int) -> None:
    """Up to what a 64-bit integer holds."""
    subject = Versioned(version, never, {"count": int}, count=0)
    stored = subject.saved(subject.holding(count=count))
    assert subject.codec.version_of(stored) == version
    assert subject.revived(stored).count == count


# Fields of dataclasses inside the state.


@dataclasses.dataclass
class Line:
    sku: str
    amount: int = 1


@dataclasses.dataclass(frozen=True)
class Note:
    text: str = ""


@dataclasses.dataclass
class Order:
    lines: list[Line] = dataclasses.field(default_factory=list)
    by_day: dict[int, Note] = dataclasses.field(default_factory=dict)


class Boxed(msgspec.Struct, rename={"line": "L"}):
    line: Line


class Pair(NamedTuple):
    left: Line
    right: int


NESTED = {"order": Order, "boxed": Boxed, "pair": Pair, "either": Note | list[Line]}
NEWER = (
    b'{"order":{"lines":[{"sku":"a","amount":2,"tax":1.50},{"sku":"b","amount":1}],"by_day":{"7":'
    b'{"text":"","by":{}}},"vat":[]},'
    b'"boxed":{"L":{"sku":"c","amount":1,"x":0}},"pair":[{"sku":"d","amount":1,"y":null},2],"either":[{"sku":"e","amount":1,"z":-0.0}],"top":1}'
)


def nested() -> Subject:
    """A class of dataclasses in all sorts of places."""
    line = Line("", 0)
    return Subject(NESTED, order=Order, boxed=lambda: Boxed(line), pair=lambda: Pair(line, 0), either=lambda: Note(""))


def loaded(subject: Subject, stored: bytes) -> Any:
    """As an activation loads it."""
    obj = subject.revived(stored)
    subject.codec.encode_loaded(obj, stored)
    return obj


@pytest.mark.parametrize("stored", [NEWER, NEWER.replace(b',"top":1', b"")])
def test_unknown_fields_of_dataclasses_inside_are_kept_where_they_were(stored: bytes) -> None:
    """parity 55: letter by letter, in lists, dicts, tuples, unions and Structs; known fields change beside them."""
    subject = nested()
    obj = loaded(subject, stored)
    assert subject.saved(obj) == stored
    obj.order.lines[0].amount = 3
    obj.order.lines.reverse()
    changed = subject.saved(obj)
    assert b'"lines":[{"sku":"b","amount":1},{"sku":"a","amount":3,"tax":1.50}]' in changed
    assert subject.saved(loaded(subject, changed)) == changed


def test_text_of_the_same_code_is_looked_at_no_further() -> None:
    """Nothing is put on an object whose text is what was stored."""
    subject = nested()
    obj = loaded(subject, subject.saved(subject.holding()))
    assert set(obj.__dict__) == set(NESTED)
    assert set(obj.order.__dict__) == {"lines", "by_day"}


def test_new_fields_inside_have_their_defaults_and_nothing_is_kept_for_it() -> None:
    """parity 54: an older row lacks fields, which is no reason to write it in another way from then on."""
    subject = nested()
    obj = loaded(subject, b'{"order":{"lines":[{"sku":"a"}]}}')
    assert obj.order.lines == [Line("a", 1)]
    assert set(obj.__dict__) == set(NESTED)


def test_migrated_data_keeps_what_migrate_returned_and_nothing_older() -> None:
    """A field that migrate renamed inside a dataclass does not come back under its old name."""

    def migrate(_: int, data: dict[str, Any]) -> dict[str, Any]:
        return {"lines": [{"sku": each["name"], "extra": 1} for each in data["lines"]]}

    subject = Versioned(2, migrate, {"lines": list[Line]}, lines=list)
    stored = b'{"lines":[{"name":"a"}]}'
    obj = subject.revived(stored)
    expected = b'{"$schema":2,"lines":[{"sku":"a","amount":1,"extra":1}]}'
    assert subject.codec.encode_loaded(obj, stored) == expected
    assert subject.saved(loaded(subject, expected)) == expected


class Typed(TypedDict, total=False):
    known: int


@dataclasses.dataclass(slots=True)
class Slotted:
    known: int = 0


@pytest.mark.parametrize("hint", [Typed, Slotted, set[Note]])
def test_what_has_no_place_for_unknown_fields_drops_them(hint: Any) -> None:
    """A TypedDict, a dataclass with slots, what is in a set: the documented limit."""
    subject = Subject({"it": hint | None, "line": Line | None}, it=None, line=None)
    stored = b'{"it":[{"text":"","new":1}]}' if hint == set[Note] else b'{"it":{"known":1,"new":1}}'
    assert b"new" not in subject.saved(loaded(subject, stored))

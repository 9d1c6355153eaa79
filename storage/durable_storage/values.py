"""Shapes of single values: what a state is made of before there are containers.

A `Shape` is one annotation, compiled. Its `accept` takes a live value and returns the value that a reload would
give, which is nearly always the very same object, or raises `Mismatch`. What is refused here is what orjson would
write but nobody could read back as it was: NaN (it writes null), subclasses (they come back as their base), offsets
with seconds (they are rounded).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any, Final, get_args
from uuid import UUID

Accept = Callable[[Any], Any]
_NONE: Final[frozenset[type]] = frozenset()


class Mismatch(Exception):
    """A value that would not come back as it is. Its path is collected on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def at(self, step: str) -> Mismatch:
        """The same mismatch, seen from one level further out."""
        self.path = step + self.path
        return self


@dataclass(eq=False, slots=True)
class Shape:
    """One annotation, compiled."""

    text: str
    kinds: frozenset[type]
    """The exact types of its values."""
    accept: Accept
    simple: bool = False
    """Whether a value of one of `kinds` needs no further look."""

    @property
    def row(self) -> tuple[frozenset[type], Accept]:
        """The types that need no further look, and what looks at all others."""
        return self.kinds if self.simple else _NONE, self.accept


def mismatch(expected: str, value: Any) -> Mismatch:
    """`expected int, got bool (True)`, with values cut where they get long."""
    if value is None:
        return Mismatch(f"expected {expected}, got None")
    shown = repr(value) if isinstance(value, (bool, int, float, str, bytes, Enum)) else ""
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return Mismatch(f"expected {expected}, got {type(value).__qualname__}" + (f" ({shown})" if shown else ""))


_MODULES: Final = re.compile(r"(?:[\w<>]+\.)+(?=\w)")


def name_of(annotation: Any) -> str:
    """An annotation as its author would write it."""
    if annotation is None or annotation is NoneType:
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    return _MODULES.sub("", str(annotation)).replace("NoneType", "None")


def simple(text: str, *kinds: type) -> Shape:
    """The shape of values whose type says it all."""
    allowed = frozenset(kinds)

    def accept(value: Any) -> Any:
        if type(value) in allowed:
            return value
        raise mismatch(text, value)

    return Shape(text, allowed, accept, simple=True)


def accept_at(step: str, accept: Accept, value: Any) -> Any:
    """Accept a part of a value: a mismatch in it is found at `step`."""
    try:
        return accept(value)
    except Mismatch as problem:
        raise problem.at(step) from None


def accept_each(values: Iterable[Any], accept: Accept) -> list[Any]:
    """Accept the items of a value: a mismatch is found at its index."""
    accepted: list[Any] = []
    try:
        for value in values:
            accepted.append(accept(value))  # noqa: PERF401 - the length is the index of what fails
    except Mismatch as problem:
        raise problem.at(f"[{len(accepted)}]") from None
    return accepted


def accept_items(values: dict[Any, Any], accept: Accept) -> None:
    """Accept the values of a dict, in place: a mismatch is found at its key."""
    key = None
    try:
        for key, value in values.items():
            accepted = accept(value)
            if accepted is not value:
                values[key] = accepted
    except Mismatch as problem:
        raise problem.at(f"[{key!r}]") from None


def accept_finite(value: Any) -> Any:
    """A float that JSON can write."""
    if type(value) is not float:
        raise mismatch("float", value)
    if not isfinite(value):
        raise Mismatch(f"{value} cannot be stored: NaN and infinities have no JSON form")
    return value


def _datetime(value: Any) -> Any:
    """The text of a datetime keeps its UTC offset, not the name of its zone, so memory does not keep that either."""
    if type(value) is not datetime:
        raise mismatch("datetime", value)
    zone = value.tzinfo
    if zone is None or zone is UTC:
        return value
    offset = value.utcoffset()
    if offset is None:
        raise Mismatch(f"the time zone {zone!r} has no UTC offset, so the datetime would come back naive")
    if offset.seconds % 60 or offset.microseconds:
        raise Mismatch(f"a UTC offset of {offset} is not whole minutes; convert it with .astimezone(UTC)")
    if type(zone) is timezone and not value.fold:
        return value
    return value.replace(tzinfo=timezone(offset), fold=0)


def _time(value: Any) -> Any:
    if type(value) is not time:
        raise mismatch("time", value)
    if value.tzinfo is not None:
        raise Mismatch("a time with a time zone cannot be stored; store a datetime, or a naive time")
    return value


def _decimal(value: Any) -> Any:
    if type(value) is not Decimal:
        raise mismatch("Decimal", value)
    if not value.is_finite():
        raise Mismatch(f"Decimal({str(value)!r}) cannot be stored: only finite numbers can")
    return value


_PLAIN_LEAVES: Final[frozenset[type]] = frozenset((str, int, bool, NoneType))
_PLAIN_TEXT: Final = "plain JSON (str, int, float, bool, None, list, dict with str keys)"


def _plain(value: Any) -> Any:
    """Without an annotation there is nothing that could restore a type."""
    kind = type(value)
    if kind in _PLAIN_LEAVES:
        return value
    if kind is float:
        return accept_finite(value)
    if kind is list:
        if not set(map(type, value)) <= _PLAIN_LEAVES:
            accept_each(value, _plain)
        return value
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise mismatch("str as key of plain JSON", key).at(f"[{key!r}]")
        if not set(map(type, value.values())) <= _PLAIN_LEAVES:
            accept_items(value, _plain)
        return value
    raise mismatch(_PLAIN_TEXT, value)


ANYTHING: Final = Shape(_PLAIN_TEXT, _PLAIN_LEAVES | {float, list, dict}, _plain)
"""The shape of Any."""

LEAVES: Final[dict[Any, Shape]] = {
    kind: simple(kind.__name__, kind) for kind in (bool, int, str, bytes, UUID, date, timedelta)
} | {
    None: simple("None", NoneType),
    NoneType: simple("None", NoneType),
    datetime: Shape("datetime", frozenset((datetime,)), _datetime),
    time: Shape("time", frozenset((time,)), _time),
    Decimal: Shape("Decimal", frozenset((Decimal,)), _decimal),
    Any: ANYTHING,
}
"""The shapes of annotations that contain no others; float is missing, since an int may stand in its place."""

"""What the codec's tests share: classes made of annotations, and equality that includes types."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from math import copysign
from typing import Any

import msgspec

from durable_storage.codec import Default, StateCodec


class Subject:
    """A class with a codec, made at run time: `Subject({"count": int}, count=3)`."""

    def __init__(self, fields: dict[str, Any], **defaults: Any) -> None:
        self.codec = StateCodec("Subject", fields, {name: as_default(value) for name, value in defaults.items()})
        self.cls = dataclasses.make_dataclass(
            "Subject", [(name, hint, dataclasses.field(default=None)) for name, hint in fields.items()], eq=False
        )

    def holding(self, **values: Any) -> Any:
        """An instance with these attributes, as it would be live."""
        obj = object.__new__(self.cls)
        obj.__dict__.update(self.codec.initial() | values)
        return obj

    def revived(self, data: bytes) -> Any:
        obj = object.__new__(self.cls)
        obj.__dict__.update(self.codec.decode(data))
        return obj

    def saved(self, obj: Any) -> bytes:
        """What a turn would store."""
        return self.codec.verify(obj, self.codec.encode(obj))


def as_default(value: Any) -> Default:
    return Default(factory=value) if callable(value) else Default(value)


def one(hint: Any, value: Any) -> tuple[Subject, Any]:
    """A subject whose only field `it` holds `value`."""
    subject = Subject({"it": hint}, it=lambda: value)
    return subject, subject.holding(it=value)


def same(a: Any, b: Any) -> bool:  # noqa: PLR0911 - a case a kind
    """Equal, and of equal types all the way down; datetimes at equal offsets, zeros of equal sign."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b and copysign(1, a) == copysign(1, b)
    if isinstance(a, datetime):
        return a == b and a.utcoffset() == b.utcoffset() and type(a.tzinfo) is type(b.tzinfo)
    if isinstance(a, dict):
        return _all_same(list(a), list(b)) and _all_same(list(a.values()), list(b.values()))
    if isinstance(a, (set, frozenset)):
        return a == b and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, (list, tuple)):
        return _all_same(a, b)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, each.name), getattr(b, each.name)) for each in dataclasses.fields(a))
    if isinstance(a, msgspec.Struct):
        return _all_same(msgspec.structs.astuple(a), msgspec.structs.astuple(b))
    return bool(a == b)


def _all_same(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))

"""Shapes of everything else: every supported annotation is compiled to a check that its values come back as they were.

msgspec decides what can be read; this module adds what it is lenient about. Two things are replaced rather than
refused, so that memory and store agree: an int in the place of a float becomes that float (PEP 484 lets type checkers
pass it), and a datetime of a named time zone gets the zone's UTC offset.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from durable_storage.unknown import EXTRA
from durable_storage.values import (
    ANYTHING,
    LEAVES,
    Accept,
    Mismatch,
    Shape,
    accept_at,
    accept_each,
    accept_finite,
    accept_items,
    mismatch,
    name_of,
    simple,
)

SUPPORTED = (
    "bool, int, float, str, None, datetime, date, time, timedelta, UUID, Decimal, bytes, Enum, Literal, list, "
    "tuple, set, frozenset, dict (keys: str, int, UUID, Enum, date or datetime), TypedDict, NamedTuple, "
    "dataclasses, msgspec.Struct, unions of those, and Any for plain JSON"
)


class Unsupported(TypeError):
    """An annotation whose values could not be read back exactly."""


_NOT_NATIVE = frozenset((bytes, timedelta, Decimal, time))
"""Leaves that orjson hands to its `default` hook."""
_KEYS = (str, int, UUID, date, datetime)
_ADVICE: dict[Any, str] = {
    object: "write Any for plain JSON",
    bytearray: "write bytes",
    complex: "store a tuple[float, float]",
}


class Shapes:
    """Compiles the annotations of one class and remembers what its encoder must be able to do."""

    def __init__(self) -> None:
        self.needs_hook = False
        """Whether orjson needs a `default` function."""
        self.has_time = False
        """Whether there are values of type time, which orjson writes wrongly."""
        self.needs_keys = False
        """Whether some dict has keys other than str."""
        self.has_dataclass = False
        """Whether there are dataclasses inside the state."""
        self.converted = False
        """Set whenever an int was accepted in the place of a float: the text has the int still."""
        self._builders: dict[Any, Callable[[Any], Shape]] = {
            typing.Annotated: self._annotated,
            Union: self._union,
            types.UnionType: self._union,
            Literal: self._literal,
            typing.Required: self._qualified,
            typing.NotRequired: self._qualified,
            getattr(typing, "ReadOnly", None): self._qualified,
            list: self._sequence,
            set: self._sequence,
            frozenset: self._sequence,
            tuple: self._tuple,
            dict: self._dict,
        }
        self._known: dict[Any, Shape] = {float: Shape("float", frozenset((float,)), self._float)}

    def of(self, annotation: Any) -> Shape:
        """The shape of an annotation. Raises Unsupported, saying what to write instead."""
        try:
            known = LEAVES.get(annotation) or self._known.get(annotation)
        except TypeError:  # unhashable metadata in an Annotated
            known = None
        if known is not None:
            self.needs_hook |= not known.kinds.isdisjoint(_NOT_NATIVE)
            self.has_time |= time in known.kinds
            return known
        shape = self._compile(annotation)
        try:
            self._known[annotation] = shape
        except TypeError:
            pass
        return shape

    def _compile(self, annotation: Any) -> Shape:
        if isinstance(annotation, typing.NewType) or type(annotation).__name__ == "TypeAliasType":
            return self.of(getattr(annotation, "__supertype__", None) or annotation.__value__)
        origin = get_origin(annotation) or annotation
        if origin in self._builders:
            return self._builders[origin](annotation)
        if isinstance(origin, type) and origin is annotation:
            return self._class(annotation)
        raise self.unsupported(annotation)

    def _qualified(self, annotation: Any) -> Shape:
        """Required[T], NotRequired[T] and ReadOnly[T] of a TypedDict."""
        return self.of(get_args(annotation)[0])

    def unsupported(self, annotation: Any, why: str = "") -> Unsupported:
        """Says which type, what to do about it, and what is supported."""
        advice = why or _ADVICE.get(annotation if isinstance(annotation, type) else None, "")
        if isinstance(annotation, TypeVar) or is_dataclass(get_origin(annotation)):
            advice = "generic classes have no one type to read back; write a class per type"
        said = f"{name_of(annotation)} is not supported" + (f": {advice}" if advice else "")
        return Unsupported(f"{said}. Supported are {SUPPORTED}")

    def _class(self, cls: type) -> Shape:
        if issubclass(cls, Enum):
            return self._enum(cls)
        if typing.is_typeddict(cls):
            return self._typed_dict(cls)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._named_tuple(cls)
        if issubclass(cls, msgspec.Struct):
            return self._struct(cls)
        if is_dataclass(cls):
            return self._dataclass(cls)
        raise self.unsupported(cls)

    def _float(self, value: Any) -> Any:
        if type(value) is not int:
            return accept_finite(value)
        try:
            converted = float(value)
        except OverflowError:
            converted = float("nan")
        if converted != value:
            raise Mismatch(f"expected float, got an int that no float equals ({value!r:.60})")
        self.converted = True
        return converted

    def _annotated(self, annotation: Any) -> Shape:
        """Constraints of `Annotated[int, msgspec.Meta(ge=0)]` hold when saving as they do when loading."""
        inner, *metadata = get_args(annotation)
        base = self.of(inner)
        if not any(isinstance(each, msgspec.Meta) for each in metadata):
            return base
        container = get_origin(inner) or inner
        rule: Any = typing.Annotated[(container, *metadata)]

        def accept(value: Any) -> Any:
            accepted = base.accept(value)
            try:
                msgspec.convert(accepted, rule)
            except msgspec.ValidationError as error:
                reason = str(error).replace("`", "")
                raise Mismatch(reason[:1].lower() + reason[1:]) from None
            return accepted

        return Shape(base.text, base.kinds, accept)

    def _enum(self, cls: type[Enum]) -> Shape:
        values = {type(member.value) for member in cls}
        if not (values <= {str} or values <= {int}) or not values:
            raise self.unsupported(cls, "the values of an Enum must be all str or all int")
        return simple(name_of(cls), cls)

    def _literal(self, annotation: Any) -> Shape:
        allowed = {(type(value), value) for value in get_args(annotation)}
        kinds = frozenset(kind for kind, _ in allowed)
        if not kinds <= {str, int, bool, types.NoneType}:
            raise self.unsupported(annotation, "a Literal may contain str, int, bool and None")
        text = name_of(annotation)

        def accept(value: Any) -> Any:
            if type(value) in kinds and (type(value), value) in allowed:
                return value
            raise mismatch(text, value)

        return Shape(text, kinds, accept)

    def _union(self, annotation: Any) -> Shape:
        members = [self.of(each) for each in get_args(annotation)]
        if ANYTHING in members:
            return ANYTHING
        text = " | ".join(member.text for member in members)
        by_kind: dict[type, Accept | None] = {}
        for member in members:
            for kind in member.kinds:
                accept_kind = None if member.simple else member.accept
                by_kind[kind] = _either(by_kind[kind], accept_kind) if kind in by_kind else accept_kind
        kinds = frozenset(by_kind)
        if float in by_kind:
            by_kind.setdefault(int, by_kind[float])

        def accept(value: Any) -> Any:
            try:
                accept_kind = by_kind[type(value)]
            except KeyError:
                raise mismatch(text, value) from None
            return value if accept_kind is None else accept_kind(value)

        return Shape(text, kinds, accept, simple=all(member.simple for member in members))

    def _sequence(self, annotation: Any) -> Shape:
        """list, set, frozenset and tuple[T, ...]: any number of items of one type."""
        kind = get_origin(annotation) or annotation
        if kind in (set, frozenset):
            self.needs_hook = True
        item = self.of((*get_args(annotation), Any)[0])
        if kind in (set, frozenset) and item is not ANYTHING and any(each.__hash__ is None for each in item.kinds):
            raise self.unsupported(annotation, f"a set cannot contain {item.text}, which has no hash")
        text = name_of(annotation)
        rebuild = _REBUILD[kind]

        def accept(value: Any) -> Any:
            if type(value) is not kind:
                raise mismatch(text, value)
            if item.simple and set(map(type, value)) <= item.kinds:
                return value
            accepted = accept_each(value, item.accept)
            return rebuild(value, accepted) if _changed(accepted, value) else value

        return Shape(text, frozenset((kind,)), accept)

    def _tuple(self, annotation: Any) -> Shape:
        arguments = get_args(annotation)
        if not arguments and annotation is not tuple and annotation is not typing.Tuple:  # noqa: UP006
            arguments = ()  # tuple[()]
        elif not arguments or arguments[-1] is Ellipsis:
            return self._sequence(annotation)
        return self._record(tuple, name_of(annotation), [(f"[{i}]", self.of(a)) for i, a in enumerate(arguments)])

    def _named_tuple(self, cls: type) -> Shape:
        self.needs_hook = True
        hints = get_type_hints(cls, include_extras=True)
        names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
        return self._record(cls, name_of(cls), [(f".{name}", self.of(hints.get(name, Any))) for name in names])

    @staticmethod
    def _record(kind: Any, text: str, items: list[tuple[str, Shape]]) -> Shape:
        make: Callable[[list[Any]], Any] = getattr(kind, "_make", kind)

        def accept(value: Any) -> Any:
            if type(value) is not kind:
                raise mismatch(text, value)
            if len(value) != len(items):
                raise Mismatch(f"expected {text}, got {len(value)} items")
            accepted = [accept_at(step, shape.accept, each) for (step, shape), each in zip(items, value, strict=True)]
            return make(accepted) if _changed(accepted, value) else value

        return Shape(text, frozenset((kind,)), accept)

    def _dict(self, annotation: Any) -> Shape:
        keys, values = get_args(annotation) or (str, Any)
        key, item = self._key(keys), self.of(values)
        text = name_of(annotation)

        def accept(value: Any) -> Any:
            if type(value) is not dict:
                raise mismatch(text, value)
            if not (key.simple and set(map(type, value)) <= key.kinds):
                for each in value:
                    accept_at(f"[{each!r}]", key.accept, each)
            if not (item.simple and set(map(type, value.values())) <= item.kinds):
                accept_items(value, item.accept)
            return value

        return Shape(text, frozenset((dict,)), accept)

    def _key(self, annotation: Any) -> Shape:
        if annotation is Any:
            return LEAVES[str]
        shape = self.of(annotation)
        kind = next(iter(shape.kinds))
        if len(shape.kinds) != 1 or not (kind in _KEYS or issubclass(kind, Enum)):
            wrong = "keys of a dict must be str, int, UUID, Enum, date or datetime"
            raise Unsupported(f"dict[{name_of(annotation)}, ...] is not supported: {wrong}")
        self.needs_keys |= kind is not str
        return shape

    def _typed_dict(self, cls: Any) -> Shape:
        hints = get_type_hints(cls, include_extras=True)
        shapes = {name: self.of(hint) for name, hint in hints.items()}
        required = sorted(cls.__required_keys__)
        text = name_of(cls)

        def accept(value: Any) -> Any:
            if type(value) is not dict:
                raise mismatch(text, value)
            for name in required:
                if name not in value:
                    raise Mismatch(f"key {name!r} of {text} is missing")
            for name, each in value.items():
                if name not in shapes:
                    raise Mismatch(f"{text} has no key {name!r}")
                accepted = accept_at(f"[{name!r}]", shapes[name].accept, each)
                if accepted is not each:
                    value[name] = accepted
            return value

        return Shape(text, frozenset((dict,)), accept)

    def _dataclass(self, cls: type) -> Shape:
        if "__dataclass_fields__" not in cls.__dict__:
            raise self.unsupported(cls, "decorate it with @dataclass as well, not only its base class")
        names = [each.name for each in fields(cls)]
        hidden = [name for name in names if name.startswith("_")]
        if hidden:
            raise self.unsupported(cls, f"its field {hidden[0]!r} begins with an underscore, which is never stored")
        self.has_dataclass = True
        return self._attributes(cls, names, object.__setattr__)

    def _struct(self, cls: type[msgspec.Struct]) -> Shape:
        self.needs_hook = True
        return self._attributes(cls, list(cls.__struct_fields__), msgspec.structs.force_setattr)

    def _attributes(self, cls: type, names: list[str], assign: Callable[[Any, str, Any], None]) -> Shape:
        text = name_of(cls)
        declared = frozenset(names)
        rows: list[tuple[str, frozenset[type], Accept]] = []

        def accept(value: Any) -> Any:
            if type(value) is not cls:
                raise mismatch(text, value)
            name = ""
            try:
                for name, kinds, accept_field in rows:
                    each = getattr(value, name)
                    if type(each) not in kinds:
                        accepted = accept_field(each)
                        if accepted is not each:
                            assign(value, name, accepted)
            except Mismatch as problem:
                raise problem.at(f".{name}") from None
            except AttributeError:
                raise Mismatch("the attribute was deleted").at(f".{name}") from None
            if not declared.issuperset(getattr(value, "__dict__", ())):
                for name in value.__dict__.keys() - declared - {EXTRA}:
                    raise Mismatch(f"{text} declares no field of this name").at(f".{name}")
            return value

        shape = Shape(text, frozenset((cls,)), accept)
        self._known[cls] = shape  # before its fields, so that a class may contain itself
        try:
            hints = get_type_hints(cls, include_extras=True)
        except NameError as error:
            raise self.unsupported(cls, f"{error}; define it at module level, above the class") from None
        rows += [(name, *self.of(hints[name]).row) for name in names]
        return shape


def _changed(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return any(a is not b for a, b in zip(new, old, strict=True))


def _either(first: Accept | None, second: Accept | None) -> Accept | None:
    """Of two members of a union whose values have one type, such as `Literal["a"] | str`."""
    if first is None or second is None:
        return None

    def accept(value: Any) -> Any:
        try:
            return first(value)
        except Mismatch:
            return second(value)

    return accept


def _refill(old: Any, new: list[Any]) -> Any:
    """The same container with other items: whoever holds it sees what was stored."""
    old.clear()
    (old.extend if type(old) is list else old.update)(new)
    return old


_REBUILD: dict[Any, Callable[[Any, list[Any]], Any]] = {
    list: _refill,
    set: _refill,
    tuple: lambda _, new: tuple(new),
    frozenset: lambda _, new: frozenset(new),
}

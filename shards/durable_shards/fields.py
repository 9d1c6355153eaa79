"""The state of a class, read from its annotations: fields that are stored, and scratch that is not.

Everything that could only fail later (a type that cannot be read back, a shared mutable default, a name that the
engine uses itself) fails here, while the class is being defined, and says what to write instead.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, get_args, get_origin, overload

import msgspec

from durable_shards.errors import DefinitionError
from durable_storage.codec import Default, StateCodec
from durable_storage.shapes import Unsupported
from durable_storage.values import name_of
from durable_storage.versions import Migrate, VersionedCodec

RESERVED = (
    "id", "now", "alarms", "engine", "state", "after_load", "on_sleep", "handle_alarm", "schema_version", "migrate",
)  # fmt: skip
"""Names that mean something on every object, so no field or handler can have them."""
MIGRATE = "@classmethod def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]"
_OF_THE_CLASS = {
    "schema_version": "the version belongs to the class, not to its state; write schema_version = 2 without "
    "annotation, or class {}(DurableObject, schema_version=2)",
    "migrate": f"this name is for the method that brings older rows up to date; for that, write {MIGRATE}",
}

T = TypeVar("T")


@overload
def field(*, default: T, repr: bool = ..., metadata: Mapping[Any, Any] | None = ...) -> T: ...
@overload
def field(
    *, default_factory: type[list[Any]], repr: bool = ..., metadata: Mapping[Any, Any] | None = ...
) -> list[Any]: ...
@overload
def field(
    *, default_factory: type[dict[Any, Any]], repr: bool = ..., metadata: Mapping[Any, Any] | None = ...
) -> dict[Any, Any]: ...
@overload
def field(
    *, default_factory: type[set[Any]], repr: bool = ..., metadata: Mapping[Any, Any] | None = ...
) -> set[Any]: ...
@overload
def field(*, default_factory: Callable[[], T], repr: bool = ..., metadata: Mapping[Any, Any] | None = ...) -> T: ...
def field(**options: Any) -> Any:
    """A field whose default is made afresh for each object: `items: list[str] = field(default_factory=list)`.

    It is the standard library's; the types of this one spare pyright's strict users `list[str]` in place of `list`.
    """
    return dataclasses.field(**options)


class Scope(NamedTuple):
    """Where a class statement stands: what its annotations can see, and what tells two statements apart."""

    globals: dict[str, Any]
    locals: Mapping[str, Any]
    code: object
    line: int

    @classmethod
    def of(cls, owner: type, frame: FrameType | None) -> Scope:
        """The scope of the first frame, from `frame` outwards, that may hold the class statement of `owner`."""
        while frame is not None and frame.f_globals.get("__name__") != owner.__module__:
            frame = frame.f_back
        if frame is None:  # made by types.new_class or the like
            module = sys.modules.get(owner.__module__)
            return cls(vars(module) if module else {}, {}, None, 0)
        seen = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
        return cls(frame.f_globals, seen, frame.f_code, frame.f_lineno)

    def resolve(self, owner: type, annotation: Any, known: dict[str, Any] | None = None) -> Any:
        """The type that an annotation means, evaluating text (`from __future__ import annotations`).

        Names are looked up in the class's own nested classes, in the locals of the function that defines it, and
        in `known`, by default the globals of its module. Raises NameError, TypeError, SyntaxError.
        """
        nested = {name: value for name, value in vars(owner).items() if isinstance(value, type)}
        seen = {**self.locals, **nested, owner.__name__: owner}
        holder = type("Holder", (), {"__annotations__": {"it": annotation}, "__module__": owner.__module__})
        return typing.get_type_hints(holder, known or self.globals, seen, include_extras=True)["it"]


class FieldSpec(NamedTuple):
    """One stored attribute."""

    name: str
    hint: Any
    default: Default | None
    """None when the class states none: it starts as None then."""

    def __str__(self) -> str:
        if self.default is None:
            return f"{self.name}: {name_of(self.hint)}"
        if self.default.factory is None:
            return f"{self.name}: {name_of(self.hint)} = {self.default.value!r}"
        factory = getattr(self.default.factory, "__name__", "...")
        return f"{self.name}: {name_of(self.hint)} = field(default_factory={factory})"


class Fields(NamedTuple):
    """What the annotations of a class and its bases declare."""

    stored: dict[str, FieldSpec]
    scratch: dict[str, Default]
    """Attributes that begin with an underscore, those of them that have a default."""


def collect(cls: type, inherited: list[Fields], scope: Scope) -> Fields:
    """The fields of a class over those of its bases, most basic first. Raises DefinitionError."""
    stored: dict[str, FieldSpec] = {}
    scratch: dict[str, Default] = {}
    for base in inherited:
        stored |= base.stored
        scratch |= base.scratch
    annotations = inspect.get_annotations(cls)
    _check_unannotated(cls, annotations, stored)
    for name, annotation in annotations.items():
        if name.startswith("_"):
            _check_scratch(cls, name)
            if "ClassVar" not in str(annotation) and (default := _default(cls, name, annotation)) is not None:
                scratch[name] = default
            continue
        hint = _resolved(cls, name, annotation, scope)
        if get_origin(hint) is ClassVar or hint is ClassVar:
            continue
        default = _default(cls, name, hint)
        _check_field(cls, name, hint, default)
        stored[name] = FieldSpec(name, hint, default)
    return Fields(stored, scratch)


def fields_of_dataclass(base: type) -> Fields:
    """The fields that a plain dataclass, mixed in, contributes."""
    hints = typing.get_type_hints(base, include_extras=True)
    stored = {
        each.name: FieldSpec(each.name, hints[each.name], _stated(each))
        for each in dataclasses.fields(base)
        if not each.name.startswith("_")
    }
    return Fields(stored, {})


def compile_codec(
    cls: type, name: str, fields: Mapping[str, FieldSpec], version: int, migrate: Migrate | None
) -> StateCodec:
    """The codec of a class; its types and defaults are checked with it. Raises DefinitionError."""
    hints = {each.name: each.hint for each in fields.values()}
    defaults = {each.name: each.default for each in fields.values()}
    try:
        if version == 1:
            return StateCodec(name, hints, defaults)
        return VersionedCodec(name, hints, defaults, version, migrate)
    except Unsupported as error:
        raise DefinitionError(f"{cls.__name__}: {error}") from None


def mentions_object(hint: Any) -> bool:
    """Whether an annotation contains a class of durable objects, which have ids, but are no values."""
    return hasattr(hint, "_durable_object") or any(mentions_object(each) for each in get_args(hint))


def _resolved(cls: type, name: str, annotation: Any, scope: Scope) -> Any:
    where = f"{cls.__name__}.{name}: the annotation {annotation!r} cannot be read"
    try:
        return scope.resolve(cls, annotation)
    except NameError as error:
        advice = "define or import it above the class, outside of `if TYPE_CHECKING`"
        raise DefinitionError(f"{where}: {error}; {advice}") from None
    except (TypeError, SyntaxError, AttributeError) as error:
        raise DefinitionError(f"{where}: {error}") from None


def _stated(declared: dataclasses.Field[Any]) -> Default | None:
    if declared.default_factory is not dataclasses.MISSING:
        return Default(factory=declared.default_factory)
    return None if declared.default is dataclasses.MISSING else Default(declared.default)


def _default(cls: type, name: str, hint: Any) -> Default | None:
    value = vars(cls).get(name, dataclasses.MISSING)
    default = _stated(value if isinstance(value, dataclasses.Field) else dataclasses.field(default=value))
    if default is None or default.factory is not None or not _is_mutable(default.value):
        return default
    factory = f"lambda: {default.value!r}" if default.value else type(default.value).__name__
    right = f"{name}: {name_of(hint)} = field(default_factory={factory})"
    raise DefinitionError(f"{cls.__name__}.{name}: all objects would share this mutable default; write {right}")


def _is_mutable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return True
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.frozen
    params = getattr(type(value), "__dataclass_params__", None)
    return params is not None and not params.frozen


def _check_field(cls: type, name: str, hint: Any, default: Default | None) -> None:
    where = f"{cls.__name__}.{name}"
    check_name(cls, "field", name)
    if default is not None and _is_method(default.value):
        raise DefinitionError(f"{where} is a field and a method as well; rename one of them")
    if any(_is_method(vars(base).get(name)) for base in cls.__mro__[1:]):
        raise DefinitionError(f"{where}: a base class has a method of this name; rename the field")
    if mentions_object(hint):
        said = "another object is no part of the state; store its id"
        raise DefinitionError(f"{where}: {said} (str), and call it with self.engine.at(...)")
    if get_origin(hint) is Final or hint is Final:
        raise DefinitionError(f"{where}: a constant is no state; write {name}: ClassVar[...] = ...")
    if isinstance(hint, dataclasses.InitVar):
        raise DefinitionError(f"{where}: objects are not constructed when they are loaded; use after_load")


def _check_scratch(cls: type, name: str) -> None:
    if name.startswith("_durable"):
        raise DefinitionError(f"{cls.__name__}.{name}: names that begin with _durable are the engine's; rename it")


def _is_method(value: Any) -> bool:
    """Functions, properties, handlers and alarms, but no type used as a value."""
    return hasattr(value, "__get__") and not isinstance(value, type)


def check_name(cls: type, what: str, name: str) -> None:
    """Refuse names that have a meaning already."""
    if name in _OF_THE_CLASS:
        advice = _OF_THE_CLASS[name].format(cls.__name__)
        raise DefinitionError(f"{cls.__name__}.{name}: {advice}; or give the {what} another name")
    if name in RESERVED:
        meaning = f"self.{name} has a meaning of its own in every DurableObject"
        raise DefinitionError(f"{cls.__name__}.{name}: {meaning}; give the {what} another name")


def _check_unannotated(cls: type, annotations: Mapping[str, Any], inherited: Mapping[str, FieldSpec]) -> None:
    """Attributes without annotation are constants of the class; refuse those that were meant as state."""
    for name, value in vars(cls).items():
        if name in annotations or name.startswith("_"):
            continue
        where = f"{cls.__name__}.{name}"
        if name in inherited:
            if _is_method(value):
                raise DefinitionError(f"{where}: a base class has a field of this name; rename the method")
            right = f"{name}: {name_of(inherited[name].hint)} = {value!r}"
            raise DefinitionError(f"{where}: to give an inherited field another default, write {right}")
        if isinstance(value, dataclasses.Field):
            raise DefinitionError(f"{where}: a field needs its type; write {name}: <type> = field(...)")
        if isinstance(value, (list, dict, set, bytearray)):
            kind = type(value).__name__
            right = f"{name}: {kind}[...] = field(default_factory={kind})"
            advice = f"write {right}, or {name}: ClassVar[...] = ... for a constant"
            raise DefinitionError(f"{where} has no annotation, so all objects would share it; {advice}")

"""`DurableObject`: what users derive their classes from."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, TypeVar, cast, dataclass_transform, overload

from durable_shards.alarms import AlarmBook, ObjectAlarms
from durable_shards.errors import DefinitionError, EngineClosed
from durable_shards.fields import Scope, field
from durable_shards.spec import SPEC, ClassSpec, claim_name, compile_class, spec_of

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import timedelta

    from durable_shards.handler import Handler

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound="DurableObject")

CONTEXT = "_durable"
"""Attribute of an instance that the engine serves: its Context. Absent in unit tests."""


class Caller(Protocol):
    """`self.engine`: calls to other objects, as of any caller, that leave through this object's output gate."""

    def at(
        self, cls: type[T], object_id: str, *, prefix: str | None = None, timeout: float | timedelta | None = None
    ) -> T:
        """A typed reference: `await self.engine.at(Cart, "7").add(sku)`."""

    @overload
    def call(self, handler: Handler[P, R], object_id: str, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]: ...
    @overload
    def call(
        self, handler: Handler[..., R], object_id: str, /, *args: Any, timeout: float | timedelta, **options: Any
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self, handler: Handler[..., R], object_id: str, /, *args: Any, prefix: str, **options: Any
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self, handler: Handler[..., R], object_id: str, /, *args: Any, idempotency_key: str, **options: Any
    ) -> Awaitable[R]: ...
    def call(self, handler: Handler[..., Any], object_id: str, /, *args: Any, **options: Any) -> Awaitable[Any]:
        """The same by handler; `prefix`, `timeout` and `idempotency_key` are options."""

    def call_by_name(
        self, object_type: str, object_id: str, handler: str, args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None, **options: Any,
    ) -> Awaitable[Any]:  # fmt: skip
        """The same by strings; the result is plain values."""

    def send(self, handler: Handler[..., Any], object_id: str, *args: Any, **kwargs: Any) -> None:
        """A call one way, which leaves when this turn is durable, and never if it is undone."""


class Context(Protocol):
    """What a live instance asks of the engine."""

    @property
    def object_id(self) -> str:
        """The id of the address."""

    @property
    def alarms(self) -> ObjectAlarms:
        """The alarms, as the running turn sees them."""

    @property
    def engine(self) -> Caller:
        """Calls other objects."""

    def now(self) -> datetime:
        """The engine's clock."""


class _DataclassRefused:
    """Where the standard library's `@dataclass` looks for inherited fields, it finds out that it is not wanted.

    The class is a dataclass by then (orjson and users rely on it); a second pass would replace its constructor and
    comparison, and take fields with a default_factory for fields without a default.
    """

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        frame = sys._getframe(1)  # noqa: SLF001 - there is no other way to the caller
        if frame.f_code.co_name == "_process_class" and frame.f_code.co_filename == dataclasses.__file__:
            cls = frame.f_locals.get("cls")
            if isinstance(cls, type) and SPEC in vars(cls):
                said = f"{cls.__name__} is decorated with @dataclass, but a DurableObject is a dataclass already"
                raise DefinitionError(f"{said}; remove the decorator")
        raise AttributeError("__dataclass_fields__")


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, dataclasses.field))
class DurableObject:
    """A persistent object: one instance per (class, id), whose state survives crashes.

        class Counter(DurableObject, hibernate_after=timedelta(minutes=5)):
            count: int = 0

            @handler
            def increment(self, amount: int = 1) -> int:
                self.count += amount
                return self.count

    Annotated attributes are the state; those that begin with an underscore are scratch of one activation. Class
    keywords are `name`, `hibernate_after`, `shutdown_after`, `call_timeout` (timedelta), `reentrant`, `mailbox`,
    `create_on_touch` and `schema_version`. An optional method `after_load(self)`, sync or async, runs whenever a live
    instance is made, and `on_sleep(self)`, sync, before one leaves memory. A class whose `schema_version` is more than
    1 may have a classmethod `migrate(cls, version, data)` that brings older rows up to date. Declarations that cannot
    work raise DefinitionError.

    Without an engine a class is a plain dataclass whose handlers are awaited: `await Counter(count=3).increment(2)`.
    There `id` is None, `now()` the system's clock, and `alarms` only remembers.
    """

    _durable_object: ClassVar[bool] = True

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            name: str | None = None,
            hibernate_after: timedelta | None = ...,
            shutdown_after: timedelta | None = ...,
            call_timeout: timedelta = ...,
            reentrant: bool = ...,
            mailbox: int = ...,
            schema_version: int = ...,
            create_on_touch: bool = ...,
        ) -> None: ...

    else:
        __dataclass_fields__ = _DataclassRefused()

        def __init_subclass__(cls, **options: Any) -> None:
            super().__init_subclass__()
            scope = Scope.of(cls, sys._getframe(1))  # noqa: SLF001 - annotations may name its locals
            spec = compile_class(cls, options, scope)
            _make_dataclass(cls, spec)
            claim_name(spec)
            setattr(cls, SPEC, spec)

    def __post_init__(self) -> None:
        for name, default in spec_of(type(self)).scratch.items():
            self.__dict__[name] = default.make()

    @property
    def id(self) -> str:
        """The object's id, a part of its address: read-only and never stored."""
        context = self._durable_context()
        return cast("str", None) if context is None else context.object_id

    def now(self) -> datetime:
        """The time by the engine's clock, aware, in UTC."""
        context = self._durable_context()
        return datetime.now(UTC) if context is None else context.now()

    @property
    def alarms(self) -> ObjectAlarms:
        """The object's alarms: `self.alarms.schedule(Class.method, after=timedelta(minutes=1))`."""
        context = self._durable_context()
        if context is not None:
            return context.alarms
        attributes = self.__dict__
        if "_durable_alarms" not in attributes:
            attributes["_durable_alarms"] = AlarmBook({}, self.now, spec_of(type(self)))
        return cast("ObjectAlarms", attributes["_durable_alarms"])

    @property
    def engine(self) -> Caller:
        """The way to other objects: `await self.engine.at(Other, "id").do()`. Raises EngineClosed without an engine."""
        context = self._durable_context()
        if context is None:
            said = f"this {type(self).__name__} was made without an engine, so it cannot call other objects"
            raise EngineClosed(
                f"{said}; test such handlers with an engine: pytest's fixture `durable`, or `durable_engine.testing`"
            )
        return context.engine

    def _durable_context(self) -> Context | None:
        return cast("Context | None", self.__dict__.get(CONTEXT))


def _make_dataclass(cls: type[DurableObject], spec: ClassSpec) -> None:
    """Give the class its constructor, and orjson its mark. Defaults are those of the codec: what a reload gives."""
    annotations = inspect.get_annotations(cls)
    for name in annotations:
        declared = vars(cls).get(name)
        default = spec.codec.defaults.get(name) or spec.scratch.get(name)
        if default is not None and default.factory is None:
            if name in spec.fields and isinstance(declared, dataclasses.Field):
                declared.default = default.value
            else:
                setattr(cls, name, default.value)
        elif isinstance(declared, dataclasses.Field) and name not in spec.fields:
            delattr(cls, name)
    doc = cls.__doc__
    cls.__annotations__ = {name: hint for name, hint in annotations.items() if not name.startswith("_")}
    try:
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{cls.__name__}: {error}") from None
    cls.__annotations__ = annotations
    cls.__doc__ = doc

"""A class of objects, compiled once when it is defined: fields, handlers, alarms, options and codec."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from weakref import WeakValueDictionary

from msgspec import json

from durable_shards.alarms import Alarm, AlarmSpec, compile_alarm
from durable_shards.errors import DefinitionError
from durable_shards.fields import (
    MIGRATE,
    RESERVED,
    Fields,
    FieldSpec,
    Scope,
    check_name,
    collect,
    compile_codec,
    fields_of_dataclass,
)
from durable_shards.handler import Handler, HandlerSpec, compile_handler
from durable_storage.address import name_problem
from durable_storage.codec import Default, StateCodec
from durable_storage.versions import Migrate

SPEC = "_durable_spec"
"""Attribute of a class that holds its ClassSpec."""


@dataclass(frozen=True, slots=True)
class Options:
    """The class keywords; durations in seconds, None for never."""

    hibernate_after: float | None = 300.0
    """How long an object stays live without a call, before only its encoded bytes are kept."""
    shutdown_after: float | None = None
    """How long an object stays in memory without a call at all; then the store alone has it."""
    call_timeout: float = 5.0
    """How long callers wait who name no timeout."""
    reentrant: bool = False
    """Whether a chain of calls may come back to the object while it waits for it."""
    mailbox: int = 1000
    """Calls that may wait for one object; past it callers get Overloaded and nothing was run."""
    schema_version: int = 1
    """Of the state that the class declares; what was stored with a lower one goes through `migrate`."""
    create_on_touch: bool = False
    """Store a new object with its first call, even one that changes nothing."""


def patience_of(options: Options) -> float | None:
    """Seconds of idleness after which a live object does not stay as it is; None for never."""
    limits = [limit for limit in (options.hibernate_after, options.shutdown_after) if limit is not None]
    return min(limits) if limits else None


@dataclass(frozen=True, eq=False, slots=True)
class ClassSpec:
    """All that the engine knows about a class of objects."""

    name: str
    """The stored name."""
    cls: type[Any]
    fields: dict[str, FieldSpec]
    scratch: dict[str, Default]
    """Unstored attributes that have a default, set at each activation."""
    handlers: dict[str, HandlerSpec]
    alarms: dict[str, AlarmSpec]
    handle_alarm: AlarmSpec | None
    """Takes the alarms of other names, if the class wants them."""
    codec: StateCodec
    options: Options
    after_load: Callable[..., Any] | None
    on_sleep: Callable[..., Any] | None
    has_async: bool
    origin: tuple[object, int]
    """Code and line of the class statement."""

    def revive(self, data: bytes | None, context: Any) -> Any:
        """A live instance from stored state, or with the defaults. Raises StateUnreadable."""
        obj: Any = object.__new__(self.cls)
        attributes = obj.__dict__
        attributes.update(self.codec.initial() if data is None else self.codec.decode(data))
        for name, default in self.scratch.items():
            attributes[name] = default.make()
        attributes["_durable"] = context
        return obj

    def alarm(self, name: str) -> AlarmSpec | None:
        """What runs when the alarm of this name is due, if anything does."""
        return self.alarms.get(name) or self.handle_alarm

    def describe(self) -> dict[str, Any]:
        """See the function of this name."""
        return {
            "name": self.name,
            "class": f"{self.cls.__module__}:{self.cls.__qualname__}",
            "doc": inspect.getdoc(self.cls) or "",
            "fields": [str(each) for each in self.fields.values()],
            "handlers": {
                each.name: {"signature": each.signature, "readonly": each.readonly, "doc": each.doc}
                for each in self.handlers.values()
            },
            "alarms": [*self.alarms, *(["*"] if self.handle_alarm else [])],
            "hooks": [name for name in ("after_load", "on_sleep") if getattr(self, name) is not None],
            "options": dataclasses.asdict(self.options),
            "default_state": json.decode(self.codec.encode(self.cls())),
        }


def describe(cls: Any) -> dict[str, Any]:
    """A class in plain values, for people and tools: what an engine would know of it.

    `name` (the stored one), `class` ("module:Class"), `doc`, `fields` (as they are declared), `handlers` (each with
    `signature`, `readonly` and `doc`), `alarms` ("*" for `handle_alarm`), `hooks`, `options` (durations in seconds,
    None for never) and `default_state` (as JSON would store it). Raises DefinitionError for no class of objects.
    """
    return spec_of(cls).describe()


def spec_of(cls: Any) -> ClassSpec:
    """The compiled form of a class. Raises DefinitionError for what is no class of objects."""
    spec = vars(cls).get(SPEC) if isinstance(cls, type) else None
    if isinstance(spec, ClassSpec):
        return spec
    if not isinstance(cls, type) or hasattr(cls, "_durable_object"):
        raise DefinitionError(f"expected a class derived from DurableObject, got {cls!r:.100}")
    method = next((name for name, value in vars(cls).items() if name[0] != "_" and inspect.isfunction(value)), "get")
    raise DefinitionError(
        f"{cls.__name__} is a plain class, not a DurableObject. Change two lines:\n"
        f"    class {cls.__name__}(DurableObject):   # derive it from durable_engine.DurableObject\n"
        f"        @handler                       # above each method that callers may use\n"
        f"        def {method}(self, ...): ..."
    )


def compile_class(cls: type[Any], keywords: Mapping[str, Any], scope: Scope) -> ClassSpec:
    """Check a class that is being defined and compile it. Raises DefinitionError."""
    given = dict(keywords)
    name = given.pop("name", None) or cls.__name__
    problem = name_problem("the stored name of a class", name)
    if problem is not None or name.startswith("$"):
        raise DefinitionError(f"{cls.__name__}: {problem or 'the stored name of a class must not begin with $'}")
    bases = [vars(base) for base in reversed(cls.__mro__[1:])]
    inherited = [spec for spec in (base.get(SPEC) for base in bases) if isinstance(spec, ClassSpec)]
    _check_members(cls)
    _take_attribute(cls, given)
    options = _options(cls, inherited[-1].options if inherited else Options(), given)
    fields = collect(cls, _inherited_fields(cls), scope)
    handlers, alarms = _methods(cls, inherited, scope)
    migrate = _migrate(cls, options.schema_version)
    codec = compile_codec(cls, name, fields.stored, options.schema_version, migrate)
    after_load, on_sleep = _hook(cls, "after_load"), _hook(cls, "on_sleep")
    if inspect.iscoroutinefunction(on_sleep):
        raise DefinitionError(f"{cls.__name__}.on_sleep cannot be async: nobody waits for it; write def on_sleep(self)")
    handle_alarm = _handle_alarm(cls)
    methods: list[HandlerSpec | AlarmSpec] = [
        *handlers.values(),
        *alarms.values(),
        *([handle_alarm] if handle_alarm else []),
    ]
    has_async = any(each.is_async for each in methods) or inspect.iscoroutinefunction(after_load)
    return ClassSpec(
        name, cls, fields.stored, fields.scratch, handlers, alarms, handle_alarm, codec, options, after_load,
        on_sleep, has_async, (scope.code, scope.line),
    )  # fmt: skip


_defined: WeakValueDictionary[tuple[str, str, str], type[Any]] = WeakValueDictionary()


def claim_name(spec: ClassSpec) -> None:
    """Refuse a second class of one stored name in one piece of code; running the same statement again is fine.

    Classes of one name in different modules or functions meet only when one engine serves both (`Registry.load`).
    """
    cls, (code, line) = spec.cls, spec.origin
    key = (cls.__module__, cls.__qualname__.rpartition(".")[0], spec.name)
    other = _defined.get(key)
    if other is not None and code is not None:
        other_code, other_line = spec_of(other).origin
        if other_code is code and other_line != line:
            said = (
                f"{cls.__qualname__} and {other.__qualname__} (line {other_line}) have one stored name, {spec.name!r}"
            )
            raise DefinitionError(f"{said}; give one of them another: class {cls.__name__}(DurableObject, name=...)")
    _defined[key] = cls


def _options(cls: type, inherited: Options, given: dict[str, Any]) -> Options:
    known = [each.name for each in dataclasses.fields(Options)]
    for name, value in given.items():
        where = f"{cls.__name__}: option {name}"
        if name not in known:
            raise DefinitionError(f"{where} does not exist; the options are name, {', '.join(known)}")
        if name in ("hibernate_after", "shutdown_after", "call_timeout"):
            given[name] = _seconds(where, value, required=name == "call_timeout")
        elif name in ("reentrant", "create_on_touch") and not isinstance(value, bool):
            raise DefinitionError(f"{where} must be True or False, not {value!r}")
        elif name == "mailbox" and (type(value) is not int or value < 1):
            raise DefinitionError(f"{where} is a number of waiting calls, 1 or more, not {value!r}")
        elif name == "schema_version" and (type(value) is not int or not 1 <= value < 1 << 63):
            raise DefinitionError(f"{where} is a whole number, 1 or more, not {value!r}; count it up by one")
    return dataclasses.replace(inherited, **given)


def _take_attribute(cls: type, given: dict[str, Any]) -> None:
    """`schema_version = 2` in the body of the class says the same as the keyword."""
    if "schema_version" not in vars(cls):
        return
    value = vars(cls)["schema_version"]
    if given.setdefault("schema_version", value) != value:
        said = f"schema_version is {given['schema_version']!r} as a keyword and {value!r} as an attribute"
        raise DefinitionError(f"{cls.__name__}: {said}; write one of them")


def _migrate(cls: Any, version: int) -> Migrate | None:
    """The hook that brings older rows up to date, if the class has one."""
    declared = inspect.getattr_static(cls, "migrate", None)
    if declared is None:
        return None
    where = f"{cls.__name__}.migrate"
    if not isinstance(declared, classmethod) or inspect.iscoroutinefunction(declared.__func__):
        raise DefinitionError(f"{where}: it runs before there is an object, and cannot wait; write {MIGRATE}")
    try:
        inspect.signature(cls.migrate).bind(version, {})
    except TypeError as error:
        raise DefinitionError(
            f"{where} cannot be called with a version and the data: {error}; write {MIGRATE}"
        ) from None
    if version == 1:
        advice = f"write class {cls.__name__}(DurableObject, schema_version=2), and count it up with every change"
        raise DefinitionError(f"{where} is never called for a class whose schema_version is 1; {advice}")
    hook: Migrate = cls.migrate
    return hook


def _seconds(where: str, value: Any, *, required: bool) -> float | None:
    if value is None and not required:
        return None
    if not isinstance(value, timedelta):
        right = "timedelta(seconds=5)" if required else "timedelta(minutes=5), or None for never"
        raise DefinitionError(f"{where} must be a timedelta, not {value!r}; write {right}")
    if value < timedelta(0) or (required and not value):
        raise DefinitionError(f"{where} must be {'longer than zero' if required else 'zero or longer'}, not {value}")
    return value.total_seconds()


_OWN_MEMBERS = {
    "__init__": "objects are loaded, not constructed; give fields defaults, and do the rest in after_load(self)",
    "__post_init__": "objects are loaded, not constructed; do this in after_load(self)",
    "__slots__": "state is what the annotations declare; remove __slots__",
}
_OPTIONAL_MEMBERS = ("after_load", "on_sleep", "handle_alarm", "schema_version", "migrate")
"""What a class may define although the names are reserved; each is checked where it is used."""


def _check_members(cls: type) -> None:
    members = vars(cls)
    for name, advice in _OWN_MEMBERS.items():
        if name in members:
            raise DefinitionError(f"{cls.__name__} defines {name}: {advice}")
    for name in RESERVED:
        if name in members and name not in inspect.get_annotations(cls) and name not in _OPTIONAL_MEMBERS:
            check_name(cls, "handler" if isinstance(members[name], Handler) else "attribute", name)


def _inherited_fields(cls: type) -> list[Fields]:
    fields: list[Fields] = []
    for base in reversed(cls.__mro__[1:]):
        spec = vars(base).get(SPEC)
        if isinstance(spec, ClassSpec):
            fields.append(Fields(spec.fields, spec.scratch))
        elif "__dataclass_params__" in vars(base):
            fields.append(fields_of_dataclass(base))
    return fields


def _methods(
    cls: type, inherited: list[ClassSpec], scope: Scope
) -> tuple[dict[str, HandlerSpec], dict[str, AlarmSpec]]:
    declared: dict[str, Handler[Any, Any] | Alarm[Any, Any]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, (Handler, Alarm)):
                declared[name] = value
            elif name in declared:
                mark = "handler" if isinstance(declared[name], Handler) else "alarm"
                raise DefinitionError(f"{base.__name__}.{name} replaces an inherited {mark}; write @{mark} above it")
    handlers: dict[str, HandlerSpec] = {}
    alarms: dict[str, AlarmSpec] = {}
    for name, each in declared.items():
        if each.name != name:
            raise DefinitionError(
                f"{cls.__name__}.{name} and .{each.name} are one method; define a method for each name"
            )
        if isinstance(each, Alarm):
            alarms[name] = _alarm(cls, name, each)
            continue
        known = (spec.handlers.get(name) for spec in inherited)
        same = next((spec for spec in known if spec is not None and spec.function is each.function), None)
        handlers[name] = same or compile_handler(cls, each, scope)
    return handlers, alarms


def _alarm(cls: type, name: str, declared: Alarm[Any, Any]) -> AlarmSpec:
    check_name(cls, "alarm", name)
    if name.startswith("_"):
        raise DefinitionError(f"{cls.__name__}.{name}: the name of an alarm must not begin with an underscore")
    return compile_alarm(f"{cls.__name__}.{name}", name, declared.function, named=False)


def _hook(cls: type, name: str) -> Callable[..., Any] | None:
    method = getattr(cls, name, None)
    if method is None:
        return None
    if not inspect.isfunction(method) or list(inspect.signature(method).parameters) != ["self"]:
        raise DefinitionError(f"{cls.__name__}.{name}: write a plain method, def {name}(self) -> None")
    return method


def _handle_alarm(cls: type) -> AlarmSpec | None:
    method = getattr(cls, "handle_alarm", None)
    if method is None:
        return None
    if not inspect.isfunction(method):
        raise DefinitionError(f"{cls.__name__}.handle_alarm: write a plain method, def handle_alarm(self, name)")
    return compile_alarm(f"{cls.__name__}.handle_alarm", "handle_alarm", method, named=True)

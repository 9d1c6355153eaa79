"""Wrong declarations of methods, options and whole classes, each with a part of its message."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable_shards.alarms import alarm
from durable_shards.fields import field
from durable_shards.handler import handler
from durable_shards.object import DurableObject

if TYPE_CHECKING:
    pass


class Base(DurableObject):
    total: int = 0

    @handler
    def get(self) -> int:
        return self.total

    @alarm
    def ring(self) -> None: ...

    def helper(self) -> None: ...


def handler_named_id() -> None:
    class Wrong(DurableObject):
        @handler
        def id(self) -> str:  # type: ignore[override]
            return ""


def handler_named_now() -> None:
    class Wrong(DurableObject):
        @handler
        def now(self) -> int:  # type: ignore[override]
            return 0


def handler_named_state() -> None:
    class Wrong(DurableObject):
        @handler
        def state(self) -> int:
            return 0


def handler_named_after_load() -> None:
    class Wrong(DurableObject):
        @handler
        def after_load(self) -> None: ...


def handler_named_alarm() -> None:
    class Wrong(DurableObject):
        @handler
        def alarm(self) -> None: ...


def method_named_engine() -> None:
    class Wrong(DurableObject):
        def engine(self) -> None: ...  # type: ignore[override]


def private_handler() -> None:
    class Wrong(DurableObject):
        @handler
        def _secret(self) -> None: ...


def dunder_handler() -> None:
    class Wrong(DurableObject):
        @handler
        def __fire_alarm__(self) -> None: ...


def private_alarm() -> None:
    class Wrong(DurableObject):
        @alarm
        def _secret(self) -> None: ...


def mutable_default_of_an_argument() -> None:
    class Wrong(DurableObject):
        @handler
        def add(self, items: list[int] = []) -> None: ...  # noqa: B006


def own_constructor() -> None:
    class Wrong(DurableObject):
        def __init__(self) -> None: ...


def own_post_init() -> None:
    class Wrong(DurableObject):
        def __post_init__(self) -> None: ...


def own_slots() -> None:
    class Wrong(DurableObject):
        __slots__ = ("x",)


def handler_without_self() -> None:
    class Wrong(DurableObject):
        @handler
        def get() -> int:  # type: ignore[misc]
            return 0


def handler_that_forgot_self() -> None:
    class Wrong(DurableObject):
        @handler
        def add(amount: int) -> int:  # type: ignore[misc]
            return amount


def static_handler() -> None:
    class Wrong(DurableObject):
        @handler
        @staticmethod
        def get() -> int:
            return 0


def handler_and_alarm() -> None:
    class Wrong(DurableObject):
        @handler  # type: ignore[arg-type]
        @alarm
        def get(self) -> int:
            return 0


def alarm_around_a_handler() -> None:
    class Wrong(DurableObject):
        @alarm  # type: ignore[arg-type]
        @handler
        def get(self) -> int:
            return 0


def generator() -> None:
    class Wrong(DurableObject):
        @handler
        def items(self) -> Any:
            yield 1


def async_generator() -> None:
    class Wrong(DurableObject):
        @handler
        async def items(self) -> Any:
            yield 1


def argument_that_cannot_travel() -> None:
    class Wrong(DurableObject):
        @handler
        def run(self, module: list[types.ModuleType]) -> None: ...


def argument_that_is_an_object() -> None:
    class Wrong(DurableObject):
        @handler
        def run(self, other: Base) -> None: ...


def result_that_cannot_travel() -> None:
    class Wrong(DurableObject):
        @handler
        def run(self) -> types.ModuleType: ...


def argument_of_unknown_type() -> None:
    class Wrong(DurableObject):
        @handler
        def run(self, it: NotDefined) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def alarm_with_arguments() -> None:
    class Wrong(DurableObject):
        @alarm
        def ring(self, loudness: int) -> None: ...


def handle_alarm_without_name() -> None:
    class Wrong(DurableObject):
        def handle_alarm(self) -> None: ...


def after_load_with_arguments() -> None:
    class Wrong(DurableObject):
        def after_load(self, state: dict[str, Any]) -> None: ...


def on_sleep_that_waits() -> None:
    class Wrong(DurableObject):
        async def on_sleep(self) -> None: ...


def on_sleep_with_arguments() -> None:
    class Wrong(DurableObject):
        def on_sleep(self, why: str) -> None: ...


def create_on_touch_as_number() -> None:
    class Wrong(DurableObject, create_on_touch=1):  # type: ignore[arg-type]
        pass


def unknown_option() -> None:
    class Wrong(DurableObject, hibernate=timedelta(1)):  # type: ignore[call-arg]
        pass


def duration_as_number() -> None:
    class Wrong(DurableObject, hibernate_after=300):  # type: ignore[arg-type]
        pass


def negative_duration() -> None:
    class Wrong(DurableObject, shutdown_after=timedelta(-1)):
        pass


def no_call_timeout() -> None:
    class Wrong(DurableObject, call_timeout=None):  # type: ignore[arg-type]
        pass


def infinite_shutdown() -> None:
    class Wrong(DurableObject, shutdown_after=float("inf")):  # type: ignore[arg-type]
        pass


def mailbox_of_none() -> None:
    class Wrong(DurableObject, mailbox=0):
        pass


def reentrant_as_text() -> None:
    class Wrong(DurableObject, reentrant="yes"):  # type: ignore[arg-type]
        pass


def name_that_is_no_text() -> None:
    class Wrong(DurableObject, name=3):  # type: ignore[arg-type]
        pass


def name_with_dollar() -> None:
    class Wrong(DurableObject, name="$state"):
        pass


def decorated_dataclass() -> None:
    @dataclasses.dataclass
    class Wrong(DurableObject):
        items: list[int] = field(default_factory=list)  # noqa: RUF009
        count: int = 0


def handler_over_a_field() -> None:
    class Wrong(Base):
        @handler
        def total(self) -> int:  # type: ignore[override]
            return 0


def field_over_a_method() -> None:
    class Wrong(Base):
        helper: int = 0  # type: ignore[assignment]


def field_over_a_handler() -> None:
    class Wrong(Base):
        get: int = 0  # type: ignore[assignment]


def field_and_handler() -> None:
    class Wrong(DurableObject):
        total: int = 0

        @handler  # type: ignore[no-redef]
        def total(self) -> int:  # noqa: F811
            return 0


def plain_method_over_a_handler() -> None:
    class Wrong(Base):
        def get(self) -> int:  # type: ignore[override]
            return 0


def inherited_default_without_annotation() -> None:
    class Wrong(Base):
        total = 5


def handler_under_two_names() -> None:
    class Wrong(DurableObject):
        @handler
        def get(self) -> int:
            return 0

        fetch = get


def two_of_one_name() -> None:
    class One(DurableObject, name="shop.Cart"):
        pass

    class Two(DurableObject, name="shop.Cart"):
        pass

    assert One is not Two


WRONG: list[tuple[Callable[[], None], str]] = [
    (handler_named_id, "Wrong.id: self.id has a meaning of its own in every DurableObject; give the handler another"),
    (handler_named_now, "Wrong.now: self.now has a meaning of its own"),
    (handler_named_state, "Wrong.state: self.state has a meaning of its own"),
    (handler_named_after_load, "Wrong.after_load: self.after_load has a meaning of its own"),
    (handler_named_alarm, "Wrong.alarm: this name would hide the @alarm decorator; give the handler another name"),
    (method_named_engine, "Wrong.engine: self.engine has a meaning of its own"),
    (private_handler, "Wrong._secret: names that begin with an underscore are private; callers need a public one"),
    (dunder_handler, "Wrong.__fire_alarm__: names that begin with an underscore are private"),
    (private_alarm, "Wrong._secret: the name of an alarm must not begin with an underscore"),
    (mutable_default_of_an_argument, "Wrong.add, argument items: all calls would share the mutable default []; take"),
    (own_constructor, "Wrong defines __init__: objects are loaded, not constructed; give fields defaults"),
    (own_post_init, "Wrong defines __post_init__: objects are loaded, not constructed; do this in after_load(self)"),
    (own_slots, "Wrong defines __slots__: state is what the annotations declare; remove __slots__"),
    (handler_without_self, "Wrong.get: a handler's first parameter is self; write def get(self)"),
    (handler_that_forgot_self, "Wrong.add: a handler's first parameter is self; write def add(self, amount)"),
    (static_handler, "@handler belongs directly above a plain method, not around staticmethod; remove @staticmethod"),
    (handler_and_alarm, "@handler belongs directly above a plain method, not around Alarm; remove"),
    (alarm_around_a_handler, "@alarm belongs directly above a plain method, not around Handler; remove"),
    (generator, "Wrong.items: a handler gives one reply; return a list instead of yielding its items"),
    (async_generator, "Wrong.items: a handler gives one reply"),
    (argument_that_cannot_travel, "Wrong.run, argument module: module cannot travel; use plain types, a dataclass or"),
    (argument_that_is_an_object, "Wrong.run, argument other: Base: objects do not travel; pass the id (str)"),
    (result_that_cannot_travel, "Wrong.run, what it returns: module cannot travel"),
    (argument_of_unknown_type, "Wrong.run, argument it: the annotation 'NotDefined' cannot be read: name 'NotDefined'"),
    (
        alarm_with_arguments,
        "Wrong.ring: write def ring(self); it may also take attempt, payload and at, and",
    ),
    (handle_alarm_without_name, "Wrong.handle_alarm: write def handle_alarm(self, name); it may also take"),
    (after_load_with_arguments, "Wrong.after_load: write a plain method, def after_load(self) -> None"),
    (on_sleep_that_waits, "Wrong.on_sleep cannot be async: nobody waits for it; write def on_sleep(self)"),
    (on_sleep_with_arguments, "Wrong.on_sleep: write a plain method, def on_sleep(self) -> None"),
    (create_on_touch_as_number, "Wrong: option create_on_touch must be True or False, not 1"),
    (
        unknown_option,
        "Wrong: option hibernate does not exist; the options are name, hibernate_after, shutdown_after, ca",
    ),
    (
        duration_as_number,
        "Wrong: option hibernate_after must be a timedelta, not 300; write timedelta(minutes=5), or None",
    ),
    (negative_duration, "Wrong: option shutdown_after must be zero or longer"),
    (no_call_timeout, "Wrong: option call_timeout must be a timedelta, not None; write timedelta(seconds=5)"),
    (
        infinite_shutdown,
        "Wrong: option shutdown_after must be a timedelta, not inf; write timedelta(minutes=5), or None",
    ),
    (mailbox_of_none, "Wrong: option mailbox is a number of waiting calls, 1 or more, not 0"),
    (reentrant_as_text, "Wrong: option reentrant must be True or False, not 'yes'"),
    (name_that_is_no_text, "Wrong: the stored name of a class must be a str, not int"),
    (name_with_dollar, "Wrong: the stored name of a class must not begin with $"),
    (decorated_dataclass, "Wrong is decorated with @dataclass, but a DurableObject is a dataclass already; remove the"),
    (handler_over_a_field, "Wrong.total: a base class has a field of this name; rename the method"),
    (field_over_a_method, "Wrong.helper: a base class has a method of this name; rename the field"),
    (field_over_a_handler, "Wrong.get: a base class has a method of this name; rename the field"),
    (field_and_handler, "Wrong.total is a field and a method as well; rename one of them"),
    (plain_method_over_a_handler, "Wrong.get replaces an inherited handler; write @handler above it"),
    (inherited_default_without_annotation, "Wrong.total: to give an inherited field another default, write total: int"),
    (handler_under_two_names, "Wrong.get and .fetch are one method; define a method for each name"),
    (
        two_of_one_name,
        "have one stored name, 'shop.Cart'; give one of them another: class Two(DurableObject, name=...)",
    ),
]

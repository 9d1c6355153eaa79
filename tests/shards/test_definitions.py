"""Wrong declarations fail when the class is defined, with a message that says what to write instead."""

from __future__ import annotations

import dataclasses
import gc
import sys
import types
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_shards.alarms import alarm
from durable_shards.errors import DefinitionError
from durable_shards.fields import field
from durable_shards.handler import handler
from durable_shards.object import DurableObject
from durable_shards.registry import Registry, spec_of
from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from decimal import Decimal


@dataclasses.dataclass
class Mutable:
    x: int = 0


class Base(DurableObject):
    total: int = 0

    @handler
    def get(self) -> int:
        return self.total

    @alarm
    def ring(self) -> None: ...

    def helper(self) -> None: ...


def field_named_id() -> None:
    class Wrong(DurableObject):
        id: str = ""  # type: ignore[assignment]


def field_named_now() -> None:
    class Wrong(DurableObject):
        now: int = 0  # type: ignore[assignment]


def field_named_alarms() -> None:
    class Wrong(DurableObject):
        alarms: list[str] | None  # type: ignore[assignment]


def field_named_engine() -> None:
    class Wrong(DurableObject):
        engine: str = "V8"  # type: ignore[assignment]


def field_named_state() -> None:
    class Wrong(DurableObject):
        state: str = ""


def field_named_after_load() -> None:
    class Wrong(DurableObject):
        after_load: bool = False


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


def unsupported_annotation() -> None:
    class Wrong(DurableObject):
        callback: Callable[[], int] | None


def unsupported_class() -> None:
    class Wrong(DurableObject):
        thread: types.ModuleType | None


def ambiguous_union() -> None:
    class Wrong(DurableObject):
        when: datetime | str = ""


def another_object() -> None:
    class Wrong(DurableObject):
        parent: Base | None


def itself() -> None:
    class Wrong(DurableObject):
        parent: Wrong | None


def unknown_name() -> None:
    class Wrong(DurableObject):
        it: NotDefined | None  # type: ignore[name-defined]  # noqa: F821


def imported_for_type_checkers_only() -> None:
    class Wrong(DurableObject):
        price: Decimal | None


def mutable_list() -> None:
    class Wrong(DurableObject):
        items: list[int] = []  # noqa: RUF012


def mutable_dict_with_content() -> None:
    class Wrong(DurableObject):
        items: dict[str, int] = {"a": 1}  # noqa: RUF012


def mutable_dataclass() -> None:
    class Wrong(DurableObject):
        it: Mutable = Mutable()


def mutable_scratch() -> None:
    class Wrong(DurableObject):
        _cache: dict[str, int] = {}  # noqa: RUF012


def mutable_without_annotation() -> None:
    class Wrong(DurableObject):
        items = []  # type: ignore[var-annotated]  # noqa: RUF012


def mutable_default_of_an_argument() -> None:
    class Wrong(DurableObject):
        @handler
        def add(self, items: list[int] = []) -> None: ...  # noqa: B006


def no_default_and_not_optional() -> None:
    class Wrong(DurableObject):
        count: int


def default_of_another_type() -> None:
    class Wrong(DurableObject):
        count: int = "0"  # type: ignore[assignment]


def field_without_annotation() -> None:
    class Wrong(DurableObject):
        items = field(default_factory=list)  # type: ignore[var-annotated]


def constant() -> None:
    class Wrong(DurableObject):
        LIMIT: Final = 3


def init_var() -> None:
    class Wrong(DurableObject):
        count: dataclasses.InitVar[int] = 0


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
        items: list[int] = field(default_factory=list)
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
        def total(self) -> int:
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
    (field_named_id, "Wrong.id: self.id has a meaning of its own in every DurableObject; give the field another name"),
    (field_named_now, "Wrong.now: self.now has a meaning of its own"),
    (field_named_alarms, "Wrong.alarms: self.alarms has a meaning of its own"),
    (field_named_engine, "Wrong.engine: self.engine has a meaning of its own"),
    (field_named_state, "Wrong.state: self.state has a meaning of its own"),
    (field_named_after_load, "Wrong.after_load: self.after_load has a meaning of its own"),
    (handler_named_id, "Wrong.id: self.id has a meaning of its own in every DurableObject; give the handler another"),
    (handler_named_now, "Wrong.now: self.now has a meaning of its own"),
    (handler_named_state, "Wrong.state: self.state has a meaning of its own"),
    (handler_named_after_load, "Wrong.after_load: self.after_load has a meaning of its own"),
    (handler_named_alarm, "Wrong.alarm: this name would hide the @alarm decorator; give the handler another name"),
    (method_named_engine, "Wrong.engine: self.engine has a meaning of its own"),
    (private_handler, "Wrong._secret: names that begin with an underscore are private; callers need a public one"),
    (dunder_handler, "Wrong.__fire_alarm__: names that begin with an underscore are private"),
    (private_alarm, "Wrong._secret: the name of an alarm must not begin with an underscore"),
    (unsupported_annotation, "Wrong: field 'callback': collections.abc.Callable[[], int] is not supported. Supported"),
    (unsupported_class, "Wrong: field 'thread': module is not supported. Supported are bool, int, float"),
    (ambiguous_union, "Wrong: field 'when': type unions may not contain more than one str-like type"),
    (another_object, "Wrong.parent: another object is no part of the state; store its id (str), and call it with"),
    (itself, "Wrong.parent: another object is no part of the state"),
    (
        unknown_name,
        "Wrong.it: the annotation 'NotDefined | None' cannot be read: name 'NotDefined' is not defined; def",
    ),
    (imported_for_type_checkers_only, "name 'Decimal' is not defined; define or import it above the class, outside of"),
    (
        mutable_list,
        "Wrong.items: all objects would share this mutable default; write items: list[int] = field(default_f",
    ),
    (mutable_dict_with_content, "write items: dict[str, int] = field(default_factory=lambda: {'a': 1})"),
    (mutable_dataclass, "Wrong.it: all objects would share this mutable default"),
    (
        mutable_scratch,
        "Wrong._cache: all objects would share this mutable default; write _cache: dict[str, int] = field",
    ),
    (
        mutable_without_annotation,
        "Wrong.items has no annotation, so all objects would share it; write items: list[...]",
    ),
    (mutable_default_of_an_argument, "Wrong.add, argument items: all calls would share the mutable default []; take"),
    (
        no_default_and_not_optional,
        "field 'count' has no default, so it starts as None, which is no int; write count: i",
    ),
    (default_of_another_type, "Wrong: field 'count': the default does not fit the annotation: expected int, got str"),
    (field_without_annotation, "Wrong.items: a field needs its type; write items: <type> = field(...)"),
    (constant, "Wrong.LIMIT: a constant is no state; write LIMIT: ClassVar[...] = ..."),
    (init_var, "Wrong.count: objects are not constructed when they are loaded; use after_load"),
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
    (alarm_with_arguments, "Wrong.ring: write def ring(self); it may also take attempt and payload, and nothing else"),
    (handle_alarm_without_name, "Wrong.handle_alarm: write def handle_alarm(self, name); it may also take"),
    (after_load_with_arguments, "Wrong.after_load: write a plain method, def after_load(self) -> None"),
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
    (handler_under_two_names, "Wrong.fetch is get under a second name; define another method"),
    (
        two_of_one_name,
        "have one stored name, 'shop.Cart'; give one of them another: class Two(DurableObject, name=...)",
    ),
]


@pytest.mark.parametrize(("declare", "message"), WRONG, ids=[each[0].__name__ for each in WRONG])
def test_a_wrong_declaration_fails_at_definition(declare: Callable[[], None], message: str) -> None:
    """parity 10, 12, 13, 16: the message says what to write instead."""
    with pytest.raises(DefinitionError) as wrong:
        declare()
    assert message in str(wrong.value)
    assert isinstance(wrong.value, DurableError)
    assert isinstance(wrong.value, TypeError)


def test_every_case_of_this_file_is_run() -> None:
    """No declaration above is forgotten in the table."""
    functions = {
        value
        for value in globals().values()
        if isinstance(value, types.FunctionType)
        and value.__module__ == __name__
        and not value.__name__.startswith("test_")
    }
    assert functions - {declare for declare, _ in WRONG} == {define, source_module, again}


def test_options_have_defaults_and_accept_none_for_never() -> None:
    """parity 15, 16, 18."""

    class Default(DurableObject):
        pass

    class Explicit(
        DurableObject,
        name="shop.Explicit",
        hibernate_after=None,
        shutdown_after=None,
        call_timeout=timedelta(milliseconds=1500),
        reentrant=True,
        mailbox=1,
    ):
        pass

    options = spec_of(Default).options
    assert (options.hibernate_after, options.shutdown_after, options.call_timeout) == (300.0, None, 5.0)
    assert (options.reentrant, options.mailbox) == (False, 1000)
    options = spec_of(Explicit).options
    assert (options.hibernate_after, options.shutdown_after, options.call_timeout) == (None, None, 1.5)
    assert (options.reentrant, options.mailbox) == (True, 1)
    assert spec_of(Explicit).name == "shop.Explicit"


def define() -> type[DurableObject]:
    class Again(DurableObject):
        pass

    return Again


def again() -> type[DurableObject]:
    class Again(DurableObject):
        pass

    return Again


def test_running_one_class_statement_again_replaces_the_class() -> None:
    """Parametrised tests and factories do."""
    assert define() is not define()


def test_classes_of_one_name_in_other_functions_meet_only_in_one_engine() -> None:
    """Each test may have its Counter; one engine cannot serve both."""
    one, two = define(), again()
    Registry.load([one])
    Registry.load([two])
    Registry.load([one, one])
    with pytest.raises(DefinitionError) as wrong:
        Registry.load([one, two])
    assert "define.<locals>.Again and " in str(wrong.value)
    assert "again.<locals>.Again have one stored name, 'Again', and cannot be served together" in str(wrong.value)


def source_module(name: str, source: str) -> types.ModuleType:
    """A module from text, as a reload makes it."""
    module = sys.modules.setdefault(name, types.ModuleType(name))
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def test_a_reloaded_module_replaces_its_classes_wherever_they_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Editing a file shifts lines; the old classes may still be alive."""
    monkeypatch.setitem(sys.modules, "reloaded", types.ModuleType("reloaded"))
    source = "from durable_shards.object import DurableObject\nclass Cart(DurableObject): pass\n"
    old = source_module("reloaded", source).Cart
    new = source_module("reloaded", "\n\n" + source).Cart
    assert old is not new
    with pytest.raises(DefinitionError, match="Cart and Cart .line 2. have one stored name, 'Cart'"):
        source_module("reloaded", source + "class Cart(DurableObject): pass\n")


def test_a_class_that_failed_is_forgotten() -> None:
    """A second, right attempt is not a second class of that name."""
    for wrong in (True, False):
        if wrong:
            with pytest.raises(DefinitionError):

                class Mended(DurableObject):
                    count: int

        else:

            class Mended(DurableObject):  # type: ignore[no-redef]
                count: int = 0

    gc.collect()
    assert spec_of(Mended).name == "Mended"


def test_a_plain_class_is_shown_the_two_lines_to_change() -> None:
    """parity 24."""

    class Cart:
        def add(self, sku: str) -> None: ...

    with pytest.raises(DefinitionError) as wrong:
        Registry.load([Cart])
    message = str(wrong.value)
    assert "Cart is a plain class, not a DurableObject. Change two lines:" in message
    assert "class Cart(DurableObject):" in message
    assert "@handler" in message
    assert "def add(self, ...)" in message


@pytest.mark.parametrize("wrong", [Base(), 3, None, len, DurableObject])
def test_what_is_no_class_of_objects_is_refused(wrong: Any) -> None:
    """Instances, numbers, and the base class itself."""
    with pytest.raises(DefinitionError):
        spec_of(wrong)

"""Wrong declarations of state, each with a part of its message."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from durable_shards.alarms import alarm
from durable_shards.fields import field
from durable_shards.handler import handler
from durable_shards.object import DurableObject

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


def scratch_of_the_engine() -> None:
    class Wrong(DurableObject):
        _durable: int = 0


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


WRONG: list[tuple[Callable[[], None], str]] = [
    (field_named_id, "Wrong.id: self.id has a meaning of its own in every DurableObject; give the field another name"),
    (field_named_now, "Wrong.now: self.now has a meaning of its own"),
    (field_named_alarms, "Wrong.alarms: self.alarms has a meaning of its own"),
    (field_named_engine, "Wrong.engine: self.engine has a meaning of its own"),
    (field_named_state, "Wrong.state: self.state has a meaning of its own"),
    (field_named_after_load, "Wrong.after_load: self.after_load has a meaning of its own"),
    (unsupported_annotation, "Wrong: field 'callback': Callable[[], int] is not supported. Supported"),
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
    (scratch_of_the_engine, "Wrong._durable: names that begin with _durable are the engine's; rename it"),
    (
        no_default_and_not_optional,
        "field 'count' has no default, so it starts as None, which is no int; write count: i",
    ),
    (default_of_another_type, "Wrong: field 'count': the default does not fit the annotation: expected int, got str"),
    (field_without_annotation, "Wrong.items: a field needs its type; write items: <type> = field(...)"),
    (constant, "Wrong.LIMIT: a constant is no state; write LIMIT: ClassVar[...] = ..."),
    (init_var, "Wrong.count: objects are not constructed when they are loaded; use after_load"),
]

"""What was typed behind `durable-engine new`, read and checked: `shop.objects:Cart`, `tags:list[str]=["a"]`.

Everything that could go wrong with a name is refused here, before anything is written; what is wrong with a type in the
eyes of the engine is found by `source.prove`, which defines the class.
"""

from __future__ import annotations

import builtins
import keyword
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_origin

from durable_engine.scaffold.kinds import Kind, annotation_of, beginning_of, is_optional, parse_kind
from durable_engine.scaffold.values import literal, parse_default
from durable_shards.fields import RESERVED
from durable_shards.object import DurableObject

HOMES: Final = {
    "DurableObject": "durable_engine",
    "Engine": "durable_engine",
    "field": "durable_engine",
    "handler": "durable_engine",
    "Any": "typing",
    "Decimal": "decimal",
    "UTC": "datetime",
    "UUID": "uuid",
    "asyncio": "",
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
    "timedelta": "datetime",
}
"""The module of each name that generated code may use; nothing for modules themselves."""

EXAMPLE: Final = "durable-engine new shop.objects:Cart owner:str 'items:dict[str,int]' paid:bool=false"
_OURS: Final = ("durable_engine", "durable_shards", "durable_storage", "durable_bench")


@dataclass(frozen=True)
class FieldDeclaration:
    """One field of the class to be written."""

    name: str
    kind: Kind
    default: Any

    @property
    def annotation(self) -> str:
        """Its type, as it is written."""
        return annotation_of(self.kind.hint)

    @property
    def line(self) -> str:
        """The line that declares it."""
        return f"{self.name}: {self.annotation} = {self._default()}"

    def _default(self) -> str:
        if not isinstance(self.default, list | dict | set):
            return literal(self.default)
        factory = f"lambda: {literal(self.default)}" if self.default else type(self.default).__name__
        return f"field(default_factory={factory})"


@dataclass(frozen=True)
class ClassDeclaration:
    """A class to be written, and the module it goes to."""

    module: str
    name: str
    fields: tuple[FieldDeclaration, ...]

    @property
    def snake(self) -> str:
        """The name as it is written in names of files and functions."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.name).lower()


def declare(target: str, fields: Iterable[str]) -> ClassDeclaration:
    """Read what was typed. Raises ValueError with a message for who typed it."""
    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"{target!r} does not name a module and a class, like {EXAMPLE.split()[2]}")
    _check_module(module)
    _check_class(name)
    declared = [_declare_field(text) for text in fields]
    _check_together(declared)
    return ClassDeclaration(module, name, tuple(declared))


def _check_module(module: str) -> None:
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f"{module!r} is a path; write the module as it is imported: {dotted}")
    for part in module.split("."):
        _check_identifier(part, f"{module!r} cannot be a module: {part!r}")
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in _OURS:
        raise ValueError(f"a module {top!r} here would hide the one of {_owner(top)}; choose another name")


def _owner(top: str) -> str:
    return "durable-engine" if top in _OURS else "Python"


def _check_class(name: str) -> None:
    _check_identifier(name, f"{name!r} cannot be a class: it")
    if name.startswith("_"):
        raise ValueError(f"{name!r} begins with an underscore, and classes that do are not served; leave it out")
    if name in HOMES or name in vars(builtins):
        raise ValueError(f"{name!r} is a name that the code uses for something else; give the class another name")


def _check_identifier(name: str, subject: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"{subject} is no name of Python's: letters, digits and underscores, no digit first")
    if keyword.iskeyword(name):
        raise ValueError(f"{subject} is a keyword of Python; choose another name")
    if unicodedata.normalize("NFKC", name) != name:
        raise ValueError(f"{subject} would be read as {unicodedata.normalize('NFKC', name)!r}; write it like that")


def _declare_field(text: str) -> FieldDeclaration:
    name, colon, rest = text.partition(":")
    typed, equals, default = rest.partition("=")
    if not colon or not typed.strip():
        raise ValueError(f"{text!r} is no field; write name:type or name:type=default, like count:int=3")
    _check_field_name(name)
    try:
        kind = parse_kind(typed)
        value = parse_default(default, kind) if equals else beginning_of(kind.hint)
    except ValueError as error:
        raise ValueError(f"field {name}: {error}") from None
    if value is None and not is_optional(kind.hint):
        kind = kind._replace(hint=kind.hint | None)
    return FieldDeclaration(name, kind, value)


def _check_field_name(name: str) -> None:
    _check_identifier(name, f"{name!r} cannot be a field: it")
    if name.startswith("_"):
        raise ValueError(f"field {name}: what begins with an underscore is never stored; leave the underscore out")
    if name in RESERVED or hasattr(DurableObject, name):
        raise ValueError(f"field {name}: self.{name} has a meaning of its own in every DurableObject; {_OTHER}")


_OTHER: Final = "give the field another name"


def _check_together(fields: Sequence[FieldDeclaration]) -> None:
    seen = set[str]()
    for each in fields:
        if each.name in seen:
            raise ValueError(f"field {each.name} is declared twice; {_OTHER}, or leave one out")
        seen.add(each.name)


def is_number(kind: Kind) -> bool:
    """Whether a field can be added to."""
    return annotation_of(kind.hint) in ("int", "float", "Decimal")


def container_of(kind: Kind) -> Any:
    """list, dict or set, where the field is one and cannot be None; else None."""
    return get_origin(kind.hint) if get_origin(kind.hint) in (list, dict, set) else None

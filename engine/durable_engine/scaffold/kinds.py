"""The types that a field can be declared with on the command line, and what each begins with.

A type is written as Python writes it, or by the word that Elixir's generator has for it: `dict[str, int]`,
`utc_datetime`, `str|None`. Types that have no natural beginning (a date, an id) begin as None.
"""

from __future__ import annotations

import ast
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin
from uuid import UUID

Zone = Literal["aware", "naive"]

TEXT_MAX: Final = 200
"""Characters of a type. Deeper nesting than that belongs into a dataclass."""

WORDS: Final[dict[str, Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "dict": dict[str, Any],
    "list": list[Any],
    "bytes": bytes,
    "Decimal": Decimal,
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "UUID": UUID,
    "Any": Any,
    # Elixir's names.
    "integer": int,
    "string": str,
    "boolean": bool,
    "map": dict[str, Any],
    "binary": bytes,
    "decimal": Decimal,
    "utc_datetime": datetime,
    "naive_datetime": datetime,
    "utc_datetime_usec": datetime,
    "naive_datetime_usec": datetime,
    "duration": timedelta,
    "uuid": UUID,
    "atom": str,
    "any": Any,
}
_CONTAINERS: Final[dict[str, tuple[type, int]]] = {"list": (list, 1), "dict": (dict, 2), "set": (set, 1)}
KNOWN: Final = f"{', '.join(WORDS)}, list[...], dict[..., ...], set[...] and ...|None"

_BEGINNINGS: Final[dict[Any, Any]] = {
    int: 0,
    float: 0.0,
    str: "",
    bool: False,
    bytes: b"",
    Decimal: Decimal(0),
    timedelta: timedelta(0),
}


class Kind(NamedTuple):
    """A type, and for datetimes whether they must (not) have a time zone."""

    hint: Any
    zone: Zone | None = None

    @property
    def inner(self) -> Any:
        """The type without None."""
        return without_none(self.hint)


def parse_kind(text: str) -> Kind:
    """Read a type. Raises ValueError with a message that names the known ones."""
    if len(text) > TEXT_MAX:
        raise ValueError(f"the type {text[:40]}... is longer than {TEXT_MAX} characters; write such a class by hand")
    try:
        hint = _hint(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise _unknown(text) from None
    if hint is NoneType:
        raise ValueError("a field that is always None keeps nothing; write another type, or one with |None")
    words = text.strip().removesuffix("None").strip(" |")
    zone: Zone | None = "aware" if words.startswith("utc_") else "naive" if words.startswith("naive_") else None
    return Kind(hint, zone)


def _hint(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None):
            return NoneType
        case ast.Name(id=word) if word in WORDS:
            return WORDS[word]
        case ast.Name(id="set"):
            raise ValueError("set needs the type of its items: set[str]")
        case ast.BinOp(op=ast.BitOr()):
            return _union(_hint(node.left), _hint(node.right))
        case ast.Subscript(value=ast.Name(id=word), slice=inside) if word in _CONTAINERS:
            return _container(word, inside)
    raise _unknown(ast.unparse(node))


def _container(word: str, inside: ast.expr) -> Any:
    made, count = _CONTAINERS[word]
    nodes = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if len(nodes) != count:
        right = "dict[str, int]" if count > 1 else f"{word}[str]"
        raise ValueError(f"{word} takes {'two types' if count > 1 else 'one type'}, like {right}")
    return made[tuple(map(_hint, nodes)) if count > 1 else _hint(nodes[0])]  # type: ignore[index]


def _union(left: Any, right: Any) -> Any:
    members = {*members_of(left), *members_of(right)}
    if Any in members:
        return Any
    if len(members - {NoneType}) > 1:
        raise ValueError("a type can be joined with None only, like str|None; write other unions by hand")
    return reduce(or_, sorted(members, key=lambda member: member is NoneType))


def _unknown(text: str) -> ValueError:
    close = get_close_matches(text, [*WORDS, *_CONTAINERS], n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return ValueError(f"unknown type {text!r}{guess}; known types are {KNOWN}")


def members_of(hint: Any) -> tuple[Any, ...]:
    """The types that a union joins; the type itself where it is none."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def without_none(hint: Any) -> Any:
    """What a type is when it is not None."""
    return next((member for member in members_of(hint) if member is not NoneType), hint)


def is_optional(hint: Any) -> bool:
    """Whether a value may be None."""
    return hint is Any or NoneType in members_of(hint)


def beginning_of(hint: Any) -> Any:
    """What a field of this type holds unless somebody says otherwise; None for what has no natural beginning."""
    if get_origin(hint) in (list, dict, set):
        return get_origin(hint)()
    return _BEGINNINGS.get(hint)


def annotation_of(hint: Any) -> str:
    """A type as it is written in a class."""
    if hint is NoneType:
        return "None"
    members = members_of(hint)
    if len(members) > 1:
        return " | ".join(map(annotation_of, members))
    if get_args(hint):
        return f"{get_origin(hint).__name__}[{', '.join(map(annotation_of, get_args(hint)))}]"
    return str(hint.__name__)

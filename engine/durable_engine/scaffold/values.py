"""Values: from the text of a default to a value of its type, from a value to Python, and examples for tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final, get_args, get_origin
from uuid import UUID

import msgspec

from durable_engine.durations import parse_duration
from durable_engine.scaffold.kinds import Kind, annotation_of, is_optional

_TRUTH: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_NOTHING: Final = ("None", "nil", "null")
_JSON_FORMS: Final = {list: '["a", "b"]', set: '["a", "b"]', dict: '{"a": 1}'}


def parse_default(text: str, kind: Kind) -> Any:
    """Read a default: JSON for lists, dicts and sets, else as one would write it. Raises ValueError."""
    if text in _NOTHING:
        if is_optional(kind.hint):
            return None
        raise ValueError(f"{text} is no {annotation_of(kind.hint)}; write {annotation_of(kind.hint)}|None as its type")
    hint = kind.inner
    try:
        if hint is Any or get_args(hint):
            return msgspec.json.decode(text, type=hint)
        value = _PARSERS[hint](text)
    except (ValueError, InvalidOperation, SyntaxError) as error:
        raise ValueError(f"the default {text!r} is no {annotation_of(hint)}: {_advice(hint, error)}") from None
    if isinstance(value, datetime) and kind.zone:
        _check_zone(text, value, kind.zone)
    return value


def _advice(hint: Any, error: Exception) -> str:
    if isinstance(error, msgspec.MsgspecError):
        form = _JSON_FORMS.get(get_origin(hint), '"text", 1 or {"a": 1}')
        return f"{error}; write it as JSON, like {form}"
    return _FORMS.get(hint) or str(error)


def _check_zone(text: str, value: datetime, zone: str) -> None:
    if zone == "aware" and value.tzinfo is None:
        raise ValueError(f"the default {text!r} has no time zone; write it like 2030-01-31T12:00:00+00:00")
    if zone == "naive" and value.tzinfo is not None:
        raise ValueError(f"the default {text!r} has a time zone, which a naive datetime has not; leave it out")


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)*", text):
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError
    return value


def _bool(text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError from None


def _str(text: str) -> str:
    """Bare, or in quotes, which are needed for the words that mean None and for blanks at either end."""
    if re.fullmatch(r"""(['"]).*\1""", text, re.DOTALL) and len(text) > 1:
        value = ast.literal_eval(text)
        if not isinstance(value, str):
            raise ValueError("these quotes are no single text")
        text = value
    text.encode()  # refuses lone surrogates, which no store can hold
    return text


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError
    return value


_PARSERS: Final[dict[Any, Callable[[str], Any]]] = {
    int: _int,
    float: _float,
    bool: _bool,
    str: _str,
    bytes: lambda text: _str(text).encode(),
    Decimal: _decimal,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: parse_duration,
    UUID: UUID,
}
_FORMS: Final[dict[Any, str]] = {
    int: "write digits, like 3",
    float: "write a finite number, like 1.5",
    bool: "write true or false",
    Decimal: "write a finite number, like 1.50",
    datetime: "write it like 2030-01-31T12:00:00+00:00",
    date: "write it like 2030-01-31",
    time: "write it like 12:00:00",
    UUID: "write it like 12345678-1234-5678-1234-567812345678",
}


def literal(value: Any) -> str:
    """A value as Python writes it, formatted as ruff would."""
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    return repr(value)


def _list(value: list[Any]) -> str:
    return f"[{', '.join(map(literal, value))}]"


def _dict(value: dict[Any, Any]) -> str:
    return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"


def _set(value: set[Any]) -> str:
    return f"{{{', '.join(sorted(map(literal, value)))}}}" if value else "set()"


def _quoted(value: str | bytes) -> str:
    """Double quotes, unless that takes more escapes."""
    text = repr(value)
    head, _, inside = text.partition("'")
    if head not in ("", "b"):
        return text  # Python took double quotes itself, since there are single ones inside
    inside = inside[:-1]
    return text if inside.count('"') > inside.count("\\'") else f'{head}"{_swapped(inside)}"'


def _swapped(inside: str) -> str:
    return re.sub(r"""\\(.)|(")""", lambda found: '\\"' if found[2] else _unescaped(found[0]), inside, flags=re.DOTALL)


def _unescaped(escape: str) -> str:
    return "'" if escape == "\\'" else escape


def _datetime(value: datetime) -> str:
    if value.tzinfo not in (None, UTC):
        return _from_text(value)
    parts = [*value.timetuple()[:6], value.microsecond]
    while len(parts) > _DATE_PARTS and not parts[-1]:
        parts.pop()
    return f"datetime({', '.join(map(str, parts))}{', tzinfo=UTC' if value.tzinfo else ''})"


def _from_text(value: date | time) -> str:
    return f'{type(value).__name__}.fromisoformat("{value.isoformat()}")'


def _of_text(value: UUID | Decimal) -> str:
    return f'{type(value).__name__}("{value}")'


def _timedelta(value: timedelta) -> str:
    units = (unit for unit in _UNITS if not value % timedelta(**{unit: 1}))
    unit = next(units)
    return f"timedelta({unit}={value // timedelta(**{unit: 1})})" if value else "timedelta(0)"


_DATE_PARTS: Final = 3
_UNITS: Final = ("days", "hours", "minutes", "seconds", "milliseconds", "microseconds")
_WRITERS: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    ((str, bytes), _quoted),
    (float, lambda value: repr(value).replace("e+", "e")),
    (list, _list),
    (dict, _dict),
    (set, _set),
    (datetime, _datetime),  # which is a date too
    ((date, time), _from_text),
    (timedelta, _timedelta),
    ((UUID, Decimal), _of_text),
)


_EXAMPLES: Final[dict[Any, Any]] = {
    int: 2,
    float: 1.5,
    bool: True,
    str: "a word",
    bytes: b"some bytes",
    Decimal: Decimal("1.50"),
    date: date(2030, 1, 31),
    time: time(12, 30),
    timedelta: timedelta(minutes=5),
    UUID: UUID("12345678-1234-5678-1234-567812345678"),
    Any: "anything",
}


def example_of(hint: Any, zone: str | None = None) -> Any:
    """A value that generated tests use."""
    if hint is datetime:
        return datetime(2030, 1, 31, tzinfo=None if zone == "naive" else UTC)
    parts = [example_of(member) for member in get_args(hint)]
    match get_origin(hint):
        case origin if origin in (list, set):
            return origin(parts[:1])
        case origin if origin is dict:
            return {parts[0]: parts[1]}
        case None:
            return _EXAMPLES[hint]
    return parts[0]  # of a union with None

"""Stored fields that the code does not declare, kept where they were found and written back letter by letter.

They come from newer code: a deploy that was taken back, or one that is under way on another machine. The object
keeps its own in the attribute EXTRA, and so does each dataclass inside of it that can have attributes of its own.
Dataclasses with slots, msgspec.Structs and TypedDicts have no place for them.

All of this is off the usual path: text that was written by the same code holds nothing unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec
import orjson

EXTRA = "_durable_extra"
"""Attribute that keeps stored fields the class does not declare: {name: msgspec.Raw}. They are written back."""

_named = msgspec.json.Decoder(dict[str, msgspec.Raw])
_listed = msgspec.json.Decoder(list[msgspec.Raw])


def raw_fields(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, not decoded. Raises msgspec.MsgspecError."""
    return _named.decode(data)


def keep_nested(value: Any, raw: msgspec.Raw) -> bool:
    """Keep what `raw` has and the dataclasses in `value`, which was decoded from it, do not declare; whether any."""
    try:
        if is_dataclass(value):
            return _keep_of_dataclass(value, _named.decode(raw))
        if isinstance(value, dict):
            return _keep_of_each(value.values(), _named.decode(raw).values())
        if isinstance(value, (list, tuple)):
            return _keep_of_each(value, _listed.decode(raw))
        if isinstance(value, msgspec.Struct) and not value.__struct_config__.array_like:
            found = _named.decode(raw)
            names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
            return sum(keep_nested(getattr(value, name), found[key]) for name, key in names if key in found) > 0
    except msgspec.MsgspecError:  # it came from another form, such as a tuple with a tag in front
        pass
    return False


def _keep_of_dataclass(value: Any, found: dict[str, msgspec.Raw]) -> bool:
    declared = {each.name for each in fields(value)}
    kept = sum(keep_nested(getattr(value, name), raw) for name, raw in found.items() if name in declared) > 0
    unknown = {name: raw.copy() for name, raw in found.items() if name not in declared}
    if unknown and hasattr(value, "__dict__"):
        value.__dict__[EXTRA] = unknown
        kept = True
    return kept


def _keep_of_each(values: Iterable[Any], raws: Iterable[msgspec.Raw]) -> bool:
    values, raws = list(values), list(raws)
    if len(values) != len(raws):
        return False
    return sum(keep_nested(value, raw) for value, raw in zip(values, raws, strict=True)) > 0


def dumps_with_unknown(obj: Any, default: Callable[[Any], Any], options: int) -> bytes:
    """An instance as JSON text, with what was kept at the end of the object or dataclass that it was found in."""

    def write(value: Any) -> Any:
        if is_dataclass(value):
            attributes = getattr(value, "__dict__", {})
            return {each.name: getattr(value, each.name) for each in fields(value)} | _fragments(attributes)
        return default(value)

    public = {name: value for name, value in obj.__dict__.items() if name[0] != "_"}
    return orjson.dumps(public | _fragments(obj.__dict__), write, options | orjson.OPT_PASSTHROUGH_DATACLASS)


def _fragments(attributes: dict[str, Any]) -> dict[str, orjson.Fragment]:
    return {name: orjson.Fragment(bytes(raw)) for name, raw in attributes.get(EXTRA, {}).items()}

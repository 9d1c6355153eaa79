"""The codec of one class: its state as JSON text, written by orjson and read, typed, by msgspec.

The instance itself is dumped (orjson's dataclass fast path writes the public attributes of `__dict__` and skips those
that begin with an underscore); reading goes through a generated msgspec.Struct that knows types and defaults. This
pair costs 0.3 and 0.5 µs for a small class, where generic ones cost 1 to 3.

Stored fields that the class does not declare are kept and written back (`durable_storage.unknown`). msgspec passes
over those inside of nested dataclasses without a word, so `encode_loaded` looks for them where the text of a freshly
decoded object is not what was stored. Classes with a schema version of their own have the codec of
`durable_storage.versions`.

Exactness is `verify`'s work: it runs only when a turn changed the text, and refuses whatever would not come back
equal, types included (`durable_storage.shapes`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, NamedTuple

import msgspec
import orjson

from durable_storage.errors import PersistenceFailed, StateUnreadable, TooLarge
from durable_storage.limits import STATE_BYTES_MAX
from durable_storage.shapes import Shapes, Unsupported
from durable_storage.unknown import EXTRA, dumps_with_unknown, keep_nested, raw_fields
from durable_storage.values import Mismatch, Shape

ORJSON_BUFFER_BYTES = 4096
"""orjson writes into a buffer of this size and leaves it behind its result, be that ever so small."""
SCHEMA = "$schema"
"""Key of a state's text, and attribute of the instance, that holds the version of the class that wrote it, if not 1."""


class Default(NamedTuple):
    """How a field begins: an immutable `value`, or what `factory` makes afresh each time."""

    value: Any = None
    factory: Callable[[], Any] | None = None

    def make(self) -> Any:
        """The default for one new object."""
        return self.value if self.factory is None else self.factory()

    def as_field(self) -> Any:
        """The same for msgspec."""
        if self.factory is None:
            return msgspec.field(default=self.value)
        return msgspec.field(default_factory=self.factory)


class StateCodec:
    """Encodes, verifies and decodes the state of one class."""

    version: int = 1
    """Of the class's schema."""

    def __init__(self, owner: str, fields: Mapping[str, Any], defaults: Mapping[str, Default | None]) -> None:
        """Compile the codec of class `owner`. A field without default starts as None.

        Raises Unsupported, naming the first field whose type, or whose default, cannot be.
        """
        self.owner = owner
        self.fields = dict(fields)
        self._compiler = Shapes()
        self.shapes: dict[str, Shape] = {name: self._shape(name, hint) for name, hint in fields.items()}
        self.defaults = {name: self._default(name, defaults.get(name)) for name in fields}
        self._rows = [(name, *shape.row) for name, shape in self.shapes.items()]
        self._allowed = frozenset(fields)
        self._hook = hook if self._compiler.needs_hook else None
        self._options = orjson.OPT_NON_STR_KEYS if self._compiler.needs_keys else 0
        if self._compiler.has_time:  # orjson 3.13 writes 00:00:00.010000 as 00:00:00.10000
            self._options |= orjson.OPT_PASSTHROUGH_DATETIME
        self._compiler.converted = False
        self._strict = msgspec.json.Decoder(self._struct(forbid_unknown_fields=True))
        self._lenient = msgspec.json.Decoder(self._struct())

    def initial(self) -> dict[str, Any]:
        """The attributes of an object that was never stored: fresh defaults, in the order of the fields."""
        return {name: each.make() for name, each in self.defaults.items()}

    def encode(self, obj: Any) -> bytes:
        """The state of an instance as JSON text. Raises PersistenceFailed naming the path of what has no such form."""
        try:
            data = orjson.dumps(obj, self._hook, self._options)
        except (TypeError, ValueError, RecursionError) as error:
            data = self._repaired(obj, error)
        if EXTRA in obj.__dict__:
            data = dumps_with_unknown(obj, hook, self._options)
        return data if len(data) > ORJSON_BUFFER_BYTES else b"".join((data, b""))  # a copy of its own size

    def verify(self, obj: Any, data: bytes) -> bytes:
        """Refuse a state that would not come back from `data` exactly as it is; return the text to store.

        That is `data`, unless an int stood in the place of a float: then the instance now has the float, and the
        text is made again. Raises PersistenceFailed naming the path, and TooLarge.
        """
        if len(data) > STATE_BYTES_MAX:
            size = f"the state is {len(data)} bytes, more than the {STATE_BYTES_MAX} allowed"
            raise TooLarge(f"{self.owner}: {size}; spread it over several objects")
        attributes = obj.__dict__
        try:
            for name, kinds, accept in self._rows:
                value = attributes[name]
                if type(value) not in kinds:
                    accepted = accept(value)
                    if accepted is not value:
                        attributes[name] = accepted
        except KeyError:
            raise self._refused(Mismatch("the attribute was deleted; assign a value to it instead").at(name)) from None
        except Mismatch as problem:
            raise self._refused(problem.at(name)) from None
        except RecursionError:
            raise self._refused(Mismatch(_TOO_DEEP).at(name)) from None
        if not self._allowed.issuperset(attributes):
            self._allow(attributes)
        if self._compiler.converted:
            self._compiler.converted = False
            return self.encode(obj)
        return data

    def decode(self, data: bytes) -> dict[str, Any]:
        """The attributes of a stored object, typed; defaults fill what is missing. Raises StateUnreadable."""
        try:
            return msgspec.structs.asdict(self._strict.decode(data))
        except Exception:  # noqa: S110 - unknown fields, or something worse that shows itself again
            pass
        return self._decode_other(data)

    def encode_loaded(self, obj: Any, stored: bytes | None) -> bytes:
        """The text of an object that was just decoded from `stored` (None: it is new).

        Where that differs, dataclasses inside the state keep from now on what they do not declare.
        Raises PersistenceFailed.
        """
        data = self.encode(obj)
        if data == stored:
            return stored  # one text, not two that are equal
        if stored is None or not self._compiler.has_dataclass:
            return data
        found = raw_fields(stored)
        if self._version_in(found) != self.version or not self._keep_nested(obj.__dict__, found):
            return data
        return self.encode(obj)

    def version_of(self, data: bytes) -> int:
        """The version of the class that wrote a text. Raises StateUnreadable."""
        try:
            return self._version_in(raw_fields(data))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise self._unreadable(error) from error

    def _decode_other(self, data: bytes) -> dict[str, Any]:
        """What the strict decoder refused: text of other code, or of nobody."""
        try:
            found = raw_fields(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise self._unreadable(error) from error
        version = self._version_in(found)
        if version > self.version:
            said = f"the row was written by version {version} of the class, and this code knows version {self.version}"
            raise StateUnreadable(f"{self.owner}: {said}: deploy code that knows it, and call again")
        return self._decode_leniently(data, found)

    def _decode_leniently(self, data: bytes, found: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
        try:
            attributes = msgspec.structs.asdict(self._lenient.decode(data))
        except Exception as error:  # dataclasses of users may raise anything in __post_init__
            raise self._unreadable(error) from error
        unknown = {name: raw.copy() for name, raw in found.items() if name not in self.fields and name != SCHEMA}
        if unknown:
            attributes[EXTRA] = unknown
        if self._compiler.has_dataclass:
            self._keep_nested(attributes, found)
        return attributes

    def _keep_nested(self, attributes: dict[str, Any], found: Mapping[str, msgspec.Raw]) -> bool:
        kept = sum(keep_nested(attributes[name], found[name]) for name in self.fields if name in found) > 0
        if kept:
            attributes.setdefault(EXTRA, {})
        return kept

    def _version_in(self, found: Mapping[str, msgspec.Raw]) -> int:
        """The version of the class that wrote a text. Raises StateUnreadable."""
        raw = found.get(SCHEMA)
        if raw is None:
            return 1
        try:
            version = msgspec.json.decode(raw, type=int)
        except msgspec.MsgspecError as error:
            raise self._unreadable(error, f".{SCHEMA}") from error
        if version < 1:
            raise StateUnreadable(f"{self.owner}: state.{SCHEMA}: there is no version {version}")
        return version

    def _unreadable(self, error: Exception, path: str = "") -> StateUnreadable:
        return StateUnreadable(f"{self.owner}: {_located(error, path)}")

    def _shape(self, name: str, hint: Any) -> Shape:
        try:
            shape = self._compiler.of(hint)
            msgspec.json.Decoder(hint)
        except Unsupported as error:
            raise Unsupported(f"field {name!r}: {error}") from None
        except (TypeError, NameError, AttributeError) as error:
            advice = f". {_AMBIGUOUS}" if "union" in str(error) else ""
            raise Unsupported(f"field {name!r}: {_plainly(str(error))}{advice}") from None
        return shape

    def _default(self, name: str, default: Default | None) -> Default:
        """The default as a reload would give it. A factory is tried only where calling it can have no effect."""
        shape = self.shapes[name]
        if default is None:
            if NoneType in shape.kinds:
                return Default()
            said = f"has no default, so it starts as None, which is no {shape.text}"
            raise Unsupported(f"field {name!r} {said}; write {name}: {shape.text} | None, or give it a default")
        if default.factory is not None and default.factory not in _PLAIN_FACTORIES:
            return default
        try:
            fitting = shape.accept(default.make())
        except Mismatch as problem:
            said = f"the default does not fit the annotation: {problem.reason}"
            raise Unsupported(f"field {name + problem.path!r}: {said}") from None
        return default if default.factory is not None else Default(fitting)

    def _struct(self, **config: Any) -> type[msgspec.Struct]:
        declared = [(name, hint, self.defaults[name].as_field()) for name, hint in self.fields.items()]
        return msgspec.defstruct("State", declared, kw_only=True, **config)

    def _refused(self, problem: Mismatch) -> PersistenceFailed:
        return PersistenceFailed(f"{self.owner}: state.{problem.path}: {problem.reason}")

    def _allow(self, attributes: dict[str, Any]) -> None:
        """Names that begin with an underscore are scratch; any other has to be declared."""
        for name in attributes:
            if name not in self._allowed and not name.startswith("_"):
                advice = "annotate it in the class, or begin its name with an underscore to keep it out of the state"
                raise self._refused(Mismatch(f"{self.owner} declares no field of this name: {advice}").at(name))
        if len(self._allowed) < _NAMES_MAX:
            self._allowed = self._allowed.union(attributes)

    def _repaired(self, obj: Any, error: Exception) -> bytes:
        """What orjson refused: an int that is too large, but a float by its annotation; or a place to be found."""
        if data := self.verify(obj, b""):
            return data
        for name, value in obj.__dict__.items():
            if not name.startswith("_"):
                path, reason = _culprit(value, self._hook, self._options)
                if reason:
                    raise self._refused(Mismatch(reason).at(name + path)) from None
        raise PersistenceFailed(f"{self.owner}: the state cannot be stored: {error}") from None


_TOO_DEEP = "nested too deep (orjson writes 254 levels), or contains itself"
_NAMES_MAX = 1000
"""Names of scratch that are remembered, so that a class which makes them up does not fill the memory."""
_PLAIN_FACTORIES = (list, dict, set, frozenset, tuple, str, bytes, int, float, bool)
_AMBIGUOUS = "JSON could not tell such values apart when they are read; use separate fields, or tagged msgspec.Structs"


def hook(value: Any) -> Any:
    """What orjson cannot write by itself, in the form that msgspec reads."""
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, msgspec.Struct):
        return _fields_of(value)
    if isinstance(value, tuple):
        return tuple(value)
    raise TypeError(f"{type(value).__qualname__} has no form in JSON")


def _fields_of(struct: msgspec.Struct) -> Any:
    """One level of a Struct; msgspec's own encoder has no way to keep the order of dicts and fix that of sets."""
    config = struct.__struct_config__
    values = msgspec.structs.astuple(struct)
    if config.array_like:
        return values if config.tag is None else (config.tag, *values)
    named = dict(zip(struct.__struct_encode_fields__, values, strict=True))
    return named if config.tag is None else {config.tag_field: config.tag, **named}


def _ordered(values: set[Any] | frozenset[Any]) -> list[Any]:
    """Equal sets have equal text, or an unchanged state would be written again."""
    kinds = set(map(type, values))
    if kinds <= {int} or kinds <= {str}:
        return sorted(values)
    return sorted(values, key=lambda each: orjson.dumps(each, hook, orjson.OPT_NON_STR_KEYS))


_WRITERS: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: b64encode(value).decode(),
    Decimal: str,
    set: _ordered,
    frozenset: _ordered,
    timedelta: msgspec.to_builtins,
    date: date.isoformat,
    datetime: datetime.isoformat,
    time: time.isoformat,
}


def _culprit(value: Any, default: Callable[[Any], Any] | None, options: int) -> tuple[str, str | None]:
    """The path to the smallest part that orjson refuses, and its reason; no reason when it refuses nothing."""
    path = ""
    while True:
        reason = _refusal(value, default, options)
        if reason is None or "ecursion" in reason:
            return path, reason and _TOO_DEEP
        refused = (each for each in _parts(value) if _refusal(each[1], default, options))
        step, part = next(refused, ("", None))
        if not step:
            return path, reason
        path, value = path + step, part


def _refusal(value: Any, default: Callable[[Any], Any] | None, options: int) -> str | None:
    try:
        orjson.dumps(value, default, options)
    except (TypeError, ValueError, RecursionError) as error:
        return f"{type(value).__qualname__} cannot be stored: {error.__cause__ or error}"
    return None


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", each) for key, each in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{index}]", each) for index, each in enumerate(value)]
    if is_dataclass(value):
        return [(f".{each.name}", getattr(value, each.name, None)) for each in fields(value)]
    if isinstance(value, msgspec.Struct):
        return [(f".{name}", getattr(value, name)) for name in value.__struct_fields__]
    return []


_WHERE = re.compile(r" - at `(?:key` in `)?\$(.*?)`$")


def _located(error: Exception, path: str = "") -> str:
    """msgspec's message with the path in front: `state.count: expected int, got str`."""
    text = str(error)
    where = _WHERE.search(text)
    path = f"state{path}" + (where[1] if where else "")
    return f"{path}: {_plainly(_WHERE.sub('', text))}"


def _plainly(text: str) -> str:
    text = text.replace("`", "").replace("JSON is malformed: ", "not JSON: ")
    return text[:1].lower() + text[1:]

"""Errors that begin where objects live, and the map in which any error of the engine travels.

A docstring is the default message: what happened to the state, and whether to retry. Errors of storage are in
`durable_storage.errors`; `durable_engine.errors` re-exports all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, dataclass_transform, get_args, get_type_hints
from weakref import WeakValueDictionary

import msgspec

from durable_storage import errors as storage_errors
from durable_storage.errors import DurableError, Outcome


class DefinitionError(DurableError, TypeError):
    """A class is declared in a way that cannot work; nothing was registered. The message says what to write."""


class HandlerFailed(DurableError):
    """The handler raised an exception; everything its turn did was undone.

    `remote_type`, `remote_message` and `traceback` are those of the exception. Retrying runs the same code again.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        remote_type: str = "",
        remote_message: str = "",
        traceback: str = "",
        retryable: bool | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        said = ": ".join(part for part in (remote_type, remote_message) if part)
        super().__init__(message or said, retryable=retryable, outcome=outcome)
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.traceback = traceback

    @classmethod
    def readonly_violation(cls, handler: str) -> HandlerFailed:
        """A handler that promised not to change the state changed it."""
        said = f"handler {handler!r} is declared readonly=True but changed the state; everything it did was undone"
        return cls(said, remote_type="ReadOnlyViolation", remote_message=said)


class UnknownClass(DurableError):
    """No class of this name is served here; nothing was run. Start the engine with the module that declares it."""


class UnknownHandler(DurableError):
    """The class has no handler of this name; nothing was run. Only methods under @handler can be called."""


class InvalidArguments(DurableError):
    """The arguments do not fit the handler's signature; nothing was run. Correct them and call again."""


class CallTimeout(DurableError, TimeoutError):
    """The time was over before the reply came; whether the call took effect is unknown.

    Ask the object, or repeat the call when it carries an idempotency key (then `retryable` is true).
    """

    default_outcome: ClassVar[Outcome] = "unknown"


class Overloaded(DurableError):
    """The object's mailbox or the shard is full; nothing was run. Retry after a moment."""

    default_retryable: ClassVar[bool] = True


class ReentrantCall(DurableError):
    """The call came back to an object that waits for it; nothing was run.

    `chain` names the objects, outermost first. Break the cycle, or declare the class with reentrant=True.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        chain: Sequence[str] = (),
        retryable: bool | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        if message is None and chain:
            message = f"{' -> '.join(chain)} comes back to an object that waits for this call; nothing was run"
        super().__init__(message, retryable=retryable, outcome=outcome)
        self.chain = tuple(chain)


class ObjectParked(DurableError):
    """The object took its shard down repeatedly and was set aside; nothing was run. Repair it, then unpark."""


class IdempotencyMismatch(DurableError):
    """The idempotency key was used before with another handler or other arguments; nothing was run."""


class AccessDenied(DurableError):
    """The caller may not do this; nothing was run."""


class EngineClosed(DurableError):
    """This engine or client is not open; nothing was run. Use it inside its `with` block."""


class NotOwner(DurableError):
    """This shard does not own the object; nothing was run. Clients ask for the routes and send it again."""

    default_retryable: ClassVar[bool] = True


class ProtocolProblem(DurableError):
    """The message does not follow the protocol; nothing was run. The caller's library is at fault."""


@dataclass_transform(kw_only_default=True)
class Rejected(DurableError):
    """The object refused the call; everything its turn did was undone.

    Raise it with a text, or declare a subclass: its annotations are the fields, its docstring the message.

        class OutOfStock(Rejected):
            '''There are not enough of these.'''
            sku: str
            left: int

        raise OutOfStock(sku="x", left=2)

    The caller gets the same class with the same fields, where that class is loaded; otherwise a plain `Rejected`
    whose `fields` hold them. Retrying is useless until something changes.
    """

    _declared: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        annotations = inspect.get_annotations(cls)
        own = [n for n, hint in annotations.items() if n[0] != "_" and "ClassVar" not in str(hint)]
        for name in own:
            if hasattr(Rejected, name) or name in ("self", "message", "retryable", "outcome"):
                raise DefinitionError(
                    f"{cls.__name__}.{name}: every Rejected has a {name!r} of its own; choose another name"
                )
        cls._declared = tuple(dict.fromkeys((*cls._declared, *own)))
        cls._defaults = cls._defaults | {name: vars(cls)[name] for name in own if name in vars(cls)}
        _rejections[_path_of(cls)] = cls

    def __init__(
        self,
        message: str | None = None,
        *,
        retryable: bool | None = None,
        outcome: Outcome | None = None,
        **fields: Any,
    ) -> None:
        given = self._defaults | fields
        missing = [name for name in self._declared if name not in given]
        unknown = [name for name in given if name not in self._declared]
        if missing or unknown:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has no field {', '.join(unknown)}"
            raise TypeError(f"{type(self).__name__}({', '.join(self._declared)}) {wrong}")
        super().__init__(message, retryable=retryable, outcome=outcome)
        self._hold({name: given[name] for name in self._declared})

    def _hold(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        for name in self._declared:
            setattr(self, name, fields[name])

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields by name."""
        return self._fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rejected) or type(other) is not type(self):
            return NotImplemented
        return (self.message, self._fields) == (other.message, other._fields)

    def __hash__(self) -> int:
        return hash((type(self), self.message))

    def __repr__(self) -> str:
        default = (type(self).__doc__ or type(self).__name__).partition("\n")[0]
        shown = [repr(self.message)] if self.message != default else []
        shown += [f"{name}={value!r}" for name, value in self._fields.items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._restored, (self.message, self._fields, self.retryable, self.outcome)

    @classmethod
    def _restored(cls, message: str, fields: dict[str, Any], retryable: bool, outcome: Outcome) -> Rejected:
        """An instance without calling the constructor, which users may have replaced."""
        rejected = cls.__new__(cls, message)
        DurableError.__init__(rejected, message or None, retryable=retryable, outcome=outcome)
        rejected._hold(fields)  # noqa: SLF001 - of this module
        return rejected

    def _to_wire(self) -> dict[str, Any]:
        fields = {name: _plain(value) for name, value in self._fields.items()}
        return {"class": _path_of(type(self)), "fields": fields}

    @staticmethod
    def _from_wire(wire: Mapping[Any, Any], message: str, retryable: bool, outcome: Outcome) -> Rejected:
        raw = wire.get("fields")
        fields = {str(name): value for name, value in raw.items()} if isinstance(raw, dict) else {}
        kind = _find_rejection(wire.get("class"))
        if kind is not None and set(fields) == set(kind._declared):  # noqa: SLF001 - of this module
            try:
                return kind._restored(message, _typed(kind, fields), retryable, outcome)  # noqa: SLF001 - of this module
            except Exception:  # noqa: S110 - the class is a user's, with who knows what in it; the plain form works
                pass
        return Rejected._restored(message, fields, retryable, outcome)


_rejections: WeakValueDictionary[str, type[Rejected]] = WeakValueDictionary()


def _path_of(cls: type[Rejected]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find_rejection(path: Any) -> type[Rejected] | None:
    """By module and name; else by a name that only one class has (`__main__` there is a module here)."""
    if not isinstance(path, str):
        return None
    name = path.rpartition(":")[2]
    same = {cls for cls in list(_rejections.values()) if cls.__qualname__ == name}
    return _rejections.get(path) or (same.pop() if len(same) == 1 else None)


def _plain(value: Any) -> Any:
    """A field as plain values for msgpack and JSON alike; what has none is sent as its repr."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, order="deterministic")
        msgspec.msgpack.encode(plain)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return _text(_repr(value))
    return plain


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} without text: {type(error).__name__}>"


def _typed(cls: type[Rejected], fields: dict[str, Any]) -> dict[str, Any]:
    """Plain values as the types that the class declares, or as they came where they do not fit."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        return fields
    typed = dict(fields)
    for name, value in fields.items():
        try:
            typed[name] = msgspec.convert(value, hints.get(name, Any), str_keys=True)
        except (msgspec.MsgspecError, TypeError, ValueError):
            continue
    return typed


_EXTRAS: dict[type[DurableError], tuple[str, ...]] = {
    HandlerFailed: ("remote_type", "remote_message", "traceback"),
    ReentrantCall: ("chain",),
}
_KNOWN: dict[str, type[DurableError]] = {
    name: value
    for name, value in (vars(storage_errors) | globals()).items()
    if isinstance(value, type) and issubclass(value, DurableError)
}


def error_to_wire(error: DurableError) -> dict[str, Any]:
    """An error as a map of plain values, for msgpack and JSON alike. Never fails."""
    kind = next(cls for cls in type(error).__mro__ if _KNOWN.get(cls.__name__) is cls)
    wire = {
        "type": kind.__name__,
        "message": _text(error.message),
        "retryable": error.retryable,
        "outcome": error.outcome,
    }
    if isinstance(error, Rejected):
        return wire | error._to_wire()  # noqa: SLF001 - of this module
    for name in _EXTRAS.get(kind, ()):
        value = getattr(error, name)
        wire[name] = _text(value) if isinstance(value, str) else [_text(each) for each in value]
    return wire


def error_from_wire(wire: Any) -> DurableError:
    """The error that a map stands for. Survives every map: what is unknown becomes a DurableError saying so."""
    if not isinstance(wire, dict):
        return DurableError(f"the server sent an error that is no map: {wire!r:.200}", outcome="unknown")
    name, message = wire.get("type"), _string(wire.get("message"))
    retryable = wire.get("retryable") is True
    outcome: Outcome = next((each for each in get_args(Outcome) if each == wire.get("outcome")), "unknown")
    if name == "Rejected":
        return Rejected._from_wire(wire, message, retryable, outcome)  # noqa: SLF001 - of this module
    kind = _KNOWN.get(name) if isinstance(name, str) else None
    if kind is None:
        text = f"{_string(name)}: {message}" if message else f"{name!s:.100} (an error this version does not know)"
        return DurableError(text, retryable=retryable, outcome=outcome)
    extras: dict[str, Any] = {each: _string(wire.get(each)) for each in _EXTRAS.get(kind, ())}
    if "chain" in extras:
        chain = wire.get("chain")
        extras["chain"] = [_string(each) for each in chain] if isinstance(chain, (list, tuple)) else ()
    return kind(message or None, retryable=retryable, outcome=outcome, **extras)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value!r:.500}"


def _text(value: str) -> str:
    """Exceptions of users may carry text that is no Unicode."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()

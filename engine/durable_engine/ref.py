"""Typed references: `await engine.at(Counter, "user-123").increment(5)`.

For every class a reference class is generated once, with a plain method per handler, so that a call costs no attribute
magic. To type checkers a reference *is* the class: its handlers are awaitable methods there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from durable_engine.pending import Target
from durable_shards.spec import spec_of

if TYPE_CHECKING:
    from durable_shards.signature import ResultDecoder
    from durable_shards.spec import ClassSpec


class ClassUse:
    """What a client needs to know of a class: its stored name, its timeout, and how results are decoded."""

    __slots__ = ("decoders", "object_type", "reference", "spec", "timeout")

    def __init__(self, spec: ClassSpec) -> None:
        self.spec = spec
        self.object_type = spec.name
        self.timeout = spec.options.call_timeout
        self.decoders: dict[str, ResultDecoder] = {
            name: handler.decode_result for name, handler in spec.handlers.items()
        }
        self.reference = _reference_class(self)

    def copy(self, state: bytes) -> Any:
        """An instance with this stored state; it belongs to no engine, as if made by hand. Raises StateUnreadable."""
        copy = self.spec.revive(state, None)
        del copy.__dict__["_durable"]
        return copy


class Submitter(Protocol):
    """What a reference needs of its engine: the way calls leave, of which there are several."""

    _submit: Callable[..., Any]


class Reference:
    """The base of all generated reference classes. Handlers never begin with an underscore, so nothing collides."""

    # In one, because `__getattr__` makes every look at an attribute a slow one.
    __slots__ = ("_parts",)

    def __init__(self, engine: Submitter, target: Target, timeout: float | None) -> None:
        self._parts = (engine, target, timeout)

    def __repr__(self) -> str:
        return f"<reference to {self._parts[1]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._parts[1] == other._parts[1] and self._parts[0] is other._parts[0]

    def __hash__(self) -> int:
        return hash(self._parts[1])


class NamedReference(Reference):
    """A reference to an object of a class that is known by its stored name only; every attribute is a handler."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            engine, target, timeout = self._parts
            return engine._submit(target, name, args, kwargs, timeout, None, 0, None, None, None)  # noqa: SLF001 - made for us

        return call


_uses: dict[type, ClassUse] = {}


def use_of(cls: type) -> ClassUse:
    """What is known of a class, compiled at its first use. Raises DefinitionError for what is no DurableObject."""
    try:
        return _uses[cls]
    except (KeyError, TypeError):  # not known yet, or nothing that could be
        use = ClassUse(spec_of(cls))
    return _uses.setdefault(cls, use)


def _reference_class(use: ClassUse) -> type[Reference]:
    spec = use.spec

    def missing(self: Reference, name: str) -> NoReturn:  # noqa: ARG001
        known = ", ".join(sorted(spec.handlers)) or "none"
        raise AttributeError(f"{spec.name} has no handler {name!r}; its handlers are: {known}")

    body: dict[str, Any] = {
        "__slots__": (),
        "__doc__": spec.cls.__doc__,
        "__module__": spec.cls.__module__,
        "__getattr__": missing,
    }
    for name, handler in spec.handlers.items():
        body[name] = _method(name, use.decoders[name], use.timeout, handler.function)
    return type(f"{spec.cls.__name__}Reference", (Reference,), body)


def _method(name: str, decode: ResultDecoder, timeout: float, func: Any) -> Callable[..., Any]:
    def call(self: Reference, /, *args: Any, **kwargs: Any) -> Any:
        engine, target, own_timeout = self._parts
        return engine._submit(  # noqa: SLF001 - made for us
            target, name, args, kwargs, own_timeout or timeout, None, 0, None, None, decode
        )

    call.__name__ = name
    call.__qualname__ = getattr(func, "__qualname__", name)
    call.__doc__ = func.__doc__
    return call

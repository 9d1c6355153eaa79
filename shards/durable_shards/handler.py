"""Handlers: the methods that callers may use, and the compiled form in which a shard runs them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload
from weakref import WeakKeyDictionary

from durable_shards.errors import DefinitionError
from durable_shards.fields import Scope, check_name
from durable_shards.signature import Signature, read_signature

P = ParamSpec("P")
R = TypeVar("R")


class Handler(Generic[P, R]):
    """A method under `@handler`.

    On the class it names the handler for `engine.call(Counter.increment, ...)`; on an instance it is an awaitable
    method, with which a handler is unit-tested without an engine: `await Counter(count=3).increment(2)`.
    """

    def __init__(self, function: Callable[..., Any], *, readonly: bool = False) -> None:
        self.function = function
        self.readonly = readonly
        self.name: str = function.__name__
        self.owner: type[Any] = object
        """The class it was taken from: `Sub.increment` knows `Sub`."""
        self._taken: WeakKeyDictionary[type[Any], Handler[P, R]] = WeakKeyDictionary()
        update_wrapper(self, function)  # type: ignore[arg-type]

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.owner, self.name = owner, name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Handler[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Any:
        if instance is not None:
            return partial(_run, self.function, instance)
        if owner is None or owner is self.owner:
            return self
        taken = self._taken.get(owner)
        if taken is None:
            taken = self._taken[owner] = Handler(self.function, readonly=self.readonly)
            taken.__set_name__(owner, self.name)
        return taken

    def __repr__(self) -> str:
        return f"<handler {self.owner.__name__}.{self.name}>"


async def _run(function: Callable[..., Any], instance: object, *args: Any, **kwargs: Any) -> Any:
    result = function(instance, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


class _Decorator(Protocol):
    """What `@handler(readonly=True)` gives."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Handler[P, R]: ...


@overload
def handler(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]: ...
@overload
def handler(function: Callable[Concatenate[Any, P], R], /) -> Handler[P, R]: ...
@overload
def handler(*, readonly: bool = ...) -> _Decorator: ...
def handler(function: Callable[..., Any] | None = None, /, *, readonly: bool = False) -> Any:
    """Declare a method, sync or async, that callers may use.

    It takes positional, keyword and default arguments; what it returns is the reply; changing `self` is how state
    changes. `raise Rejected(...)` undoes the turn and tells the caller why; any other exception undoes it as well.
    `readonly=True` promises that the state does not change, which spares its encoding.
    """
    if function is None:
        return partial(_declared, readonly=readonly)
    return _declared(function, readonly=readonly)


def _declared(function: Callable[..., Any], *, readonly: bool) -> Handler[Any, Any]:
    if not inspect.isfunction(function):
        said = f"@handler belongs directly above a plain method, not around {type(function).__name__}"
        raise DefinitionError(f"{said}; remove @staticmethod, @classmethod or @alarm: handlers get self")
    return Handler(function, readonly=readonly)


class HandlerSpec:
    """A handler, compiled for one class: what a shard needs to run it and a client to read its results."""

    __slots__ = ("bind", "decode_result", "doc", "func", "function", "is_async", "name", "readonly", "signature")

    def __init__(self, declared: Handler[Any, Any], compiled: Signature) -> None:
        function = declared.function
        self.name = declared.name
        self.function = function
        self.func: Callable[..., Any] = function if compiled.simple else partial(_spread, function)
        """Call it as `func(obj, *bound)`; the result is a coroutine when `is_async`."""
        self.readonly = declared.readonly
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        self.signature = compiled.text
        self.doc = inspect.getdoc(function) or ""
        self.bind = compiled.bind
        """Arguments of a call, converted, in the order of the parameters. Raises InvalidArguments."""
        self.decode_result = compiled.decode_result
        """A result that arrived as plain values, as the return annotation says."""

    def __repr__(self) -> str:
        return f"<HandlerSpec {self.signature}>"


def _spread(function: Callable[..., Any], obj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(obj, *args, **kwargs)


def compile_handler(owner: type, declared: Handler[Any, Any], scope: Scope) -> HandlerSpec:
    """Check a handler and compile it. Raises DefinitionError, saying what to write instead."""
    name, function = declared.name, declared.function
    where = f"{owner.__name__}.{name}"
    check_name(owner, "handler", name)
    if name == "alarm":
        raise DefinitionError(f"{where}: this name would hide the @alarm decorator; give the handler another name")
    if name.startswith(("_", "$")):
        raise DefinitionError(f"{where}: names that begin with an underscore are private; callers need a public one")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"{where}: a handler gives one reply; return a list instead of yielding its items")
    return HandlerSpec(declared, read_signature(owner, name, function, scope))

"""How programs call handlers: by reference, by handler, by name, one way."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, overload

from durable_engine.backend import Backend
from durable_engine.pending import Target, check_prefix, target_of
from durable_engine.ref import ClassUse, NamedReference, use_of
from durable_engine.timeouts import in_seconds
from durable_shards.errors import EngineClosed, InvalidArguments, UnknownHandler
from durable_shards.handler import Handler
from durable_shards.object import DurableObject
from durable_shards.signature import ResultDecoder
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH, FLAG_ONE_WAY

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=DurableObject)
Timeout = float | timedelta | None
Submit = Callable[..., asyncio.Future[Any]]
"""`Backend.submit`, with all its arguments by position."""


class Calling:
    """The part of `Engine` that calls handlers."""

    def __init__(self, prefix: str | None, exactly_once: bool, call_timeout: Timeout) -> None:
        self._backend: Backend | None = None
        self._submit: Submit = self._refuse
        self._submit_plain: Submit = self._refuse
        """The same without the keys of `exactly_once`."""
        self._prefix = "" if prefix is None else prefix
        check_prefix(self._prefix)
        self._call_timeout = in_seconds(call_timeout)
        self._use_of = use_of
        """Every class that is used passes here, so that a test's engine may serve classes that nobody listed."""
        self._exactly_once = exactly_once
        self._keys = map(f"{secrets.token_hex(10)}-{{:x}}".format, itertools.count(1))

    @overload
    def at(self, cls: type[T], object_id: str, *, prefix: str | None = None, timeout: Timeout = None) -> T: ...
    @overload
    def at(self, cls: str, object_id: str, *, prefix: str | None = None, timeout: Timeout = None) -> Any: ...
    def at(self, cls: type[T] | str, object_id: str, *, prefix: str | None = None, timeout: Timeout = None) -> Any:
        """A typed reference to one object: `await engine.at(Counter, "user-123").increment(5)`.

        Nothing is sent before a handler is called. Raises InvalidArguments or TooLarge for an id that can be none.
        """
        seconds = self._call_timeout if timeout is None else in_seconds(timeout)
        if isinstance(cls, str):
            target = target_of(self._prefix if prefix is None else prefix, cls, object_id)
            return NamedReference(self, target, seconds)
        use = self._use_of(cls)
        target = target_of(self._prefix if prefix is None else prefix, use.object_type, object_id)
        return use.reference(self, target, seconds)

    @overload
    def call(self, handler: Handler[P, R], object_id: str, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]: ...
    @overload
    def call(
        self,
        handler: Handler[..., R],
        object_id: str,
        /,
        *args: Any,
        prefix: str,
        timeout: Timeout = ...,
        idempotency_key: str | None = ...,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self,
        handler: Handler[..., R],
        object_id: str,
        /,
        *args: Any,
        prefix: str | None = ...,
        timeout: float | timedelta,
        idempotency_key: str | None = ...,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self,
        handler: Handler[..., R],
        object_id: str,
        /,
        *args: Any,
        prefix: str | None = ...,
        timeout: Timeout = ...,
        idempotency_key: str,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    def call(self, handler: Handler[..., Any], object_id: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call a handler: `await engine.call(Counter.increment, "user-123", 5)`.

        Without options, arguments are checked by type checkers; with `prefix`, `timeout` (seconds or timedelta) or
        `idempotency_key` they are checked by the server only. A handler that has parameters of these names is
        called through `at`.
        """
        return self._call(0, handler, object_id, args, **kwargs)

    def call_by_name(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        prefix: str | None = None,
        timeout: Timeout = None,
        idempotency_key: str | None = None,
    ) -> Awaitable[Any]:
        """Call a handler by strings, for whoever does not have the class; the result is plain builtins."""
        if type(handler) is not str:
            raise InvalidArguments(f"handler must be a str, not {type(handler).__name__}")
        if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
            raise InvalidArguments(f"args must be a list of arguments, not {args!r:.100}")
        if kwargs is not None and not (isinstance(kwargs, dict) and all(type(name) is str for name in kwargs)):
            raise InvalidArguments(f"kwargs must be a dict of arguments by name, not {kwargs!r:.100}")
        target = target_of(self._prefix if prefix is None else prefix, object_type, object_id)
        seconds = self._call_timeout if timeout is None else in_seconds(timeout)
        return self._submit(target, handler, list(args), kwargs, seconds, idempotency_key, 0, None, None, None)

    def send(self, handler: Handler[..., Any], object_id: str, /, *args: Any, **kwargs: Any) -> Awaitable[None]:
        """Call a handler one way. Awaiting tells that the call was handed over, and nothing of what became of it.

        Arguments and options are those of `call`. Errors are counted and logged by the shard; a crash in the next
        moment loses the call.
        """
        return self._call(FLAG_ONE_WAY, handler, object_id, args, **kwargs)

    def _call(
        self,
        flags: int,
        handler: Handler[..., Any],
        object_id: str,
        args: tuple[Any, ...],
        /,
        *,
        prefix: str | None = None,
        timeout: Timeout = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> asyncio.Future[Any]:
        use, decode = self._use_of_handler(handler)
        target = target_of(self._prefix if prefix is None else prefix, use.object_type, object_id)
        seconds = (self._call_timeout or use.timeout) if timeout is None else in_seconds(timeout)
        return self._submit(target, handler.name, args, kwargs, seconds, idempotency_key, flags, None, None, decode)

    def _attach(self, backend: Backend | None) -> None:
        """Open (or close, with None). What a call needs is decided here, once, and not by each call."""
        self._backend = backend
        if backend is None:
            self._submit = self._submit_plain = self._refuse
        else:
            self._submit = self._submit_keyed if self._exactly_once else backend.submit
            self._submit_plain = backend.submit

    def _submit_keyed(
        self,
        target: Target,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None,
        timeout: float | None,
        key: str | None,
        flags: int,
        chain: list[str] | None,
        trace: dict[str, str] | None,
        decode: ResultDecoder | None,
    ) -> asyncio.Future[Any]:
        if key is None:
            key = next(self._keys)
            flags |= FLAG_FRESH | FLAG_AUTO_KEY
        return self._submit_plain(target, handler, args, kwargs, timeout, key, flags, chain, trace, decode)

    @staticmethod
    def _refuse(*_: Any) -> asyncio.Future[Any]:
        raise EngineClosed("this engine is not open: use it inside `async with`, or call start()")

    def _use_of_handler(self, handler: Handler[..., Any]) -> tuple[ClassUse, ResultDecoder]:
        if not isinstance(handler, Handler):
            raise TypeError(
                f"expected a handler such as Counter.increment, not {handler!r}; by strings it is call_by_name"
            )
        use = self._use_of(handler.owner)
        try:
            return use, use.decoders[handler.name]
        except KeyError:
            raise UnknownHandler(f"{use.object_type} has no handler {handler.name!r}") from None

    def _opened(self) -> Backend:
        if self._backend is None:
            raise EngineClosed("this engine is not open: use it inside `async with`, or call start()")
        return self._backend

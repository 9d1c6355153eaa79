"""`Client`: the engine without `await`, for programs that have no event loop.

The event loop runs in a thread of its own. All methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from types import EllipsisType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import uvloop

from durable_engine.alarms import AlarmsOf
from durable_engine.calling import Timeout
from durable_engine.engine import Engine
from durable_engine.frontend import CONNECT_SECONDS
from durable_engine.views import AlarmView, EngineStatistics, ShardView
from durable_shards.alarms import Alarm, PendingAlarm
from durable_shards.errors import EngineClosed
from durable_shards.handler import Handler
from durable_shards.object import DurableObject

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=DurableObject)


class Client:
    """A blocking client of a running server.

        with Client("tcp://127.0.0.1:7400") as client:
            print(client.call(Counter.increment, "user-123", 5))

    Connects when it is made, waiting up to `timeout` (seconds or timedelta) for the server. A client does not survive
    `fork`: make it in the process that uses it.
    """

    def __init__(
        self,
        url: str,
        objects: Sequence[type[DurableObject] | str] | None = None,
        *,
        prefix: str | None = None,
        exactly_once: bool = False,
        call_timeout: Timeout = None,
        timeout: float | timedelta = CONNECT_SECONDS,
    ) -> None:
        self._engine = Engine.connect(
            url,
            objects,
            prefix=prefix,
            exactly_once=exactly_once,
            call_timeout=call_timeout,
            timeout=timeout,
        )
        self._pid = os.getpid()
        self._lock = threading.Lock()
        """What is handed to the loop's thread is handed over before `_closed` is set, or never."""
        self._closed = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="durable-client", daemon=True)
        self._thread.start()
        try:
            self._wait(self._engine.start())
        except BaseException:
            self._stop()
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # The engine is closed: what other threads wait for ends by itself, but it has to get as far as to tell them.
        while unfinished := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(unfinished))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, start: Callable[[], Awaitable[R]]) -> R:
        """Run `start` on the loop's thread and wait for what it returns."""
        if self._pid != os.getpid():
            raise EngineClosed(
                f"this client was made in process {self._pid} and did not survive fork; make another in this one"
            )

        async def run() -> R:
            return await start()

        with self._lock:
            if self._closed:
                raise EngineClosed("this client was closed; make another")
            result = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return result.result()

    def close(self) -> None:
        """Close the connections; calls of other threads that are under way fail with EngineClosed."""
        if self._pid != os.getpid():
            return  # the parent's, which goes on using it
        with self._lock:
            first, self._closed = not self._closed, True
        if not first:
            self._thread.join()
            return
        try:
            self._wait(self._engine.close())
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Calls.

    def at(
        self,
        cls: type[DurableObject] | str,
        object_id: str,
        *,
        prefix: str | None = None,
        timeout: Timeout = None,
    ) -> BlockingReference:
        """A reference to one object: `client.at(Counter, "user-123").increment(5)`. `call` is the typed form."""
        return BlockingReference(self._do, self._engine.at(cls, object_id, prefix=prefix, timeout=timeout))

    @overload
    def call(self, handler: Handler[P, R], object_id: str, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
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
    ) -> R: ...
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
    ) -> R: ...
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
    ) -> R: ...
    def call(self, handler: Handler[..., Any], object_id: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a handler and wait for its result; options as in `Engine.call`."""
        return self._do(lambda: self._engine.call(handler, object_id, *args, **kwargs))

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
    ) -> Any:
        """Call a handler by strings; the result is plain builtins."""
        return self._do(
            lambda: self._engine.call_by_name(
                object_type,
                object_id,
                handler,
                args,
                kwargs,
                prefix=prefix,
                timeout=timeout,
                idempotency_key=idempotency_key,
            )
        )

    def send(self, handler: Handler[..., Any], object_id: str, /, *args: Any, **kwargs: Any) -> None:
        """Call a handler one way; returns when the call was handed over."""
        self._do(lambda: self._engine.send(handler, object_id, *args, **kwargs))

    # One object, from outside.

    def alarms(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> BlockingAlarms:
        """The alarms of one object."""
        return BlockingAlarms(self._do, self._engine.alarms(cls, object_id, prefix=prefix))

    @overload
    def state(self, cls: type[T], object_id: str, *, prefix: str | None = None) -> T | None: ...
    @overload
    def state(self, cls: str, object_id: str, *, prefix: str | None = None) -> dict[str, Any] | None: ...
    def state(self, cls: Any, object_id: str, *, prefix: str | None = None) -> Any:
        """A detached copy of the committed state; None if the object never was."""
        return self._do(lambda: self._engine.state(cls, object_id, prefix=prefix))

    def wake(
        self,
        cls: type[DurableObject] | str,
        object_id: str,
        *,
        prefix: str | None = None,
        hibernate_after: timedelta | EllipsisType | None = ...,
        shutdown_after: timedelta | EllipsisType | None = ...,
    ) -> None:
        """Bring an object into memory, to stay as its class or else these options say; see `Engine.wake`."""
        options: dict[str, Any] = {"hibernate_after": hibernate_after, "shutdown_after": shutdown_after}
        self._do(lambda: self._engine.wake(cls, object_id, prefix=prefix, **options))

    def evict(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> bool:
        """Drop an object from memory; whether it was there."""
        return self._do(lambda: self._engine.evict(cls, object_id, prefix=prefix))

    def where(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> int | None:
        """The shard that has an object in memory, or None."""
        return self._do(lambda: self._engine.where(cls, object_id, prefix=prefix))

    def delete(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> bool:
        """Remove an object's state and alarms; whether there was anything."""
        return self._do(lambda: self._engine.delete(cls, object_id, prefix=prefix))

    def unpark(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> bool:
        """Serve an object again that was set aside; whether it was."""
        return self._do(lambda: self._engine.unpark(cls, object_id, prefix=prefix))

    # Everything.

    def objects(
        self,
        cls: type[DurableObject] | str,
        after: str | None = None,
        limit: int = 100,
        *,
        prefix: str | None = None,
    ) -> list[str]:
        """A page of stored ids, sorted."""
        return self._do(lambda: self._engine.objects(cls, after, limit, prefix=prefix))

    def all_alarms(
        self,
        *,
        orphaned: bool = False,
        after: AlarmView | None = None,
        limit: int = 100,
        prefix: str | None = None,
    ) -> list[AlarmView]:
        """A page of all alarms of a tenant, or of those that cannot fire."""
        return self._do(lambda: self._engine.all_alarms(orphaned=orphaned, after=after, limit=limit, prefix=prefix))

    def shards(self) -> list[ShardView]:
        """The shards of the server."""
        return self._do(self._engine.shards)

    def statistics(self) -> EngineStatistics:
        """What client, server and shards have seen."""
        return self._do(self._engine.statistics)

    def request(self, op: str, arguments: dict[str, Any] | None = None, *, timeout: Timeout = 5.0) -> Any:
        """Ask the server something by name (`docs/protocol.md` lists what)."""
        return self._do(lambda: self._engine.request(op, arguments, timeout=timeout))


class BlockingReference:
    """What `Client.at` returns: the handlers of one object, blocking."""

    def __init__(self, do: Callable[[Callable[[], Awaitable[Any]]], Any], reference: Any) -> None:
        self._do = do
        self._reference = reference

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._reference, name)
        return lambda *args, **kwargs: self._do(lambda: method(*args, **kwargs))

    def __repr__(self) -> str:
        return repr(self._reference)


class BlockingAlarms:
    """What `Client.alarms` returns."""

    def __init__(self, do: Callable[[Callable[[], Awaitable[Any]]], Any], alarms: AlarmsOf) -> None:
        self._do = do
        self._alarms = alarms

    def schedule(
        self,
        alarm: Alarm[..., Any] | str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        payload: Any = None,
        **recurrence: Any,
    ) -> None:
        """Arm an alarm, `after` a time from now or `at` an aware time."""
        self._do(lambda: self._alarms.schedule(alarm, after=after, at=at, payload=payload, **recurrence))

    def cancel(self, alarm: Alarm[..., Any] | str) -> bool:
        """Disarm one; whether it was armed."""
        return bool(self._do(lambda: self._alarms.cancel(alarm)))

    def cancel_all(self) -> int:
        """Disarm all; how many there were."""
        return int(self._do(self._alarms.cancel_all))

    def fire(self, alarm: Alarm[..., Any] | str) -> None:
        """Fire an armed alarm now, whatever its time."""
        self._do(lambda: self._alarms.fire(alarm))

    def retry(self, alarm: Alarm[..., Any] | str | None = None) -> int:
        """Arm again what was parked or waits for another attempt; how many."""
        return int(self._do(lambda: self._alarms.retry(alarm)))

    def pending(self) -> list[PendingAlarm]:
        """The armed alarms, soonest first."""
        found: list[PendingAlarm] = self._do(self._alarms.pending)
        return found

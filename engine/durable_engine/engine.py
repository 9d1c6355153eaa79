"""`Engine`: what programs use. One interface, whether the objects live in this process, in processes of its own, or on
a server.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from durable_engine.administration import Administration
from durable_engine.backend import Backend
from durable_engine.calling import Timeout
from durable_engine.frontend import CONNECT_SECONDS, Frontend
from durable_engine.private import PrivateSupervisor, start_private
from durable_engine.scheduling import alarm_settings
from durable_engine.supervisor_config import SupervisorConfig
from durable_engine.timeouts import in_seconds
from durable_shards.errors import EngineClosed
from durable_shards.object import DurableObject
from durable_shards.registry import Registry
from durable_storage.migrate import up
from durable_storage.urls import kind_of

_OF_PROCESSES = frozenset(field.name for field in fields(SupervisorConfig)) - {
    "objects",
    "store",
    "shards",
    "bind",
    "path",
}
_open: WeakKeyDictionary[Engine, asyncio.AbstractEventLoop] = WeakKeyDictionary()
"""In the order in which they were opened."""


def default_engine() -> Engine:
    """The engine that was opened last in this event loop and is still open, for code that was handed none.

    Raises EngineClosed when there is none. Handlers have `self.engine` for the same purpose, and should use that: what
    leaves through it waits for their own commit.
    """
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    opened = [engine for engine, loop in list(_open.items()) if loop is here]
    if not opened:
        raise EngineClosed(
            "no engine is open in this event loop; open one around this code: async with Engine(...) as engine"
        )
    return opened[-1]


def _check_option(name: str, shards: int) -> None:
    """Raises TypeError, unless it is a setting of processes, and there are any."""
    if name in _OF_PROCESSES:
        if shards == 0:
            raise TypeError(f"option {name} is one of shard processes, and with shards=0 there are none; leave it out")
        return
    known = sorted({*_OF_PROCESSES, *inspect.signature(Engine).parameters} - {"settings"})
    near = get_close_matches(name, known, n=1)
    raise TypeError(
        f"unknown option {name}; did you mean {near[0]}?"
        if near
        else f"unknown option {name}; there are {', '.join(known)}"
    )


class Engine(Administration):
    """Durable objects, by class and id.

        async with Engine("sqlite:///data", objects=[Counter], shards=0) as engine:
            print(await engine.at(Counter, "user-123").increment(5))

    `store` is a URL: `postgresql://…`, `sqlite:///directory` or `memory://`. `objects` are classes, module names or
    paths of files. `shards=0` runs the objects in this very process and event loop, `shards=N` in processes that
    belong to this engine. `prefix` is the tenant of all calls that name none. `migrate=None` creates and upgrades
    SQLite and memory stores by itself and refuses a PostgreSQL database of another version; `migrate=True` upgrades
    that too, with all its tenants, and makes the schema of `prefix`. With `exactly_once=True`
    every call carries an idempotency key, so that lost replies and their retries are invisible. `call_timeout`
    replaces the classes' own. `takeover=True` fences off another engine that holds the store. An alarm that fails is
    tried again after `alarm_backoff`, then after twice that time and so on, and parked after `alarm_attempts` of them;
    `alarm_poll` is the time between looks into the store for alarms that have come near (timedelta, or seconds).
    `scheduler="procrastinate"` hands alarms out as jobs of that queue, as `procrastinate_app`, `procrastinate_queue`,
    `procrastinate_concurrency` and `claim_ttl` say (docs/guide/schedulers.md); it then counts attempts.
    Further `settings` are those of the processes (`durable_engine.supervisor_config`).
    """

    def __init__(
        self,
        store: str,
        *,
        objects: Sequence[type[DurableObject] | str],
        shards: int = 0,
        prefix: str | None = None,
        migrate: bool | None = None,
        exactly_once: bool = False,
        takeover: bool = False,
        call_timeout: Timeout = None,
        strict_readonly: bool = False,
        alarm_poll: timedelta | float = 30.0,
        alarm_attempts: int = 10,
        alarm_backoff: timedelta | float = 1.0,
        scheduler: str = "deadline",
        procrastinate_app: str | None = None,
        procrastinate_queue: str = "durable_alarms",
        procrastinate_concurrency: int = 8,
        claim_ttl: timedelta | float = 60.0,
        **settings: Any,
    ) -> None:
        if isinstance(objects, (str, type)):
            raise TypeError(f"objects must be a list: objects=[{getattr(objects, '__name__', repr(objects))}]")
        if not isinstance(shards, int) or shards < 0:
            raise ValueError(f"shards must be 0 (in this process) or a number of processes, not {shards!r}")
        for name in settings:
            _check_option(name, shards)
        if not isinstance(store, str):
            raise TypeError(f"store must be a URL such as 'sqlite:///data', not {store!r}")
        super().__init__(prefix, exactly_once, call_timeout)
        self._store = store
        self._objects = list(objects)
        self._shards = shards
        self._settings: dict[str, Any] = {
            **settings,
            "migrate": migrate,
            "takeover": takeover,
            "strict_readonly": strict_readonly,
            "alarms": alarm_settings(
                alarm_poll=alarm_poll,
                alarm_attempts=alarm_attempts,
                alarm_backoff=alarm_backoff,
                scheduler=scheduler,
                procrastinate_app=procrastinate_app,
                procrastinate_queue=procrastinate_queue,
                procrastinate_concurrency=procrastinate_concurrency,
                claim_ttl=claim_ttl,
            ),
        }
        self._supervisor: PrivateSupervisor | None = None
        self._started = False

    @staticmethod
    def connect(
        url: str,
        objects: Sequence[type[DurableObject] | str] | None = None,
        *,
        prefix: str | None = None,
        exactly_once: bool = False,
        call_timeout: Timeout = None,
        timeout: float | timedelta = CONNECT_SECONDS,
    ) -> Engine:
        """An engine on a running server. `timeout`: how long opening waits for the server to be there.

        `objects` are modules to import, so that errors and results that the server sends come out as their classes.
        """
        return _Connected(url, objects, prefix, exactly_once, call_timeout, timeout)

    async def start(self) -> Self:
        """Open the engine; `async with` does the same.

        Raises what kept it from opening: Unavailable, StoreInUse, SchemaMismatch, DataLossDetected and others.
        """
        if self._started:
            raise EngineClosed("this engine was opened before; make another one")
        self._started = True
        self._attach(await self._open())
        _open[self] = asyncio.get_running_loop()
        return self

    async def close(self) -> None:
        """Finish what runs, commit it, and let go of everything; `async with` does the same."""
        self._started = True
        _open.pop(self, None)
        backend, supervisor, self._supervisor = self._backend, self._supervisor, None
        self._attach(None)
        try:
            if supervisor is not None:
                await asyncio.sleep(0)  # what was called in this tick leaves
                if backend is not None:
                    await backend.answered()
                await supervisor.stop()  # its shards answer what they have before they end
        finally:
            if backend is not None:
                await backend.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def url(self) -> str | None:
        """Where other programs can reach this engine's server; None when the objects live in this process."""
        return self._supervisor.endpoint if self._supervisor is not None else None

    async def _open(self) -> Backend:
        if self._prefix and self._settings["migrate"] and kind_of(self._store) == "postgresql":
            await up(self._store, prefix=self._prefix)  # whoever opens the store knows nothing of our tenant
        if self._shards == 0:
            # A client needs none of the shard: a fifth of its start-up time.
            from durable_engine.embedded import Embedded, EmbeddedSettings  # noqa: PLC0415

            return await Embedded.start(EmbeddedSettings(self._store, self._objects, **self._settings))
        self._supervisor = await start_private(self._store, self._objects, self._shards, self._settings)
        try:
            return await Frontend.connect(self._supervisor.endpoint)
        except BaseException:
            await self._supervisor.stop()
            raise


class _Connected(Engine):
    """An engine on a server that somebody else runs."""

    def __init__(
        self,
        url: str,
        objects: Sequence[type[DurableObject] | str] | None,
        prefix: str | None,
        exactly_once: bool,
        call_timeout: Timeout,
        timeout: float | timedelta,
    ) -> None:
        if not isinstance(url, str):
            raise TypeError(f"expected an address such as 'tcp://127.0.0.1:7400', not {url!r}")
        super().__init__("", objects=objects or (), prefix=prefix, exactly_once=exactly_once, call_timeout=call_timeout)
        self._url = url
        self._connect_timeout = in_seconds(timeout) or CONNECT_SECONDS  # None: the default

    @property
    def url(self) -> str:
        return self._url

    async def _open(self) -> Backend:
        if self._objects:
            Registry.load(self._objects)
        return await Frontend.connect(self._url, self._connect_timeout)

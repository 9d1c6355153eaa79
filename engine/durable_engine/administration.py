"""What programs do to objects from outside, without calling their handlers, and what they see of the whole."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from types import EllipsisType
from typing import Any, TypeVar, overload

import orjson

from durable_engine.alarms import AlarmsOf
from durable_engine.calling import Calling, Timeout
from durable_engine.frontend import Frontend
from durable_engine.pending import Target, check_prefix, target_of
from durable_engine.timeouts import CALL_TIMEOUT_SECONDS, in_seconds
from durable_engine.views import AlarmView, ClientStatistics, EngineStatistics, ShardView, alarm_view, shard_view
from durable_shards.errors import InvalidArguments
from durable_shards.object import DurableObject
from durable_storage.codec import SCHEMA

T = TypeVar("T", bound=DurableObject)

PAGE_MAX = 10_000
"""Ids in one page of `objects`."""


class Administration(Calling):
    """The part of `Engine` that looks at objects, drops and removes them, and lists them."""

    def _target(self, cls: type[DurableObject] | str, object_id: str, prefix: str | None) -> Target:
        object_type = cls if isinstance(cls, str) else self._use_of(cls).object_type
        return target_of(self._prefix if prefix is None else prefix, object_type, object_id)

    def _ask(
        self, cls: type[DurableObject] | str, object_id: str, prefix: str | None, handler: str, *args: Any
    ) -> asyncio.Future[Any]:
        target = self._target(cls, object_id, prefix)
        return self._opened().submit(target, handler, args, None, self._call_timeout)

    def alarms(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> AlarmsOf:
        """The alarms of one object, from outside: `await engine.alarms(Counter, "id").pending()`."""
        return AlarmsOf(lambda handler, *args: self._ask(cls, object_id, prefix, handler, *args), cls)

    @overload
    async def state(self, cls: type[T], object_id: str, *, prefix: str | None = None) -> T | None: ...
    @overload
    async def state(self, cls: str, object_id: str, *, prefix: str | None = None) -> dict[str, Any] | None: ...
    async def state(self, cls: type[T] | str, object_id: str, *, prefix: str | None = None) -> Any:
        """A detached copy of the committed state, whether the object is in memory or not; None if it never was.

        A class gives an instance of it, migrated where the row is of an older schema version; a stored name gives
        the stored dict. Raises StateUnreadable.
        """
        found = await self._ask(cls, object_id, prefix, "$state")
        if found is None:
            return None
        if isinstance(cls, str):
            return found["state"]
        text = found["state"] if "schema" not in found else {SCHEMA: found["schema"], **found["state"]}
        return self._use_of(cls).copy(orjson.dumps(text))

    async def wake(
        self,
        cls: type[DurableObject] | str,
        object_id: str,
        *,
        prefix: str | None = None,
        hibernate_after: timedelta | EllipsisType | None = ...,
        shutdown_after: timedelta | EllipsisType | None = ...,
    ) -> None:
        """Bring an object into memory.

        `hibernate_after` and `shutdown_after` (None for never) go before the options of its class for as long as this
        object then is in memory, live or hibernated. Raises what loading it and its `after_load` raise.
        """
        given = {"hibernate_after": hibernate_after, "shutdown_after": shutdown_after}
        own = {name: _idle_seconds(name, value) for name, value in given.items() if value is not ...}
        await self._ask(cls, object_id, prefix, "$wake", *([own] if own else []))

    async def evict(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> bool:
        """Drop an object from memory once it is at rest; whether it was there. Its state stays stored."""
        return bool(await self._ask(cls, object_id, prefix, "$evict"))

    async def where(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> int | None:
        """The shard that has an object in memory, or None when none has."""
        if not await self._ask(cls, object_id, prefix, "$where"):
            return None
        return self._opened().shard_of(self._target(cls, object_id, prefix))

    async def delete(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> bool:
        """Remove an object's state and alarms for good; whether there was anything. The id may be used again."""
        return bool(await self._ask(cls, object_id, prefix, "$delete"))

    async def unpark(self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None) -> bool:
        """Serve an object again that was set aside for killing its shard; whether it was."""
        address = self._target(cls, object_id, prefix).address
        return bool(await self.request("unpark", {"address": str(address)}))

    # Everything.

    def _tenant(self, prefix: str | None) -> str:
        if prefix is None:
            return self._prefix
        check_prefix(prefix)
        return prefix

    async def objects(
        self,
        cls: type[DurableObject] | str,
        after: str | None = None,
        limit: int = 100,
        *,
        prefix: str | None = None,
    ) -> list[str]:
        """A page of the stored ids of a class, sorted: at most `limit`, all greater than `after`."""
        arguments = {
            "object_type": cls if isinstance(cls, str) else self._use_of(cls).object_type,
            "prefix": self._tenant(prefix),
            "after": after,
            "limit": _page_length(limit),
        }
        # By code points, which is the byte order of UTF-8.
        return sorted(await self._from_all_shards("list", arguments))[:limit]

    async def all_alarms(
        self,
        *,
        orphaned: bool = False,
        after: AlarmView | None = None,
        limit: int = 100,
        prefix: str | None = None,
    ) -> list[AlarmView]:
        """A page of all alarms of a tenant, by class, id and name: at most `limit`, beginning behind `after`.

        With `orphaned` only those that cannot fire: parked because they failed too often, or of a class or name that
        nobody serves here.
        """
        arguments = {
            "prefix": self._tenant(prefix),
            "orphaned": orphaned,
            "after": None if after is None else [after.object_type, after.object_id, after.name],
            "limit": _page_length(limit),
        }
        found = [alarm_view(each) for each in await self._from_all_shards("alarms", arguments)]
        return sorted(found, key=lambda alarm: (alarm.object_type, alarm.object_id, alarm.name))[:limit]

    async def _from_all_shards(self, op: str, arguments: dict[str, Any]) -> list[Any]:
        backend = self._opened()
        pages = await asyncio.gather(*(backend.request(op, arguments, shard=shard) for shard in backend.shard_numbers))
        return list(itertools.chain.from_iterable(pages))

    async def shards(self) -> list[ShardView]:
        """The shards, with process, state, endpoint, partitions and epoch."""
        return [shard_view(each) for each in await self.request("shards")]

    async def statistics(self) -> EngineStatistics:
        """What client, server and shards have seen, as one frozen tree."""
        backend = self._opened()
        found = await backend.request("statistics")
        client = backend.statistics() if isinstance(backend, Frontend) else ClientStatistics()
        if "shards" not in found:  # a shard that answers for itself
            shards = (await self._own_view(found),)
            return EngineStatistics(server="", release="", client=client, shards=shards)
        return EngineStatistics(
            server=found.get("server", ""),
            release=found.get("release", ""),
            client=client,
            shards=tuple(shard_view(each) for each in found["shards"]),
            parked=tuple(map(str, found.get("parked", ()))),
        )

    async def _own_view(self, counts: dict[str, Any]) -> ShardView:
        described = await self.request("shards")
        return shard_view({**described[0], "statistics": counts})

    async def request(self, op: str, arguments: dict[str, Any] | None = None, *, timeout: Timeout = 5.0) -> Any:
        """Ask the server something by name (`docs/protocol.md` lists what); plain builtins."""
        seconds = in_seconds(timeout) or CALL_TIMEOUT_SECONDS
        return await self._opened().request(op, arguments, timeout=seconds)


def _page_length(limit: Any) -> int:
    if type(limit) is not int or not 0 < limit <= PAGE_MAX:
        raise InvalidArguments(f"limit must be 1 to {PAGE_MAX}, not {limit!r}")
    return limit


def _idle_seconds(name: str, value: Any) -> float | None:
    """Raises InvalidArguments for what is no time that an object may be idle for."""
    if value is None:
        return None
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InvalidArguments(f"{name} is a timedelta of zero or more, or None for never, not {value!r}")
    return value.total_seconds()

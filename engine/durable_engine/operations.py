"""What can be asked of a server: REQUEST messages to its public address."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from durable_engine.reception import Operation
from durable_engine.release import RELEASE
from durable_engine.renewal import renew, restart_now
from durable_shards.control import Park
from durable_storage.errors import DurableError, Unavailable
from durable_storage.limits import ID_BYTES_MAX, NAME_BYTES_MAX
from durable_storage.urls import kind_of

if TYPE_CHECKING:
    from durable_engine.keeper import ShardKeeper
    from durable_engine.supervisor import Supervisor

_ASK_SECONDS: Final = 1.0
ADDRESS_CHARACTERS_MAX: Final = 2 * NAME_BYTES_MAX + ID_BYTES_MAX + 2


class Operations:
    """The operations of one supervisor; each takes a map of arguments and returns plain values."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def by_name(self) -> dict[str, Operation]:
        """Name on the wire → operation."""
        return {
            "ping": self.ping,
            "shards": self.shards,
            "statistics": self.statistics,
            "restart_shard": self.restart_shard,
            "drain_shard": self.drain_shard,
            "reload": self.reload,
            "reload_status": self.reload_status,
            "accept_data_loss": self.accept_data_loss,
            "park": self.park,
            "unpark": self.unpark,
            "stop": self.stop,
        }

    async def ping(self, _: dict[str, Any]) -> dict[str, Any]:
        """Who is there."""
        return {"server": self._supervisor.server, "release": RELEASE}

    async def shards(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        """One map per shard."""
        return [keeper.describe() for keeper in self._supervisor.keepers]

    async def statistics(self, _: dict[str, Any]) -> dict[str, Any]:
        """Everything known of the server; a shard that does not answer in time has None for its counts."""
        supervisor = self._supervisor
        counts = await asyncio.gather(*(self._ask(keeper, "statistics") for keeper in supervisor.keepers))
        shards = [
            {**keeper.describe(), "statistics": found} for keeper, found in zip(supervisor.keepers, counts, strict=True)
        ]
        return {
            "server": supervisor.server,
            "release": RELEASE,
            "endpoint": supervisor.endpoint,
            "members": supervisor.placement.members(),
            "parked": list(supervisor.strikes.parked),
            "reception": supervisor.reception.statistics(),
            "shards": shards,
        }

    async def drain_shard(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Have a shard (`shard`: its number) that serves finish what it has and hand over to a fresh process."""
        keeper = self._keeper(arguments)
        if keeper.state != "up":
            advice = f"durable-engine shards restart {keeper.shard}"
            raise DurableError(f"shard {keeper.shard} is {keeper.state}: there is nothing to drain. See `{advice}`")
        self._check_store()
        return await self._renewed(keeper, renew(keeper, self._supervisor.config.drain_timeout))

    async def restart_shard(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The same for one in any state; with `now` true its process is killed instead."""
        keeper = self._keeper(arguments)
        if arguments.get("now"):
            return await self._renewed(keeper, restart_now(keeper))
        self._check_store()
        return await self._renewed(keeper, renew(keeper, self._supervisor.config.drain_timeout))

    def _check_store(self) -> None:
        if kind_of(self._supervisor.config.store) == "memory":
            raise DurableError(
                "a memory store lives in its shard's process, and a fresh one would begin with nothing: refused. "
                "Choose another --store, or lose what there is with `durable-engine shards restart N --now`"
            )

    async def _renewed(self, keeper: ShardKeeper, renewal: Coroutine[Any, Any, None]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        began, before = loop.time(), keeper.pid
        await renewal
        return {"shard": keeper.shard, "before": before, "after": keeper.pid, "seconds": round(loop.time() - began, 3)}

    async def reload(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Begin to move all shards to the code that is on disk now; with `allow_missing` true whatever it lacks."""
        self._check_store()
        return self._supervisor.reloads.begin(allow_missing=bool(arguments.get("allow_missing")))

    async def reload_status(self, _: dict[str, Any]) -> dict[str, Any] | None:
        """How the reload is getting on, or how the last one ended."""
        return self._supervisor.reloads.describe()

    async def accept_data_loss(self, arguments: dict[str, Any]) -> None:
        """Serve what the store of a shard (`shard`: its number) still has, and forget what is lost."""
        keeper = self._keeper(arguments)
        self._supervisor.claims.forget(keeper.shard)
        keeper.accept_data_loss = True
        await renew(keeper, self._supervisor.config.drain_timeout)

    async def park(self, arguments: dict[str, Any]) -> bool:
        """Serve an object (`address`: its text) no more until it is unparked; whether that is new."""
        address = arguments.get("address")
        if not isinstance(address, str) or not 0 < len(address) <= ADDRESS_CHARACTERS_MAX:
            raise DurableError("park takes the address of an object: class/id, or tenant:class/id")
        is_new = self._supervisor.strikes.park(address)
        await self._tell_parked()
        return is_new

    async def unpark(self, arguments: dict[str, Any]) -> bool:
        """Serve an object (`address`: its text) again; whether it was parked."""
        strikes = self._supervisor.strikes
        address = arguments.get("address")
        if not isinstance(address, str) or address not in strikes.parked:
            return False
        strikes.unpark(address)
        await self._tell_parked()
        return True

    async def _tell_parked(self) -> None:
        for keeper in self._supervisor.keepers:
            keeper.tell(Park(self._supervisor.strikes.parked))
        # Whoever hears the answer may call at once: by then the shards must have heard as well.
        await asyncio.gather(*(self._ask(keeper, "ping") for keeper in self._supervisor.keepers))

    async def stop(self, _: dict[str, Any]) -> None:
        """Stop the server, as SIGTERM does."""
        asyncio.get_running_loop().call_soon(self._supervisor.stop)

    async def _ask(self, keeper: ShardKeeper, op: str) -> Any:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await keeper.ask(op, {})
        except (TimeoutError, Unavailable):
            return None

    def _keeper(self, arguments: dict[str, Any]) -> ShardKeeper:
        keepers = self._supervisor.keepers
        shard = arguments.get("shard")
        if type(shard) is not int or not 0 <= shard < len(keepers):
            raise DurableError(f"no shard {shard!r}: they are numbered 0 to {len(keepers) - 1}")
        return keepers[shard]

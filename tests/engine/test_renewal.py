"""How one process of a shard gives way to another, with processes that do what a test says: the order of it all.

`tests/crash/test_reload.py` is about the same with processes that are some, under load.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from durable_engine.forkserver_main import Exited
from durable_engine.keeper import ShardKeeper
from durable_engine.reloading import Reload
from durable_engine.renewal import renew
from durable_engine.strikes import Strikes
from durable_engine.watchdog import Watchdog
from durable_shards.board import Boards, ShardBoard
from durable_shards.control import Begin, Channel, Drain, Park, Ready, Sealed, ShardConfig, StandsBy
from durable_storage.errors import DurableError

WAIT_SECONDS = 20.0
DRAIN_SECONDS = 60.0
MARK = Park(("a mark that tells what was said before it",))


class Process:
    """A shard's end of the control channel, and of the page for its heartbeats."""

    def __init__(self, config: ShardConfig, control: socket.socket, page: memoryview, number: int) -> None:
        self.config = config
        self.number = number
        self.board = ShardBoard(page)
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self._channel = Channel(
            control, asyncio.get_running_loop(), on_message=self._heard.put_nowait, on_close=lambda: None
        )
        self.say = self._channel.send
        self.close = self._channel.close

    async def hears(self) -> Any:
        """The next message of the keeper."""
        return await asyncio.wait_for(self._heard.get(), WAIT_SECONDS)


class Code:
    """Where processes come from."""

    def __init__(self, server: Server) -> None:
        self.classes: dict[str, int] = {}
        self._server = server
        self._ordered: asyncio.Queue[Process] = asyncio.Queue()

    def fork(self, config: ShardConfig, control: socket.socket, dump: int, *, number: int, page: int) -> None:
        """What a fork server does, but for the process."""
        process = Process(config, control.dup(), self._server.boards.page(page), number)
        self._server.made.append(process)
        self._ordered.put_nowait(process)

    async def ordered(self) -> Process:
        """The next one that somebody wants to have."""
        return await asyncio.wait_for(self._ordered.get(), WAIT_SECONDS)


class Server:
    """Two shards, which do not run yet."""

    def __init__(self) -> None:
        self.boards = Boards.of_shards(2)
        self.made: list[Process] = []
        self.code = Code(self)
        self.keepers = [self._keeper(number) for number in range(2)]

    async def serving(self, keeper: ShardKeeper) -> Process:
        """The first process of a shard."""
        keeper.start()
        process = await self.code.ordered()
        process.say(Ready("ipc:///first", 1, 1))
        assert keeper.processes.current is not None
        assert await asyncio.wait_for(keeper.processes.current.serves, WAIT_SECONDS) == ""
        return process

    def exits(self, process: Process, status: int) -> None:
        """It is gone, and reaped."""
        shard = process.config.shard
        self.keepers[shard].on_event(Exited(shard, process.number, 0, status), None)

    def close(self) -> None:
        """End all of it."""
        for keeper in self.keepers:
            keeper.stop(0)
        for process in self.made:
            self.exits(process, 0)
            process.close()
        assert all(keeper.ended.is_set() for keeper in self.keepers)

    def _keeper(self, number: int) -> ShardKeeper:
        return ShardKeeper(
            number,
            range(512 * number, 512 * (number + 1)),
            self.code,
            loop=asyncio.get_running_loop(),
            boards=self.boards,
            make_watchdog=lambda: Watchdog(500, 3000),
            strikes=Strikes(3, 600.0),
            make_config=lambda keeper: ShardConfig(keeper.shard, 2, "", (0, 0), "", "", ""),
            on_change=lambda: None,
            on_parked=lambda: None,
            on_drained=lambda: None,
            on_fenced=lambda _: None,
        )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """With shards that do not run yet."""
    server = Server()
    yield server
    server.close()


async def test_the_next_process_begins_when_the_one_before_has_sealed_itself(server: Server) -> None:
    """Not when that one is told to drain; and it hears which commit the store has to show."""
    keeper = server.keepers[0]
    old = await server.serving(keeper)
    renewed = asyncio.ensure_future(renew(keeper, DRAIN_SECONDS))
    new = await server.code.ordered()
    assert new.config.stands_by

    new.say(StandsBy())
    assert await old.hears() == Drain(DRAIN_SECONDS, hands_over=True)
    keeper.tell(MARK)
    assert await new.hears() == MARK, "it begins while the one before it may still run turns"
    old.board.acknowledged(1, 41)
    old.say(Sealed())

    assert await new.hears() == Begin(41, ())
    assert not renewed.done()
    new.say(Ready("ipc:///second", 2, 41))
    await asyncio.wait_for(renewed, WAIT_SECONDS)
    assert (keeper.endpoint, keeper.epoch, keeper.state) == ("ipc:///second", 2, "up")


async def test_a_process_whose_successor_cannot_start_serves_on(server: Server) -> None:
    """It hears of nothing, and whoever asked for another hears why there is none."""
    keeper = server.keepers[0]
    old = await server.serving(keeper)
    renewed = asyncio.ensure_future(renew(keeper, DRAIN_SECONDS))
    server.exits(await server.code.ordered(), 3)

    with pytest.raises(DurableError, match=r"did not start: exit code 3\. The old one serves on"):
        await asyncio.wait_for(renewed, WAIT_SECONDS)
    keeper.tell(MARK)
    assert await old.hears() == MARK
    assert keeper.state == "up"


async def test_a_reload_ends_with_the_first_shard_that_does_not_come_up(server: Server) -> None:
    """Those behind it are not touched, and it says so."""
    for keeper in server.keepers:
        await server.serving(keeper)
    later = Code(server)
    settled: list[Any] = []
    servers = SimpleNamespace(load_anew=AsyncMock(return_value=later), settle=settled.append)
    config = SimpleNamespace(drain_timeout=DRAIN_SECONDS)
    supervisor: Any = SimpleNamespace(keepers=server.keepers, fork_servers=servers, config=config)
    reload = Reload(supervisor, allow_missing=False)
    running = asyncio.ensure_future(reload.run())

    first = await later.ordered()
    assert first.config.shard == 0
    server.exits(first, 3)
    another = asyncio.ensure_future(later.ordered())
    await asyncio.wait([running, another], return_when=asyncio.FIRST_COMPLETED)
    went_on = another.done()
    another.cancel()
    running.cancel()

    assert not went_on, "it goes on to the next shard"
    told = reload.describe()
    assert told["state"] == "failed"
    assert told["problem"].endswith("0 of 2 shards run the new code, the others run the old one")
    assert [keeper.code for keeper in server.keepers] == [server.code, server.code]
    assert settled == [later]

"""Changes of a shard's processes that something else gets in the way of, with processes that the test plays."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from durable_engine import forkservers
from durable_engine.forkserver import ForkServer
from durable_engine.forkserver_main import Exited, Forked, Load
from durable_engine.forkservers import ForkServers
from durable_engine.keeper import ShardKeeper
from durable_engine.renewal import renew, restart_now
from durable_engine.strikes import Strikes
from durable_engine.watchdog import Watchdog
from durable_shards.board import Boards
from durable_shards.control import Channel, FromShard, Ready, Sealed, ShardConfig, StandsBy
from durable_storage.errors import DurableError
from tests.engine.test_incarnation import dead_process

DRAIN_SECONDS = 60.0
PATIENCE_SECONDS = 30.0


class Played:
    """A process as its supervisor sees it: what it says, and how it ends."""

    def __init__(self, keeper: ShardKeeper, config: ShardConfig, control: socket.socket, number: int) -> None:
        self.config = config
        self._keeper = keeper
        self._number = number
        self._channel = Channel(
            control.dup(), asyncio.get_running_loop(), on_message=lambda _: None, on_close=lambda: None
        )

    def says(self, *messages: FromShard) -> None:
        for message in messages:
            self._channel.send(message)

    def serves(self) -> None:
        self.says(Ready("tcp://127.0.0.1:1", self._number, 0))

    def exits(self, status: int = -signal.SIGKILL) -> None:
        self._channel.close()
        self._keeper.on_event(Exited(0, self._number, 1, status), None)

    def is_forked(self, pid: int, pidfd: int) -> None:
        self._keeper.on_event(Forked(0, self._number, pid), pidfd)


class PlayedCode:
    """A fork server that forks what the test plays."""

    def __init__(self, keepers: list[ShardKeeper], pid: int) -> None:
        self.pid = pid
        self.classes: dict[str, int] = {}
        self.processes: list[Played] = []
        self._keepers = keepers
        self._on_lost: Callable[[str], None] = lambda _: None
        self._is_lost = False

    def fork(self, config: ShardConfig, control: socket.socket, dump: int, *, number: int, page: int) -> None:
        del dump, page
        if self._is_lost:
            raise BrokenPipeError
        self.processes.append(Played(self._keepers[0], config, control, number))

    def listen(self, _: asyncio.AbstractEventLoop, *, on_event: object, on_lost: Callable[[str], None]) -> None:
        del on_event
        self._on_lost = on_lost

    def dies(self) -> None:
        self._is_lost = True
        self._on_lost("the fork server died")

    async def process(self, number: int) -> Played:
        """The one of this number, counted from 0, when it is there."""
        await until(lambda: len(self.processes) > number)
        return self.processes[number]


class Stage:
    """One shard, its keeper and the fork servers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.keepers: list[ShardKeeper] = []
        self.old, self.new, self.replacement = (PlayedCode(self.keepers, pid) for pid in (1, 2, 3))
        loop, boards = asyncio.get_running_loop(), Boards.of_shards(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._folder = folder
        monkeypatch.setattr(forkservers.ForkServer, "start", lambda *_: self.replacement)
        servers = ForkServers(
            cast(ForkServer, self.old),
            boards,
            Load((), (), "", ()),
            loop=loop,
            stall_timeout_ms=3000,
            keepers=lambda: self.keepers,
            in_background=self._in_background,
        )
        servers.listen(cast(ForkServer, self.old))
        servers.listen(cast(ForkServer, self.new))
        self.keeper = ShardKeeper(
            0,
            range(1024),
            cast(ForkServer, self.old),
            loop=loop,
            boards=boards,
            make_watchdog=lambda: Watchdog(500, 3000),
            strikes=Strikes(3, 600.0),
            make_config=self._config,
            on_change=lambda: None,
            on_parked=lambda: None,
            on_drained=lambda: None,
            on_fenced=lambda _: None,
        )
        self.keepers.append(self.keeper)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    def _config(self, keeper: ShardKeeper) -> ShardConfig:
        return ShardConfig(
            shard=0,
            shards=1,
            store="memory://",
            partitions=(0, 1024),
            node="here",
            bind=f"ipc://{self._folder}/engine.sock.0.1.{keeper.processes.number}",
            supervisor="",
        )

    def close(self) -> None:
        """All processes end."""
        self.keeper.stop(DRAIN_SECONDS)
        for code in (self.old, self.new, self.replacement):
            for process in code.processes:
                process.exits()
        self.keeper.cancel_timer()

    def sockets(self) -> list[str]:
        """The names of what processes have left to be listened at."""
        return [path.name for path in self._folder.iterdir()]

    async def settled(self) -> None:
        """What was begun in the background is done."""
        await asyncio.gather(*self._tasks)

    async def serve(self) -> Played:
        """The shard is up, with the old code."""
        self.keeper.start()
        process = await self.old.process(0)
        process.serves()
        await until(lambda: self.keeper.state == "up")
        return process

    async def hand_over(self, code: PlayedCode) -> Played:
        """A process of this code takes the place of the current one, which stays for a moment."""
        former = self.old.processes[-1]
        made = len(code.processes)
        renewal = asyncio.ensure_future(renew(self.keeper, DRAIN_SECONDS, cast(ForkServer, code)))
        successor = await code.process(made)
        successor.says(StandsBy())
        await until(lambda: self.keeper.state == "draining")
        former.says(Sealed())
        await until(lambda: self.keeper.processes.former is not None)
        successor.serves()
        await renewal
        return successor


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(monkeypatch, tmp_path)
    yield made
    made.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what it waits for is no event
            await asyncio.sleep(0)


async def test_a_change_that_waits_is_given_up_when_the_shard_stops(stage: Stage) -> None:
    """fault A14: a process made for a shard that stops would be told to end by nobody, and the server never ended."""
    former = await stage.serve()
    current = await stage.hand_over(stage.old)
    waiting = asyncio.ensure_future(renew(stage.keeper, DRAIN_SECONDS))
    await until(lambda: stage.keeper.is_renewed)
    await asyncio.sleep(0)

    stage.keeper.stop(DRAIN_SECONDS)
    former.exits(0)

    with pytest.raises(DurableError, match="being stopped with its server and gets no new process: start the server"):
        await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    current.exits(0)
    assert stage.keeper.ended.is_set()
    assert len(stage.old.processes) == 2


async def test_a_change_that_waits_for_a_start_is_given_up_when_the_shard_stops(stage: Stage) -> None:
    """The same when the process came up only just before it drains."""
    stage.keeper.start()
    current = await stage.old.process(0)
    waiting = asyncio.ensure_future(renew(stage.keeper, DRAIN_SECONDS))
    await until(lambda: stage.keeper.is_renewed)

    stage.keeper.stop(DRAIN_SECONDS)
    current.serves()

    with pytest.raises(DurableError, match="start the server again"):
        await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    current.exits(0)
    assert stage.keeper.ended.is_set()
    assert len(stage.old.processes) == 1


async def test_a_restart_at_once_is_given_up_when_the_shard_stops(stage: Stage) -> None:
    """The killed process gets no successor."""
    current = await stage.serve()
    restart = asyncio.ensure_future(restart_now(stage.keeper))
    await asyncio.sleep(0)

    stage.keeper.stop(DRAIN_SECONDS)
    current.exits()

    with pytest.raises(DurableError, match="start the server again"):
        await asyncio.wait_for(restart, PATIENCE_SECONDS)
    assert stage.keeper.ended.is_set()
    assert len(stage.old.processes) == 1


async def test_a_process_that_dies_while_a_change_waits_for_another_is_simply_followed(stage: Stage) -> None:
    """There is nothing that could hand over any more."""
    former = await stage.serve()
    current = await stage.hand_over(stage.old)
    waiting = asyncio.ensure_future(renew(stage.keeper, DRAIN_SECONDS))
    await until(lambda: stage.keeper.is_renewed)

    current.exits()
    former.exits(0)

    successor = await stage.old.process(2)
    assert not successor.config.stands_by
    successor.serves()
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert stage.keeper.state == "up"


async def test_a_shard_whose_new_code_fails_goes_back_to_code_that_exists(stage: Stage) -> None:
    """The fork server of the old code was lost meanwhile; its replacement is what the shard goes back to."""
    (await stage.serve()).exits()
    reload = asyncio.ensure_future(renew(stage.keeper, DRAIN_SECONDS, cast(ForkServer, stage.new)))
    successor = await stage.new.process(0)
    stage.old.dies()
    await stage.settled()

    successor.exits(3)

    with pytest.raises(DurableError, match="shard 0 does not start: exit code 3"):
        await asyncio.wait_for(reload, PATIENCE_SECONDS)
    (await stage.replacement.process(0)).serves()
    await until(lambda: stage.keeper.state == "up")


async def test_a_process_that_outlives_its_fork_server_is_followed_by_one_of_code_that_exists(stage: Stage) -> None:
    """That it serves is heard after its fork server was lost, and just before it is seen to be dead."""
    former = await stage.serve()
    reload = asyncio.ensure_future(renew(stage.keeper, DRAIN_SECONDS, cast(ForkServer, stage.new)))
    successor = await stage.new.process(0)
    successor.is_forked(*dead_process())
    successor.says(StandsBy())
    await until(lambda: stage.keeper.state == "draining")
    former.says(Sealed())
    await until(lambda: stage.keeper.processes.former is not None)

    successor.serves()
    stage.new.dies()

    await asyncio.wait([reload], timeout=PATIENCE_SECONDS)
    (await stage.old.process(1)).serves()
    await until(lambda: stage.keeper.state == "up")


async def test_a_process_that_dies_before_it_says_where_it_listens_leaves_no_socket(stage: Stage) -> None:
    """Between its bind and the news of it there is a file that only its supervisor can remove."""
    stage.keeper.start()
    process = await stage.old.process(0)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(process.config.bind.removeprefix("ipc://"))
    assert stage.sockets() == ["engine.sock.0.1.1"]

    process.exits()

    assert stage.sockets() == []

"""Clients and servers of other versions, crowds at the door, and addresses that are not ours to use."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
import zmq.asyncio

from durable_engine import reception
from durable_engine.errors import ProtocolProblem, TooLarge
from durable_engine.frontend import Frontend
from durable_engine.reception import Reception
from durable_shards import wire
from durable_shards.transport import RouterTransport
from durable_shards.wire import SEQ_MAX, RoutingTable
from durable_storage.limits import REQUEST_BYTES_MAX
from tests.support.scripted import WAIT_SECONDS, Rig, until
from tests.support.served import Served, calls


async def test_a_client_of_another_version_is_told_both_numbers(tmp_path: Path) -> None:
    """fault E14: by supervisors and shards alike; nothing of its message is read, and the next client is served."""
    async with Served(tmp_path) as served:
        for version in (0, wire.VERSION + 1, 255):
            kind, problem = await served.ask(bytes((version,)) + calls([1, "C", "a", "echo", [1]])[1:])
            assert kind == wire.ERROR
            assert f"version {wire.VERSION}, the message says {version}" in problem
        assert served.shard.received == []
        assert (await served.ask(calls([1, "C", "a", "echo", [1]])))[0] == wire.REPLIES


@pytest.mark.parametrize("version", [0, wire.VERSION + 1])
async def test_a_server_of_another_version_is_refused_with_a_message(tmp_path: Path, version: int) -> None:
    """fault E14: whoever connects hears at once that it speaks otherwise, and which version it speaks."""
    context: Any = zmq.asyncio.Context()
    server = context.socket(zmq.ROUTER)
    url = f"ipc://{tmp_path}/door"
    server.bind(url)
    connecting = asyncio.ensure_future(Frontend.connect(url, WAIT_SECONDS))
    visitor, _ = await asyncio.wait_for(server.recv_multipart(), WAIT_SECONDS)
    await server.send_multipart([visitor, bytes((version, wire.WELCOME)) + msgpack.packb({"anything": 1})])
    with pytest.raises(ProtocolProblem, match=f"version {wire.VERSION}, the message says {version}"):
        await connecting
    context.destroy(linger=0)


async def test_what_a_later_release_of_this_version_adds_is_ignored(tmp_path: Path) -> None:
    """fault E14: elements behind the known ones, and keys that are not known, in both directions."""
    async with Served(tmp_path) as served:
        call = [1, "C", "a", "echo", [5], 5000, None, "", None, 0, None, None]
        _, (_, _, replies) = await served.ask(calls([*call, "new", {"newer": 2}]))
        assert replies[0][3] == 5
        served.server.set_routes(RoutingTable("s", 1, 1024, []))
        assert (await served.ask(wire.pack(wire.HELLO, {"known": 0, "mood": "good"})))[0] == wire.WELCOME
    answered = wire.unpack(wire.pack(wire.REPLIES, [3, 17, [[1, 0, 9, 5, "more"]], "more"]))
    assert (answered.epoch, answered.replies[0].value) == (3, 5)
    table = {"server": "s", "version": 2, "partitions": 1024, "shards": [], "release": "9.9", "new": {}}
    assert wire.unpack(wire.pack(wire.WELCOME, table)).release == "9.9"


class Door:
    """A reception with a table, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[dict[int, tuple[int, int]]] = []
        self.reception = Reception(
            asyncio.get_running_loop(),
            table=lambda: RoutingTable("s", 1, 1024, []),
            operations={},
            on_acknowledged=self.told.append,
        )
        self.url = self.reception.open(f"ipc://{folder}/door")


async def test_the_door_remembers_a_bounded_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault E13: each visitor gets the table; the longest silent are forgotten, and say HELLO again anyway."""
    monkeypatch.setattr(reception, "_VISITORS_MAX", 8)
    door = Door(tmp_path)
    context: Any = zmq.asyncio.Context()
    crowd = [context.socket(zmq.DEALER) for _ in range(60)]
    for one in crowd:
        one.connect(door.url)
        await one.send(wire.pack(wire.HELLO, wire.Hello()))
    for one in crowd:
        assert wire.unpack(await asyncio.wait_for(one.recv(), WAIT_SECONDS)).server == "s"
    assert door.reception.statistics()["clients"] == 8
    context.destroy(linger=0)
    door.reception.close()


async def test_a_claim_of_commits_that_cannot_be_is_malformed(tmp_path: Path) -> None:
    """fault E13: counted, answered and not believed, nor is any other claim in that message."""
    door = Door(tmp_path)
    context: Any = zmq.asyncio.Context()
    liar = context.socket(zmq.DEALER)
    liar.connect(door.url)
    await liar.send(wire.pack(wire.HELLO, {"acknowledged": {0: (1, SEQ_MAX + 1), 1: (1, 5)}}))
    answer = await asyncio.wait_for(liar.recv(), WAIT_SECONDS)
    assert (wire.kind_of(answer), door.told) == (wire.ERROR, [])
    assert door.reception.statistics()["malformed"] == 1
    await liar.send(wire.pack(wire.HELLO, {"acknowledged": {0: (1, SEQ_MAX)}}))
    await asyncio.wait_for(liar.recv(), WAIT_SECONDS)
    assert door.told == [{0: (1, SEQ_MAX)}]
    context.destroy(linger=0)
    door.reception.close()


async def test_the_door_takes_no_large_requests(tmp_path: Path) -> None:
    """fault E4: what is asked of a supervisor holds names and numbers; more is neither sent nor taken."""
    large = {"padding": "x" * REQUEST_BYTES_MAX}
    async with Rig(tmp_path) as rig:
        with pytest.raises(TooLarge, match=str(REQUEST_BYTES_MAX)):
            await rig.frontend.request("ping", large, timeout=WAIT_SECONDS)
        rig.frontend._control.send(wire.pack(wire.REQUEST, wire.Request(99, "ping", large)))
        await until(lambda: rig.frontend.counts.malformed == 1)  # the answer is an ERROR, which belongs to no request
        assert await rig.frontend.request("ping", timeout=WAIT_SECONDS) == "pong"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
async def test_an_address_without_the_right_to_it_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """fault E12: the system refuses, and the message says what to do; root may do all, so the refusal is ordered."""

    def refuse(*_: object) -> None:
        raise zmq.ZMQError(number)

    monkeypatch.setattr(zmq.Socket, "bind", refuse)
    with pytest.raises(OSError, match="this user may not listen there: choose another address") as refused:
        RouterTransport(f"ipc://{tmp_path}/door", lambda *_: None, asyncio.get_running_loop())
    assert refused.value.errno == number

"""The socket of a shard: whatever arrives, the shard goes on, and who can be told is told."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from durable_shards import peers, server, wire
from durable_shards.backlog import BACKLOG_BYTES_MAX, PORTION
from durable_shards.peers import OUTBOX_BYTES_MAX
from durable_shards.server import ShardServer
from durable_shards.wire import FLAG_ONE_WAY, RoutingTable, ShardRoute
from durable_storage.errors import TooLarge
from durable_storage.limits import ARGUMENTS_BYTES_MAX, MESSAGE_BYTES_MAX, RESULT_BYTES_MAX
from tests.support.scripted import ScriptedShard, until
from tests.support.served import WAIT_SECONDS, Served, calls


async def test_a_frame_written_by_hand_is_answered(tmp_path: Path) -> None:
    """The bytes of the protocol page: what another language would send."""
    async with Served(tmp_path) as served:
        kind, body = await served.ask(calls([1, "Counter", "a", "echo", [5]]))
        assert (kind, body) == (wire.REPLIES, [1, 1, [[1, wire.OK, 1, 5]]])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"\x02\x03\x90",
        b"\x01\x00",
        b"\x01\x63\x90",
        b"\x01\x03",
        b"\x01\x03\xc1",
        b"\x01\x03\x05",
        b"\x01\x03\xdd\xff\xff\xff\xff",
        b"\x01\x03" + b"\x91" * 5_000,
        b"\x01\x03\x91\x95\x01\xa1\xff\xa1a\xa1b\x90",
        b"\x01\x05\xc1",
        b"\x01\x05\x91\xa1x",
        b"\x01\x01\x05",
        b"\x01\x02\x80",
        b"\x01\x04\x93\x01\x01\x90",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_malformed_message_is_answered_with_an_error(tmp_path: Path, message: bytes) -> None:
    """fault E3: counted, told to the sender, and the next message is served."""
    async with Served(tmp_path) as served:
        kind, body = await served.ask(message)
        assert kind == wire.ERROR
        assert isinstance(body, str)
        assert served.server.statistics().malformed_messages == 1
        assert (await served.ask(calls([1, "C", "a", "echo", ["x"]])))[1][2] == [[1, wire.OK, 1, "x"]]


async def test_a_broken_call_takes_none_of_its_neighbours_with_it(tmp_path: Path) -> None:
    """fault E3: it is answered by its own id, the others run."""
    async with Served(tmp_path) as served:
        await served.raw.send(
            calls([1, "C", "a", "echo", [1]], [2, "C", 7, "echo", []], [3, "C", "a", "echo", [3]], "x")
        )
        kinds = [await served.answer(), await served.answer()]
        assert [kind for kind, _ in kinds] == [wire.ERROR, wire.REPLIES]
        replies = {reply[0]: reply for reply in kinds[1][1][2]}
        assert (replies[1][3], replies[3][3]) == (1, 3)
        assert replies[2][1] == wire.FAILED
        assert replies[2][3]["type"] == "ProtocolProblem"
        assert served.server.statistics().malformed_calls == 2


async def test_random_bytes_do_no_harm(tmp_path: Path) -> None:
    """fault E3: ten thousand random and mutated messages, and the server answers like on its first day."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    good = calls(*([n, "Counter", "a", "echo", [n, "x", None]] for n in range(3)))
    async with Served(tmp_path) as served:
        sender = served.client()
        for _ in range(10_000):
            message = bytearray(good if dice.random() < 0.7 else dice.randbytes(dice.randrange(40)))
            for _ in range(dice.randrange(4)):
                if message:
                    message[dice.randrange(len(message))] = dice.randrange(256)
            await sender.send(bytes(message))
        assert (await served.ask(calls([7, "C", "a", "echo", ["alive"]])))[1][2][0][3] == "alive", f"seed {seed}"
        assert served.server.statistics().transport.faults == 0, f"seed {seed}"


async def test_too_large_arguments_are_refused_one_by_one(tmp_path: Path) -> None:
    """fault E4: TooLarge for the call that is over the limit; the connection and its neighbours live."""
    async with Served(tmp_path) as served:
        big = b"x" * (ARGUMENTS_BYTES_MAX + 1)
        _, (_, _, replies) = await served.ask(calls([1, "C", "a", "echo", [big]], [2, "C", "a", "echo", ["ok"]]))
        by_id = {reply[0]: reply for reply in replies}
        assert by_id[1][3]["type"] == "TooLarge"
        assert by_id[2][3] == "ok"
        assert len(served.shard.received) == 1


async def test_a_message_over_the_limit_is_told_apart(tmp_path: Path) -> None:
    """fault E4: just over the limit there is an answer, and the connection lives."""
    async with Served(tmp_path) as served:
        kind, body = await served.ask(b"\x01\x03" + b"\x00" * MESSAGE_BYTES_MAX)
        assert kind == wire.ERROR
        assert str(MESSAGE_BYTES_MAX) in body
        assert (await served.ask(calls([1, "C", "a", "echo", [1]])))[0] == wire.REPLIES


async def test_a_result_has_a_limit(tmp_path: Path) -> None:
    """fault E4: encoding a larger one raises, inside the turn, so that the turn is undone."""
    async with Served(tmp_path) as served:
        peer = served.server._hub.peer_for(b"x")
        call = wire.Call(1, "C", "a", "get")
        assert peer.encode(call, 1, b"x" * (RESULT_BYTES_MAX - 100))
        with pytest.raises(TooLarge, match=r"C\.get"):
            peer.encode(call, 1, b"x" * RESULT_BYTES_MAX)


async def test_one_way_calls_are_not_answered(tmp_path: Path) -> None:
    """Neither results nor errors."""
    async with Served(tmp_path) as served:
        one_way = [100, None, "", None, FLAG_ONE_WAY]
        message = calls(
            [1, "C", "a", "echo", [1], *one_way], [2, "C", "a", "fail", [], *one_way], [3, "C", "a", "echo", [3]]
        )
        _, (_, _, replies) = await served.ask(message)
        assert [reply[0] for reply in replies] == [3]


async def test_hello_is_answered_with_the_routing_table(tmp_path: Path) -> None:
    """Once it is known; before, the client is sent to the supervisor."""
    async with Served(tmp_path) as served:
        kind, body = await served.ask(wire.pack(wire.HELLO, wire.Hello()))
        assert (kind, "supervisor" in body) == (wire.ERROR, True)
        served.server.set_routes(RoutingTable("s", 3, 1024, [ShardRoute(0, served.endpoint, 1, (0, 1024), "up")]))
        kind, body = await served.ask(wire.pack(wire.HELLO, wire.Hello()))
        assert (kind, body["version"], body["shards"][0]["endpoint"]) == (wire.WELCOME, 3, served.endpoint)


async def test_a_client_that_does_not_read_is_bounded_and_disturbs_nobody(tmp_path: Path) -> None:
    """fault E7: its replies are dropped beyond the limit and counted; others are answered."""
    async with Served(tmp_path) as served:
        slow = served.client()
        slow.rcvhwm = 1
        big = b"x" * 1_000_000
        for n in range(OUTBOX_BYTES_MAX // len(big) + 100):
            await slow.send(calls([n, "C", "a", "echo", [big]]))
        await served.shard.until(OUTBOX_BYTES_MAX // len(big) + 100)
        assert (await served.ask(calls([1, "C", "a", "echo", ["quick"]])))[1][2][0][3] == "quick"
        async with asyncio.timeout(WAIT_SECONDS):
            while not served.server.statistics().replies_dropped:
                await slow.send(calls([1, "C", "a", "echo", [big]]))
                await asyncio.sleep(0)


async def test_a_large_message_is_worked_on_in_portions_in_its_order(tmp_path: Path) -> None:
    """And so is the one behind it."""
    async with Served(tmp_path) as served:
        portions: list[int] = []
        receive = served.shard.receive

        def note(peer: Any, some: list[Any]) -> None:
            portions.append(len(some))
            receive(peer, some)

        served.shard.receive = note  # type: ignore[method-assign]
        count = 3 * PORTION + 1
        for start in (0, count):
            await served.raw.send(calls(*([n, "C", "a", "echo", [n]] for n in range(start, start + count))))
        await served.shard.until(2 * count)

        assert served.shard.handlers == list(range(2 * count))
        assert portions == [*[PORTION] * 3, 1] * 2


class Handed:
    """A wire on which messages are handed over; nobody hears the answers."""

    def __init__(self) -> None:
        self.endpoint = "ipc://hand"
        self.is_held = False

    def listen(self, endpoint: str, on_message: Any, loop: Any, *, on_drained: Any = None) -> Handed:
        self.on_message = on_message
        return self

    def send(self, identity: bytes, payload: bytes) -> bool:
        return True

    def hold(self) -> None:
        self.is_held = True

    def go_on(self) -> None:
        self.is_held = False


async def test_a_client_does_not_wait_for_the_large_message_of_another() -> None:
    """Its call is run behind the first portion of that message; and what is read ahead has an end."""
    shard, wire_by_hand = ScriptedShard(), Handed()
    ShardServer(shard, "ipc://hand", asyncio.get_running_loop(), network=wire_by_hand)  # type: ignore[arg-type]
    large = calls(*([n, "C", "a", "echo", [n]] for n in range(10 * PORTION)))

    wire_by_hand.on_message(b"one", large)
    wire_by_hand.on_message(b"other", calls([1, "C", "b", "echo", ["quick"]]))

    assert shard.handlers == [*range(PORTION), "quick"]
    assert not wire_by_hand.is_held
    for _ in range(BACKLOG_BYTES_MAX // len(large)):
        wire_by_hand.on_message(b"one", large)
    assert wire_by_hand.is_held
    while wire_by_hand.is_held:  # noqa: ASYNC110 - ticks of the loop are what is waited for
        await asyncio.sleep(0)


async def test_replies_that_wait_for_a_slow_client_all_arrive_when_it_reads(tmp_path: Path) -> None:
    """fault E7: in their order, none twice, however often they were offered in vain."""
    async with Served(tmp_path) as served:
        slow = served.client()
        slow.rcvhwm = 1
        big = b"x" * 100_000
        for n in range(200):
            await slow.send(calls([n, "C", "a", "echo", [big]]))
        await served.shard.until(200)
        answered: list[int] = []
        while len(answered) < 200:
            message = await asyncio.wait_for(slow.recv(), WAIT_SECONDS)
            answered += [reply.id for reply in wire.unpack(message).replies]
        assert answered == list(range(200))
        assert served.server.statistics().replies_dropped == 0


async def test_replies_to_a_client_that_left_are_counted(tmp_path: Path) -> None:
    """fault E6: its call goes on; the answer finds nobody."""
    async with Served(tmp_path) as served:
        leaver = served.client()
        await leaver.send(calls([1, "C", "a", "hold", [1]]))
        await served.shard.until(1)
        leaver.close(linger=0)
        async with asyncio.timeout(WAIT_SECONDS):
            while not served.server.statistics().replies_dropped:
                served.shard.release()
                served.shard.held = served.shard.received[:1]
                await asyncio.sleep(0.001)
        assert served.server.statistics().clients == 0


async def test_answers_to_requests_all_arrive_however_many_are_asked_at_once(tmp_path: Path) -> None:
    """fault E7: in their order, none twice; a full pipe only makes them wait."""
    async with Served(tmp_path) as served:
        slow = served.client()
        slow.rcvhwm = 1
        text = "x" * 100_000
        for number in range(200):
            await slow.send(wire.pack(wire.REQUEST, wire.Request(number, "op", {"text": text})))
        await until(lambda: served.server.statistics().transport.refused_full > 0)
        answers = [wire.unpack(await asyncio.wait_for(slow.recv(), WAIT_SECONDS)) for _ in range(200)]
        assert [(answer.id, answer.status, answer.value["text"]) for answer in answers] == [
            (number, wire.OK, text) for number in range(200)
        ]
        assert served.server.statistics().answers_dropped == 0


async def test_a_request_beyond_the_limit_is_refused_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fault E7: whoever asked hears at once that nothing was done, and not after a timeout."""
    monkeypatch.setattr(server, "REQUESTS_MAX", 0)
    async with Served(tmp_path) as served:
        kind, (number, status, problem) = await served.ask(wire.pack(wire.REQUEST, wire.Request(7, "op", {})))
        assert (kind, number, status) == (wire.RESPONSE, 7, wire.FAILED)
        assert (problem["type"], problem["retryable"], problem["outcome"]) == ("Overloaded", True, "not_applied")


async def test_answers_that_nobody_reads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault E7: like replies: dropped beyond the limit and counted, and others are answered."""
    monkeypatch.setattr(peers, "OUTBOX_BYTES_MAX", 1_000_000)
    async with Served(tmp_path) as served:
        deaf = served.client()
        deaf.rcvhwm = 1
        request = wire.pack(wire.REQUEST, wire.Request(1, "op", {"text": "x" * 100_000}))
        async with asyncio.timeout(WAIT_SECONDS):
            while not served.server.statistics().answers_dropped:
                await deaf.send(request)
        assert (await served.ask(calls([1, "C", "a", "echo", ["quick"]])))[1][2][0][3] == "quick"

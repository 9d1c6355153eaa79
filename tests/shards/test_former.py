"""The address of a shard that lives in another process now: nothing is run there, and nothing is lost there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_shards.errors import NotOwner
from durable_shards.former import FormerShard
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_ONE_WAY, Call, Peer
from durable_storage.errors import DurableError


class Caller:
    """Remembers the calls that it is given."""

    def __init__(self) -> None:
        self.called: list[tuple[Any, ...]] = []
        self.stirred = asyncio.Event()
        self.problem: DurableError | None = None

    def call(self, *names_and_arguments: Any, **options: Any) -> asyncio.Future[Any]:
        self.called.append((*names_and_arguments, options))
        self.stirred.set()
        future = asyncio.get_running_loop().create_future()
        if self.problem is not None:
            future.set_exception(self.problem)
        else:
            future.set_result(None)
        return future


class Client(Peer):
    """Remembers the errors that it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, DurableError]] = []

    def encode(self, call: Call, version: int, result: Any) -> Any:
        raise AssertionError("nothing is run here")

    def put(self, call: Call, encoded: Any) -> None:
        raise AssertionError("nothing is run here")

    def fail(self, call: Call, error: DurableError) -> None:
        self.told.append((call.id, error))


def former(caller: Caller) -> FormerShard:
    return FormerShard(caller, asyncio.get_running_loop(), epoch=3, seq=41)


async def test_a_late_call_is_refused_as_certainly_not_run() -> None:
    """Its client sends it again where the new table says, with a key or without."""
    caller, client = Caller(), Client()
    shard = former(caller)
    shard.receive(client, [Call(1, "Counter", "a", "increment"), Call(2, "Counter", "b", "increment", key="k")])

    assert [number for number, _ in client.told] == [1, 2]
    assert all(isinstance(error, NotOwner) and error.outcome == "not_applied" for _, error in client.told)
    shard.succeeded()
    shard.pass_on()
    assert caller.called == []


async def test_late_one_way_calls_are_passed_on_once_the_successor_serves() -> None:
    """Nobody would send them again; they keep their order, their key and their flags, and are told nothing."""
    caller, client = Caller(), Client()
    shard = former(caller)
    first = Call(1, "Counter", "a", "add", [1], 700, {"by": 2}, "acme", "key", FLAG_ONE_WAY | FLAG_AUTO_KEY, ["X/1"])
    shard.receive(client, [first, Call(2, "Counter", "a", "add", [3], flags=FLAG_ONE_WAY)])
    assert caller.called == []

    shard.succeeded()
    await asyncio.wait_for(caller.stirred.wait(), 10)
    options = {"prefix": "acme", "timeout": 0.7, "key": "key", "flags": 6, "chain": ["X/1"], "trace": None}
    assert caller.called[0] == ("Counter", "a", "add", [1], {"by": 2}, options)
    assert [called[3] for called in caller.called] == [[1], [3]]
    caller.stirred.clear()

    shard.receive(client, [Call(3, "Counter", "a", "add", [4], flags=FLAG_ONE_WAY)])
    await asyncio.wait_for(caller.stirred.wait(), 10)
    assert [called[3] for called in caller.called] == [[1], [3], [4]]
    assert client.told == []


async def test_a_one_way_call_that_cannot_be_passed_on_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody should know that it is lost."""
    caller = Caller()
    caller.problem = DurableError("no way")
    shard = former(caller)
    shard.receive(Client(), [Call(1, "Counter", "a", "add", flags=FLAG_ONE_WAY)])
    shard.succeeded()
    await asyncio.wait_for(caller.stirred.wait(), 10)
    await asyncio.sleep(0)  # the callbacks of the future

    assert "a one-way call that was passed on is lost: no way" in caplog.text


async def test_questions_are_left_to_the_successor() -> None:
    """They stay unanswered: the client asks again when it follows the table."""
    asked = asyncio.ensure_future(former(Caller()).request("list", {}))
    await asyncio.sleep(0)
    assert not asked.done()
    asked.cancel()

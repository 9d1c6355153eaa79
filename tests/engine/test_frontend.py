"""The client's side of a calm day: packing, answers, errors, timeouts, and what is refused before it is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from durable_engine import frontend
from durable_engine.errors import (
    CallTimeout,
    DurableError,
    EngineClosed,
    HandlerFailed,
    InvalidArguments,
    Overloaded,
    TooLarge,
    Unavailable,
)
from durable_engine.frontend import Frontend
from durable_shards.backlog import PORTION
from durable_shards.wire import FLAG_ONE_WAY
from durable_storage.limits import ARGUMENTS_BYTES_MAX, KEY_BYTES_MAX
from tests.support.scripted import WAIT_SECONDS, Rig, ScriptedServer


async def test_a_call_brings_back_what_the_handler_returned(tmp_path: Path) -> None:
    """Values of all plain kinds arrive as they left."""
    async with Rig(tmp_path) as rig:
        for value in (None, True, -5, 2**63, 1.5, "é", b"\x00", [1, [2]], {"a": {1: None}}):
            assert value == await rig.call("echo", value)


async def test_calls_of_one_tick_travel_in_one_message(tmp_path: Path) -> None:
    """A hundred calls made together cost the shard one message, and their replies one for each portion of its work."""
    async with Rig(tmp_path) as rig:
        await rig.call("echo", 0)
        server = rig.server.servers[0]
        assert server is not None
        before = server.statistics().transport

        assert list(range(100)) == await asyncio.gather(*(rig.call("echo", n) for n in range(100)))

        after = server.statistics().transport
        assert after.messages_received - before.messages_received == 1
        assert after.messages_sent - before.messages_sent == -(-100 // PORTION)


async def test_what_is_too_much_for_one_message_is_split(tmp_path: Path) -> None:
    """Megabytes of calls made in one tick arrive whole and in order."""
    async with Rig(tmp_path) as rig:
        texts = [f"{n}-" + "x" * 10_000 for n in range(300)]

        assert texts == await asyncio.gather(*(rig.call("echo", text) for text in texts))

        assert texts == rig.shard.handlers


async def test_a_call_carries_all_that_it_was_given(tmp_path: Path) -> None:
    """Keyword arguments, tenant, key, flags, chain and trace arrive; the time left is the timeout."""
    async with Rig(tmp_path) as rig:
        await rig.call("echo")
        await rig.frontend.call(
            "Cart", "é", "echo", (1,), {"b": 2}, prefix="t", timeout=7, key="k", chain=["A/1"], trace={"x": "y"}
        )
        await rig.frontend.call("Cart", "plain", "echo", [], {"only": True}, prefix="t")

        _, call, plain = rig.shard.received
        assert (call.object_type, call.object_id, call.handler) == ("Cart", "é", "echo")
        assert (call.args, call.kwargs, call.prefix) == ([1], {"b": 2}, "t")
        assert (call.key, call.chain, call.trace, call.timeout_ms) == ("k", ["A/1"], {"x": "y"}, 7000)
        assert (plain.args, plain.kwargs, plain.prefix, plain.key) == ([], {"only": True}, "t", None)


async def test_an_error_of_the_handler_is_raised_where_the_call_is_awaited(tmp_path: Path) -> None:
    """With its class and its fields."""
    async with Rig(tmp_path) as rig:
        with pytest.raises(HandlerFailed, match="no") as caught:
            await rig.call("fail")
        assert caught.value.remote_type == "ValueError"


@pytest.mark.parametrize(
    ("object_id", "error"),
    [
        ("", InvalidArguments),
        ("a\0b", InvalidArguments),
        ("\ud800", InvalidArguments),
        (5, InvalidArguments),
        ([], InvalidArguments),
        (None, InvalidArguments),
        ("é" * 257, TooLarge),
    ],
)
async def test_an_id_that_can_be_none_is_refused_before_it_is_sent(
    tmp_path: Path, object_id: Any, error: type[DurableError]
) -> None:
    """parity 66, fault E1: ids are 1 to 512 bytes of UTF-8 without NUL."""
    async with Rig(tmp_path) as rig:
        with pytest.raises(error) as caught:
            await rig.frontend.call("Counter", object_id, "echo", [], None)
        assert caught.value.outcome == "not_applied"
        assert rig.shard.received == []


@pytest.mark.parametrize("argument", [object(), 2**64, -(2**63) - 1, "\ud800", {1j}])
async def test_an_argument_that_cannot_travel_is_refused_with_its_name(tmp_path: Path, argument: Any) -> None:
    """The message says which one it is."""
    async with Rig(tmp_path) as rig:
        with pytest.raises(InvalidArguments, match=r"argument 2 of Counter\.echo"):
            rig.call("echo", 1, argument)
        with pytest.raises(InvalidArguments, match=r"argument 'name' of Counter\.echo"):
            rig.frontend.call("Counter", "a", "echo", [], {"name": argument})
        assert await rig.call("echo", 2) == 2


async def test_arguments_have_a_limit(tmp_path: Path) -> None:
    """fault E4: at it they arrive, above it nothing is sent; the connection lives on."""
    async with Rig(tmp_path) as rig:
        fits = b"x" * (ARGUMENTS_BYTES_MAX - 100)
        with pytest.raises(TooLarge, match=str(ARGUMENTS_BYTES_MAX)):
            rig.call("echo", fits + b"x" * 100)
        assert await rig.call("echo", fits) == fits


async def test_keys_have_a_limit(tmp_path: Path) -> None:
    """Empty, too long or no text: refused by name."""
    async with Rig(tmp_path) as rig:
        with pytest.raises(TooLarge, match="idempotency_key"):
            rig.call("echo", key="k" * (KEY_BYTES_MAX + 1))
        for wrong in ("", 5, "\ud800"):
            with pytest.raises(InvalidArguments, match="idempotency_key"):
                rig.call("echo", key=wrong)


async def test_a_timeout_must_be_positive(tmp_path: Path) -> None:
    """Zero and NaN are mistakes; infinity is a day."""
    async with Rig(tmp_path) as rig:
        for wrong in (0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                rig.call("echo", timeout=wrong)
        assert await rig.call("echo", 1, timeout=float("inf")) == 1


async def test_a_call_without_an_answer_times_out(tmp_path: Path) -> None:
    """fault E11: its outcome is unknown; a late answer is dropped, and other calls are not disturbed."""
    async with Rig(tmp_path) as rig:
        held = rig.call("hold", 1, timeout=0.05)
        patient = rig.call("hold", 2)
        with pytest.raises(CallTimeout) as caught:
            await held
        assert caught.value.outcome == "unknown"

        rig.shard.release()
        assert await patient == 2
        assert rig.frontend.counts.late == 1


async def test_a_cancelled_call_does_no_harm(tmp_path: Path) -> None:
    """Its answer finds nobody."""
    async with Rig(tmp_path) as rig:
        held = rig.call("hold", 1)
        await rig.shard.until(1)
        held.cancel()
        rig.shard.release()
        assert await rig.call("echo", 2) == 2


async def test_a_one_way_call_returns_when_it_was_handed_over(tmp_path: Path) -> None:
    """No reply is sent for it."""
    async with Rig(tmp_path) as rig:
        assert await rig.call("hold", 1, flags=FLAG_ONE_WAY) is None
        await rig.shard.until(1)
        rig.shard.release()
        assert await rig.call("echo", 2) == 2
        assert rig.frontend.counts.replies == 1
        assert rig.frontend.statistics().in_flight == 0


async def test_a_one_way_call_survives_the_closing_of_its_client(tmp_path: Path) -> None:
    """What was made before `close` leaves, even if it was made in the same tick."""
    async with Rig(tmp_path) as rig:
        await rig.call("echo", 0)
        sent = [rig.call("echo", n, flags=FLAG_ONE_WAY) for n in range(1, 4)]
        rig.frontend.close()
        assert await asyncio.gather(*sent) == [None, None, None]
        await rig.shard.until(4)
        assert rig.shard.handlers == [0, 1, 2, 3]


async def test_calls_that_wait_in_the_client_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound they are refused at once; the others go on waiting."""
    monkeypatch.setattr(frontend, "UNSENT_MAX", 10)
    async with Rig(tmp_path) as rig:
        waiting = [rig.call("echo", n) for n in range(10)]
        with pytest.raises(Overloaded):
            rig.call("echo", 10)
        assert list(range(10)) == await asyncio.gather(*waiting)
        assert await rig.call("echo", 11) == 11


async def test_server_and_shards_answer_requests(tmp_path: Path) -> None:
    """Values come back, errors are raised, and a bug of the server is an error too."""
    async with Rig(tmp_path) as rig:
        assert await rig.frontend.request("ping") == "pong"
        assert await rig.frontend.request("list", {"a": 1}, shard=0) == {"op": "list", "a": 1}
        with pytest.raises(DurableError, match="please"):
            await rig.frontend.request("fail", shard=0)
        with pytest.raises(DurableError, match="a bug"):
            await rig.frontend.request("break", shard=0)
        with pytest.raises(DurableError, match="unknown request"):
            await rig.frontend.request("nonsense")
        with pytest.raises(Unavailable, match="no shard 7"):
            await rig.frontend.request("ping", shard=7)


async def test_nobody_there_says_what_to_do() -> None:
    """fault E12: unavailable, which is a ConnectionError, after the timeout."""
    with pytest.raises(ConnectionError, match="durable-engine run") as caught:
        await Frontend.connect("tcp://127.0.0.1:1", timeout=0.1)
    assert isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("url", ["nonsense", "http://localhost:1", "tcp://", ""])
async def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """ValueError with the form that is expected."""
    with pytest.raises(ValueError, match="tcp://HOST:PORT"):
        await Frontend.connect(url)


async def test_a_client_may_come_before_the_server(tmp_path: Path) -> None:
    """fault E12: it waits until the server is there."""
    server = ScriptedServer(tmp_path)
    connecting = asyncio.ensure_future(Frontend.connect(server.url, 20))
    await asyncio.sleep(0)
    async with server:
        frontend = await connecting
        assert await frontend.call("Counter", "a", "echo", [1], None) == 1
        frontend.close()


async def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    """Calls fail with EngineClosed, and so do later ones."""
    async with Rig(tmp_path) as rig:
        held = rig.call("hold", 1)
        await rig.shard.until(1)
        rig.frontend.close()
        rig.frontend.close()
        with pytest.raises(EngineClosed):
            await held
        with pytest.raises(EngineClosed):
            rig.call("echo", 1)
        with pytest.raises(EngineClosed):
            await rig.frontend.request("ping")


async def test_every_request_of_a_crowd_is_answered(tmp_path: Path) -> None:
    """fault E7: by shard and supervisor, although their pipes to a client that is busy asking are full at times."""
    async with Rig(tmp_path) as rig:
        shard = [rig.frontend.request("op", {"n": n}, shard=0, timeout=WAIT_SECONDS) for n in range(900)]
        door = [rig.frontend.request("ping", timeout=WAIT_SECONDS) for _ in range(250)]
        answers = await asyncio.gather(*shard, *door)

        assert [{"op": "op", "n": n} for n in range(900)] + ["pong"] * 250 == answers
        assert rig.frontend.counts.malformed == 0

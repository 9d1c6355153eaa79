"""The client's side of a bad day: shards that die, move, refuse, lag behind or talk nonsense."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_engine import frontend
from durable_engine.errors import CallTimeout, DurableError, HandlerFailed, Overloaded, Rejected, Unavailable
from durable_engine.frontend import Frontend
from durable_shards import wire
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH, ShardRoute
from tests.support.scripted import WAIT_SECONDS, Rig, ScriptedShard, until


async def test_a_call_whose_shard_died_is_of_unknown_outcome(tmp_path: Path) -> None:
    """Without a key it is not sent again; the caller hears at once, and what to do."""
    async with Rig(tmp_path) as rig:
        lost = rig.call("hold", 1)
        await rig.shard.until(1)
        rig.server.kill()

        with pytest.raises(Unavailable, match="idempotency_key") as caught:
            await lost
        assert caught.value.outcome == "unknown"


async def test_a_call_with_a_key_is_sent_again(tmp_path: Path) -> None:
    """fault E8: to the next incarnation, with the same key, no longer called fresh."""
    async with Rig(tmp_path) as rig:
        kept = rig.call("hold", 1, key="k", flags=FLAG_FRESH | FLAG_AUTO_KEY)
        await rig.shard.until(1)
        assert rig.shard.received[0].flags == FLAG_FRESH | FLAG_AUTO_KEY

        shard = rig.server.replace()
        await shard.until(1)
        shard.release()

        assert await kept == 1
        assert (shard.received[0].key, shard.received[0].flags) == ("k", FLAG_AUTO_KEY)
        assert shard.received[0].timeout_ms <= WAIT_SECONDS * 1000


async def test_a_call_that_waits_to_be_sent_again_may_have_run(tmp_path: Path) -> None:
    """When its shard stays away until the deadline, its outcome is unknown: the dead shard may have committed it."""
    async with Rig(tmp_path) as rig:
        kept = rig.call("hold", 1, key="k", timeout=0.5)
        await rig.shard.until(1)
        rig.server.kill()
        rig.server.announce()

        with pytest.raises(CallTimeout, match="same key") as caught:
            await kept
        assert (caught.value.outcome, caught.value.retryable) == ("unknown", True)


@pytest.mark.parametrize(
    ("answer", "outcome"), [(Overloaded(), "unknown"), (HandlerFailed(), "not_applied"), (Rejected(), "not_applied")]
)
async def test_a_refused_repetition_says_nothing_of_the_call_before(
    tmp_path: Path, answer: DurableError, outcome: str
) -> None:
    """Only a turn looks for the result of the key: a refusal before any turn leaves the outcome unknown."""
    async with Rig(tmp_path) as rig:
        kept = rig.call("hold", 1, key="k")
        await rig.shard.until(1)
        shard = rig.server.replace()
        await shard.until(1)
        peer: Any = shard.held[0].peer
        peer.fail(shard.held[0], answer)
        shard.on_release()

        with pytest.raises(type(answer)) as caught:
            await kept
        assert caught.value.outcome == outcome


async def test_calls_keep_their_order_over_a_crash(tmp_path: Path) -> None:
    """Calls in flight and calls made while nobody was there arrive in the order in which they were made."""
    async with Rig(tmp_path) as rig:
        calls = [rig.call("hold", n, key=f"k{n}") for n in range(20)]
        await rig.shard.until(20)
        rig.server.kill()
        rig.server.announce()
        calls += [rig.call("echo", n, key=f"k{n}") for n in range(20, 40)]
        await rig.frontend.request("ping")
        calls += [rig.call("echo", n) for n in range(40, 60)]

        shard = rig.server.replace()
        await shard.until(60)
        shard.release()

        assert list(range(60)) == await asyncio.gather(*calls)
        assert list(range(60)) == shard.handlers


async def test_a_call_that_was_never_handed_over_waits_for_the_shard(tmp_path: Path) -> None:
    """It needs no key for that."""
    async with Rig(tmp_path) as rig:
        rig.server.kill()
        rig.server.announce()
        await rig.frontend.request("ping")
        waiting = rig.call("echo", 1)
        await rig.frontend.request("ping")

        rig.server.replace()

        assert await waiting == 1


async def test_a_call_that_may_have_run_before_its_shard_died_for_long_is_of_unknown_outcome(tmp_path: Path) -> None:
    """With a key it waits for the next shard until its time is over; but nobody may say then that nothing was run."""
    async with Rig(tmp_path) as rig:
        asked = rig.call("hold", 1, key="k")
        await rig.shard.until(1)
        rig.server.kill()
        rig.server.announce()
        link = rig.frontend._links[0]
        await until(lambda: link.unsent)

        link.expire(float("inf"))

        with pytest.raises(CallTimeout, match="ask again with the same key") as caught:
            await asked
        assert (caught.value.outcome, caught.value.retryable) == ("unknown", True)


async def test_a_shard_that_stays_away_is_unavailable(tmp_path: Path) -> None:
    """When the timeout is over: nothing was run, and the message says which shard it was."""
    async with Rig(tmp_path) as rig:
        rig.server.kill()
        rig.server.announce()
        await rig.frontend.request("ping")

        with pytest.raises(Unavailable, match="shard 0") as caught:
            await rig.call("echo", 1, timeout=0.05)
        assert caught.value.outcome == "not_applied"


async def test_refused_calls_go_to_the_owner_in_order(tmp_path: Path) -> None:
    """NotOwner is nobody's business: the call is sent again when the routes are known anew."""
    async with Rig(tmp_path) as rig:
        await rig.call("echo", "warm")
        rig.shard.refusing = True
        calls = [rig.call("echo", n) for n in range(5)]
        await until(lambda: rig.frontend.counts.refused >= 5)
        calls += [rig.call("echo", n) for n in range(5, 10)]

        shard = rig.server.replace()

        assert list(range(10)) == await asyncio.gather(*calls)
        assert list(range(10)) == shard.handlers
        assert rig.frontend.counts.refused >= 5


async def test_a_shard_may_change_its_mind(tmp_path: Path) -> None:
    """Refused calls are offered again to the same shard while the routes say so."""
    async with Rig(tmp_path) as rig:
        rig.shard.refusing = True
        calls = [rig.call("echo", n) for n in range(3)]
        await rig.shard.until(9)
        rig.shard.refusing = False
        assert await asyncio.gather(*calls) == [0, 1, 2]


async def test_a_question_for_the_routes_that_is_not_taken_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fault E7: refused calls wait for the answer, and the pipe to the supervisor may be full."""
    monkeypatch.setattr(frontend, "HELLO_SECONDS", 0.01)
    async with Rig(tmp_path) as rig:
        await rig.call("echo", "warm")
        asked = []

        def refuse(message: bytes) -> bool:
            asked.append(message)
            return False

        with monkeypatch.context() as full:
            full.setattr(rig.frontend._control, "send", refuse)
            rig.shard.refusing = True
            call = rig.call("echo", 1)
            await until(lambda: rig.frontend.counts.refused > 0 and len(asked) > 0)
            rig.shard.refusing = False

        assert await call == 1


async def test_refused_calls_time_out(tmp_path: Path) -> None:
    """When nobody owns the object until the deadline, nothing was run."""
    async with Rig(tmp_path) as rig:
        rig.shard.refusing = True
        with pytest.raises((Unavailable, CallTimeout)) as caught:
            await rig.call("echo", 1, timeout=0.1)
        assert caught.value.outcome == "not_applied"


async def test_a_draining_shard_answers_what_it_has(tmp_path: Path) -> None:
    """Calls in flight are answered by the old incarnation, new ones wait for the next."""
    async with Rig(tmp_path) as rig:
        held = rig.call("hold", "old")
        await rig.shard.until(1)
        rig.server.states[0] = "draining"
        rig.server.announce()
        await rig.frontend.request("ping")
        waiting = rig.call("echo", "new")
        await rig.frontend.request("ping")

        old = rig.shard
        old.release()
        assert await held == "old"
        shard = rig.server.replace()

        assert await waiting == "new"
        assert (old.handlers, shard.handlers) == (["old"], ["new"])


async def test_replies_of_an_ended_ownership_are_dropped(tmp_path: Path) -> None:
    """Once epoch 3 has answered, nothing of epoch 2 counts any more."""
    async with Rig(tmp_path) as rig:
        rig.shard.epoch = 3
        assert await rig.call("echo", 1) == 1
        rig.shard.epoch = 2

        with pytest.raises(CallTimeout):
            await rig.call("echo", 2, timeout=0.05)
        assert rig.frontend.counts.stale == 1


async def test_nonsense_is_counted_and_does_no_harm(tmp_path: Path) -> None:
    """fault E3: malformed replies, foreign kinds and unreadable errors never end the frontend."""
    async with Rig(tmp_path) as rig:
        held = rig.call("hold", 1)
        await rig.shard.until(1)
        peer: Any = rig.shard.held[0].peer
        server: Any = rig.server.servers[0]
        nonsense = [
            b"",
            b"\x01",
            b"\x02\x04\x90",
            b"\x01\x04\xc1",
            b"\x01\x04\x93\x01\x01\x91\x91\x05",
            b"\x01\x63\x00",
            wire.pack(wire.HELLO, wire.Hello()),
            wire.pack(wire.ERROR, "so what"),
            wire.pack(wire.RESPONSE, wire.Response(99, 0, None)),
        ]
        for message in nonsense:
            server._transport.send(peer.identity, message)
        rig.shard.release()

        assert await held == 1
        assert rig.frontend.counts.malformed == len(nonsense) - 1
        assert rig.frontend.counts.late == 1


async def test_a_restarted_server_is_found_again(tmp_path: Path) -> None:
    """fault E12: all processes gone and back under the same address: calls with keys do not notice, nor do new ones."""
    async with Rig(tmp_path) as rig:
        kept = rig.call("hold", 1, key="k")
        await rig.shard.until(1)
        rig.server.close()
        await until(lambda: rig.frontend._links[0].held)
        waiting = rig.call("echo", 2)

        rig.server.name, rig.server.version = "second", 0
        rig.server.shards = [ScriptedShard()]
        rig.server.open()
        await rig.shard.until(2)
        rig.shard.release()

        assert (await kept, await waiting) == (1, 2)


async def test_the_server_hears_what_was_acknowledged(tmp_path: Path) -> None:
    """A client remembers the last commit of each shard it was answered from, and tells the next server."""
    async with Rig(tmp_path) as rig:
        rig.shard.epoch, rig.shard.seq = 7, 41
        await rig.call("echo", 1)
        rig.server.close()
        rig.server.name = "second"
        rig.server.open()
        await until(lambda: bool(rig.server.acknowledged))
        assert rig.server.acknowledged == [{0: (7, 42)}]


async def test_a_table_that_makes_no_sense_is_counted(tmp_path: Path) -> None:
    """An endpoint that is none, partitions of another number: calls wait for a better table."""
    async with Rig(tmp_path) as rig:
        await rig.call("echo", 0)
        good = rig.server.table()
        for change in ({"partitions": 512}, {"shards": [ShardRoute(0, "nonsense", 1, (0, 1024), "up", 77)]}):
            rig.frontend._on_welcome(msgspec.structs.replace(good, version=good.version + 1, **change))
        waiting = rig.call("echo", 1)
        assert rig.frontend.counts.malformed == 2
        rig.frontend._on_welcome(msgspec.structs.replace(good, version=good.version + 2))
        assert await waiting == 1


async def test_objects_live_in_the_shard_of_their_partition(tmp_path: Path) -> None:
    """Calls are spread over the shards by address alone."""
    async with Rig(tmp_path, shards=4) as rig:
        ids = [f"user-{n}" for n in range(200)]
        await asyncio.gather(*(rig.call("echo", name, object_id=name) for name in ids))
        for number, shard in enumerate(rig.server.shards):
            assert shard.received
            for call in shard.received:
                partition = wire_partition(call)
                assert number * 256 <= partition < (number + 1) * 256


def wire_partition(call: wire.Call) -> int:
    from zlib import crc32

    return crc32(f"{call.prefix}\0{call.object_type}\0{call.object_id}".encode()) % 1024


async def test_one_dead_shard_does_not_disturb_the_others(tmp_path: Path) -> None:
    """Calls to the others go on while one is away."""
    async with Rig(tmp_path, shards=2) as rig:
        homes: dict[int, str] = {}
        for n in range(50):
            home = wire_partition(wire.Call(0, "Counter", str(n), "")) // 512
            homes.setdefault(home, str(n))
        rig.server.kill(0)
        rig.server.announce()
        await rig.frontend.request("ping")
        waiting = rig.call("echo", 1, object_id=homes[0])

        assert await rig.call("echo", 2, object_id=homes[1]) == 2
        rig.server.replace(0)
        assert await waiting == 1


async def test_two_frontends_do_not_mix_up_their_calls(tmp_path: Path) -> None:
    """Equal call numbers of two clients are two calls."""
    async with Rig(tmp_path) as rig:
        other = await Frontend.connect(rig.server.url)
        first, second = rig.call("echo", "mine"), other.call("Counter", "a", "echo", ["theirs"], None)
        assert (await first, await second) == ("mine", "theirs")
        other.close()

"""How engines begin and end, and what they say when they cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durable_engine import (
    DefinitionError,
    DurableError,
    DurableObject,
    Engine,
    EngineClosed,
    StoreInUse,
    Unavailable,
    handler,
)
from tests.engine.shop import Cart, Counter, Log
from tests.support.eventually import eventually
from tests.support.server import children_of, is_alive

ROOT = Path(__file__).parent.parent.parent


async def test_an_engine_works_between_opening_and_closing_only() -> None:
    """Before and after, calls fail with EngineClosed and say what to do; it is opened once."""
    engine = Engine("memory://", objects=[Counter], shards=0)
    with pytest.raises(EngineClosed, match="async with"):
        await engine.at(Counter, "a").increment()
    async with engine:
        assert await engine.at(Counter, "a").increment() == 1
        with pytest.raises(EngineClosed):
            await engine.start()
    reference = engine.at(Counter, "a")
    with pytest.raises(EngineClosed):
        await reference.increment()
    with pytest.raises(EngineClosed):
        await engine.statistics()
    with pytest.raises(EngineClosed):
        await engine.start()
    await engine.close()


def test_wrong_settings_are_refused_when_the_engine_is_made() -> None:
    """With what to write instead."""
    with pytest.raises(TypeError, match=r"objects=\[Counter\]"):
        Engine("memory://", objects=Counter)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"objects=\['shop'\]"):
        Engine("memory://", objects="shop")
    with pytest.raises(ValueError, match="shards"):
        Engine("memory://", objects=[Counter], shards=-1)
    with pytest.raises(TypeError, match="nonsense"):
        Engine("memory://", objects=[Counter], nonsense=1)
    with pytest.raises(TypeError, match="timeout"):
        Engine("memory://", objects=[Counter], call_timeout="5s")  # type: ignore[arg-type]


async def test_wrong_uses_say_what_was_expected() -> None:
    """A class that is none of ours, something else than a handler."""
    async with Engine("memory://", objects=[Counter]) as engine:
        with pytest.raises(DefinitionError, match="DurableObject"):
            engine.at(dict, "a")  # type: ignore[type-var]
        with pytest.raises(TypeError, match=r"Counter\.increment"):
            await engine.call("increment", "a")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"Counter\.increment"):
            await engine.call(Counter(count=1).increment, "a")  # type: ignore[call-overload]


@pytest.mark.parametrize("store", ["nonsense", "mysql://x", "sqlite:/x"])
async def test_a_store_that_cannot_be_understood_is_refused(store: str) -> None:
    """With examples of those that can."""
    with pytest.raises(DurableError):
        await Engine(store, objects=[Counter]).start()


@pytest.mark.parametrize("shards", [0, pytest.param(2, marks=pytest.mark.processes)])
async def test_what_was_acknowledged_is_there_after_reopening(tmp_path: Path, shards: int) -> None:
    """parity 72, 93: state survives engines, and even a change of the number of shards."""
    store = f"sqlite:///{tmp_path}/store"
    async with Engine(store, objects=[Counter], shards=shards) as engine:
        await asyncio.gather(*(engine.at(Counter, str(n)).increment(n) for n in range(50)))
    async with Engine(store, objects=[Counter], shards=0) as engine:
        assert list(range(50)) == await asyncio.gather(*(engine.at(Counter, str(n)).get() for n in range(50)))


async def test_a_store_has_one_owner(tmp_path: Path) -> None:
    """A second engine is refused, unless it takes over: then the first one serves no more."""
    store = f"sqlite:///{tmp_path}/store"
    async with Engine(store, objects=[Counter]) as first:
        await first.at(Counter, "a").increment()
        with pytest.raises(StoreInUse, match=str(os.getpid())):
            await Engine(store, objects=[Counter]).start()
        async with Engine(store, objects=[Counter], takeover=True) as second:
            assert await second.at(Counter, "a").increment() == 2
            with pytest.raises(DurableError):
                await first.at(Counter, "a").increment()
            assert await second.at(Counter, "a").get() == 2


async def test_closing_waits_for_what_runs() -> None:
    """A turn that is under way ends, is committed and answered."""
    engine = await Engine("memory://", objects=[Counter]).start()
    running = asyncio.ensure_future(engine.at(Counter, "a").slow(0.1))
    await asyncio.sleep(0)
    assert await engine.at(Counter, "b").increment() == 1  # made later, so the first one runs by now
    await engine.close()
    assert await running == 1


@pytest.mark.processes
async def test_no_process_outlives_its_engine(tmp_path: Path) -> None:
    """Neither a closed one nor one whose program was killed."""
    before = set(children_of(os.getpid()))
    async with Engine("memory://", objects=[Counter], shards=2) as engine:
        assert await engine.at(Counter, "a").process() != os.getpid()
        pids = [shard.pid for shard in await engine.shards()]
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))
    assert set(children_of(os.getpid())) <= before

    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, os, signal\n"
        "from durable_engine import Engine\n"
        "async def main():\n"
        "    async with Engine('memory://', objects=['tests.engine.shop'], shards=2) as engine:\n"
        "        print(*[shard.pid for shard in await engine.shards()], flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = run(program)
    assert done.returncode == -signal.SIGKILL
    orphans = list(map(int, done.stdout.split()))
    assert len(orphans) == 2
    eventually(lambda: not any(map(is_alive, orphans)))


@pytest.mark.processes
async def test_a_killed_shard_is_not_noticed_with_exactly_once(tmp_path: Path) -> None:
    """Calls in flight when it dies are sent again and count once."""
    store = f"sqlite:///{tmp_path}/store"
    async with Engine(store, objects=[Counter], shards=2, exactly_once=True, call_timeout=30) as engine:
        counters = [engine.at(Counter, str(n)) for n in range(40)]

        async def count() -> None:
            for _ in range(25):
                await asyncio.gather(*(counter.increment() for counter in counters))

        counting = asyncio.ensure_future(count())
        for shard in await engine.shards():
            os.kill(shard.pid, signal.SIGKILL)
        await counting
        assert await asyncio.gather(*(counter.get() for counter in counters)) == [25] * 40
        assert sum(shard.restarts for shard in await engine.shards()) == 2


async def replace_shard(engine: Engine, number: int, how: str) -> None:
    """Until another process serves its partitions."""
    before = (await engine.shards())[number].pid
    if how == "drained":
        await engine.request("restart_shard", {"shard": number})
    else:
        os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            shard = (await engine.shards())[number]
            if shard.state == "up" and shard.pid != before:
                return
            await asyncio.sleep(0.01)


@pytest.mark.processes
@pytest.mark.parametrize("how", ["drained", "killed"])
async def test_calls_keep_their_order_when_shards_are_replaced(tmp_path: Path, how: str) -> None:
    """A drained shard loses no call, keys or not; a killed one none that has a key. Each is run once, in order."""
    store, exactly_once = f"sqlite:///{tmp_path}/store", how == "killed"
    async with Engine(store, objects=[Log], shards=2, exactly_once=exactly_once, call_timeout=30) as engine:
        logs = [engine.at(Log, str(n)) for n in range(30)]
        ended = asyncio.Event()

        async def feed(log: Log) -> int:
            fed = 0
            while not ended.is_set():
                await asyncio.gather(*(log.append(fed + n) for n in range(5)))
                fed += 5
            return fed

        feeding = [asyncio.ensure_future(feed(log)) for log in logs]
        for _ in range(3):
            for number in range(2):
                await replace_shard(engine, number, how)
        ended.set()
        for fed, log in zip(await asyncio.gather(*feeding), logs, strict=True):
            assert list(range(fed)) == await log.all()


@pytest.mark.processes
async def test_objects_that_processes_cannot_import_are_refused() -> None:
    """A class inside a function, a module that is not there, one that fails: told by the engine's opening."""

    class Local(DurableObject, name="lifecycle.Local"):
        @handler
        def get(self) -> int:
            return 1

    with pytest.raises(DurableError, match="top level of a module, or use shards=0"):
        await Engine("memory://", objects=[Local], shards=1).start()
    with pytest.raises(DurableError, match="no_such_module"):
        await Engine("memory://", objects=["no_such_module"], shards=1).start()
    async with Engine("memory://", objects=[Local], shards=0) as engine:
        assert await engine.at(Local, "a").get() == 1


@pytest.mark.processes
def test_a_script_may_declare_its_own_objects(tmp_path: Path) -> None:
    """`__main__` is found by its file, and whatever it prints on import disturbs nobody."""
    program = tmp_path / "script.py"
    program.write_text(
        "import asyncio\n"
        "from durable_engine import DurableObject, Engine, handler\n"
        "print('imported', flush=True)\n"
        "class Greeter(DurableObject):\n"
        "    @handler\n"
        "    def greet(self, name: str) -> str:\n"
        "        print('greeting', flush=True)\n"
        "        return f'hello {name}'\n"
        "async def main():\n"
        "    async with Engine('memory://', objects=[Greeter], shards=1) as engine:\n"
        "        print(await engine.at(Greeter, 'x').greet('you'))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "hello you"

    unguarded = tmp_path / "unguarded.py"
    unguarded.write_text(program.read_text().replace("if __name__ == '__main__':\n    ", ""))
    done = run(unguarded)
    assert done.returncode == 1
    assert '__name__ == "__main__"' in done.stderr


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """After the timeout that opening was given."""
    with pytest.raises(Unavailable, match="nobody answered"):
        await Engine.connect("tcp://127.0.0.1:1", timeout=0.1).start()


def test_the_class_cart_is_importable_by_name() -> None:
    """What processes are told to import."""
    from durable_engine.private import importable

    assert importable(Cart) == "tests.engine.shop:Cart"
    assert importable("anything") == "anything"


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """A program of its own, with the project on its path."""
    paths = [str(ROOT / part) for part in ("engine", "shards", "storage", ".")]
    return subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

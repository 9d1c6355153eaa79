"""One supervisor rules a store; another one is refused, or takes over and leaves the first with nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from durable_storage.errors import Fenced, StoreInUse
from durable_storage.lease import SILENT_SECONDS, Holder, Incumbent, must_wait_for_lease, process_started
from tests.contract.rigs import Rig, change

ME = Holder.of_this_process("tcp://here:7400")


def dead_process() -> Holder:
    """A process of this machine that ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return replace(ME, pid=process.pid, process_started=12345)


async def test_the_first_supervisor_rules(rig: Rig) -> None:
    """Terms grow with each."""
    control = await rig.control()
    first = await control.acquire(ME, takeover=False)
    await control.renew(first)
    await control.release(first)
    assert await control.acquire(ME, takeover=False) > first


async def test_a_second_supervisor_is_refused_with_the_holders_name(rig: Rig) -> None:
    """While the first one lives."""
    first, second = await rig.control(), await rig.control()
    term = await first.acquire(ME, takeover=False)
    with pytest.raises(StoreInUse, match=rf"pid {os.getpid()} on {ME.node} at tcp://here:7400.*--takeover"):
        await second.acquire(replace(ME, pid=1), takeover=False)
    await first.renew(term)


async def test_a_takeover_ends_the_term_and_fences_every_shard(rig: Rig) -> None:
    """Also those that the new supervisor does not start."""
    first, second = await rig.control(shards=2), await rig.control()
    term = await first.acquire(ME, takeover=False)
    shards = [await rig.open(shard, term=term) for shard in range(2)]
    new = await second.acquire(replace(ME, pid=1), takeover=True)
    assert new > term
    with pytest.raises(Fenced, match="must stop serving"):
        await first.renew(term)
    for shard in shards:
        with pytest.raises(Fenced):
            await shard.confirm()
        with pytest.raises(Fenced):
            await shard.commit([change("a", b"1")])
    await second.renew(new)


async def test_the_release_of_an_ended_term_changes_nothing(rig: Rig) -> None:
    """The replaced supervisor stops in its own time."""
    first, second = await rig.control(), await rig.control()
    term = await first.acquire(ME, takeover=False)
    new = await second.acquire(ME, takeover=True)
    await first.release(term)
    await second.renew(new)
    with pytest.raises(StoreInUse):
        await first.acquire(ME, takeover=False)


async def test_a_dead_holder_is_replaced_at_once(rig: Rig) -> None:
    """A supervisor that was killed can be started again without a word."""
    first, second = await rig.control(), await rig.control()
    term = await first.acquire(dead_process(), takeover=False)
    assert await second.acquire(ME, takeover=False) > term


async def test_preparing_a_store_in_use_leaves_it_alone(rig: Rig) -> None:
    """Another number of shards waits until the store is acquired."""
    first = await rig.control(shards=1)
    term = await first.acquire(ME, takeover=False)
    store = await rig.open(term=term)
    second = await rig.control(shards=2)
    assert await store.commit([change("a", b"1")]) == {}
    new = await second.acquire(replace(ME, pid=1), takeover=True)
    with pytest.raises(Fenced):
        await store.commit([change("a", b"2", 2)])
    ids = [await (await rig.open(shard, term=new)).list_ids("", "Counter", None, 10) for shard in range(2)]
    assert sorted(ids) == [[], ["a"]]


def test_whether_the_lease_is_waited_out_depends_on_what_is_known() -> None:
    """Dead for sure: no; anything else that may be replaced: yes."""
    elsewhere = replace(ME, boot="another boot", node="far")
    assert not must_wait_for_lease(None, takeover=False)
    assert not must_wait_for_lease(Incumbent(dead_process(), 0.1), takeover=False)
    assert must_wait_for_lease(Incumbent(ME, 0.1), takeover=True)
    assert must_wait_for_lease(Incumbent(elsewhere, SILENT_SECONDS + 1), takeover=False)
    for incumbent in (Incumbent(ME, SILENT_SECONDS + 1), Incumbent(elsewhere, SILENT_SECONDS - 1)):
        with pytest.raises(StoreInUse):
            must_wait_for_lease(incumbent, takeover=False)


def test_a_process_is_known_by_its_start_as_well_as_its_pid() -> None:
    """Pids are used again; a zombie counts as gone."""
    assert not ME.is_provably_dead()
    assert replace(ME, process_started=ME.process_started + 1).is_provably_dead()
    assert not replace(dead_process(), boot="another boot").is_provably_dead()
    with subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE) as process:
        assert process_started(process.pid)
        assert process.stdout is not None
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_started(process.pid) is None

"""A shard that is stopped when its batch is durable, and does not know it yet."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.server import is_alive

pytestmark = [pytest.mark.processes, pytest.mark.postgres]
WAIT_SECONDS = 30.0


def test_a_zombie_whose_batch_was_durable_before_the_takeover_tells_nothing_else(
    make_server: MakeServer, postgres_dsn: str, tmp_path: Path
) -> None:
    """fault A6, A7: the next owner has its batch, and the caller hears of that or that nobody can say."""
    with FaultProxy(postgres_dsn) as proxy, ThreadPoolExecutor() as threads:
        first = make_server(proxy.url, shards=1, stall_timeout=600).start()
        with first.client(timeout=2 * WAIT_SECONDS) as client:
            assert client.call_by_name("Counter", "c", "increment") == 1
            zombie = first.shard(0)["pid"]
            commits = proxy.faults.commits
            proxy.hold("down")
            unheard = threads.submit(client.call_by_name, "Counter", "c", "increment")
            eventually(lambda: proxy.faults.commits > commits and proxy.faults.struck["held"], state=lambda: first.log)
            for pid in (first.pid, *first.descendants()):
                os.kill(pid, signal.SIGSTOP)

            bind = f"ipc://{tmp_path}/second.sock"
            second = make_server(postgres_dsn, shards=1, bind=bind, takeover=True).start()
            with second.client(timeout=WAIT_SECONDS) as other:
                assert other.call_by_name("Counter", "c", "get") == 2
                proxy.release()
                os.kill(zombie, signal.SIGCONT)
                eventually(lambda: not is_alive(zombie), state=lambda: first.log)
                assert other.call_by_name("Counter", "c", "increment") == 3
            first.end()
        problem = unheard.exception(timeout=2 * WAIT_SECONDS)
    heard = unheard.result() if problem is None else getattr(problem, "outcome", problem)
    assert heard in (2, "unknown")
    assert "shard 0 stops" in first.log

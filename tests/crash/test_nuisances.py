"""Handlers that do what no handler should, in a real shard process: whom it concerns, and whom it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_engine import Client
from durable_engine.errors import HandlerFailed, Unavailable
from durable_engine.footprint import data_bytes
from durable_engine.memoryguard import FULL_SHARE
from durable_storage.limits import PROCESS_BYTES_MIN
from tests.crash import doomed_objects
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.server import Server

pytestmark = pytest.mark.processes


@pytest.fixture
def nuisances(make_server: MakeServer) -> Iterator[tuple[Server, Client]]:
    """A server of one shard, and a client of it."""
    server = make_server(objects=(doomed_objects.__file__,), shards=1).start()
    with server.client(timeout=20) as client:
        yield server, client


def test_a_handler_that_wants_too_much_memory_gets_an_error_and_no_more(make_server: MakeServer) -> None:
    """fault D7: the limit is the process's own, so that neither the machine nor the shard goes down with it."""
    server = make_server(objects=(doomed_objects.__file__,), shards=1, process_bytes=PROCESS_BYTES_MIN).start()
    with server.client(timeout=20) as client:
        with pytest.raises(HandlerFailed, match="MemoryError") as caught:
            client.call_by_name("Nuisance", "n", "take", [10 << 30], {})
        assert caught.value.outcome == "not_applied"
        assert client.call_by_name("Nuisance", "n", "get", [], {}) == 0
    assert server.shard(0)["restarts"] == 0


def test_a_shard_that_leaks_is_exchanged_while_it_serves(make_server: MakeServer) -> None:
    """fault D7: no call fails, and its neighbour keeps its process."""
    server = make_server(objects=(doomed_objects.__file__,), process_bytes=PROCESS_BYTES_MIN).start()
    before = [shard["pid"] for shard in server.shards()]
    with server.client(timeout=20) as client:
        assert client.call_by_name("Nuisance", "n", "take", [100 << 20], {}) == 1
        leaking = client.where("Nuisance", "n")
        assert leaking is not None
        while 0 < data_bytes(before[leaking]) <= PROCESS_BYTES_MIN * FULL_SHARE:
            client.call_by_name("Nuisance", "n", "take", [1 << 20], {})
        calls = client.call_by_name("Nuisance", "n", "get", [], {})

        eventually(lambda: server.shard(leaking)["pid"] not in (0, before[leaking]), state=lambda: server.log)

        server.wait_until_up(restarts=0)
        assert client.call_by_name("Nuisance", "n", "get", [], {}) == calls
    assert server.shard(1 - leaking)["pid"] == before[1 - leaking]
    assert f"of the {PROCESS_BYTES_MIN >> 20} MB that it may take" in server.log


def test_a_shard_that_is_full_when_it_is_fresh_keeps_its_process(make_server: MakeServer, tmp_path: Path) -> None:
    """fault D7: another would be as full, and the next as well; the log says once what helps, and calls are served."""
    objects = tmp_path / "stuffed.py"
    stuffing = int(PROCESS_BYTES_MIN * FULL_SHARE)
    objects.write_text(f"{Path(doomed_objects.__file__).read_text()}\ntaken.append(bytearray({stuffing}))\n")
    server = make_server(objects=(str(objects),), shards=1, process_bytes=PROCESS_BYTES_MIN).start()
    before = server.shard(0)["pid"]

    server.wait_for_log("so an exchange would not help: raise --process-memory-mb")

    assert data_bytes(before) > PROCESS_BYTES_MIN * FULL_SHARE
    with server.client(timeout=20) as client:
        assert client.call_by_name("Nuisance", "n", "get", [], {}) == 0
    assert server.shard(0)["pid"] == before


@pytest.mark.parametrize("how", ["os._exit", "abort"])
def test_a_handler_that_ends_its_process_is_a_strike_against_its_object(
    nuisances: tuple[Server, Client], how: str
) -> None:
    """fault A17: as a kill, of which the object is to blame."""
    server, client = nuisances

    with pytest.raises(Unavailable) as caught:
        client.call_by_name("Nuisance", "n", "leave", [how], {})

    assert caught.value.outcome == "unknown"
    server.wait_until_up(restarts=1)
    assert "strike 1 against Nuisance/n" in server.log
    assert client.call_by_name("Nuisance", "n", "get", [], {}) == 0


def test_a_handler_that_meddles_with_the_process_does_not_stop_the_engine(
    nuisances: tuple[Server, Client], tmp_path: Path
) -> None:
    """fault D15: directory, environment, signal handlers and streams are not what a shard lives on."""
    server, client = nuisances

    assert client.call_by_name("Nuisance", "n", "meddle", [str(tmp_path)], {}) == 1

    assert client.call_by_name("Nuisance", "m", "meddle", [str(tmp_path)], {}) == 1
    assert client.call_by_name("Nuisance", "n", "get", [], {}) == 1
    assert server.stop() == 0
    assert server.start().shard(0)["restarts"] == 0
    with server.client(timeout=20) as again:
        assert again.call_by_name("Nuisance", "n", "get", [], {}) == 1

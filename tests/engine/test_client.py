"""The blocking client: the same names, from any thread, without an event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from durable_engine import Client, EngineClosed, InvalidArguments, Unavailable, UnknownHandler
from tests.engine.shop import Cart, Counter, Line, OutOfStock
from tests.support.server import Server

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests here; each uses ids of its own."""
    server = Server(tmp_path_factory.mktemp("server"), "memory://", objects=("tests.engine.shop",), path=(str(ROOT),))
    yield server.start()
    server.end()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.endpoint) as client:
        yield client


ROOT = Path(__file__).parent.parent.parent


def test_calls_return_results_and_raise_errors(client: Client) -> None:
    """By reference, by handler, by name, one way; typed results, typed errors."""
    cart = client.at(Cart, "calls")
    assert Line("tea", Decimal(1)) == cart.add("tea", Decimal(1))
    assert client.call(Cart.sum, "calls") == Decimal(1)
    assert client.call_by_name("Cart", "calls", "sum", timeout=5) == "1"
    with pytest.raises(OutOfStock):
        cart.take("tea")
    with pytest.raises(InvalidArguments):
        client.call(Counter.increment, "calls", "x", timeout=5)
    with pytest.raises(UnknownHandler):
        client.call_by_name("Cart", "calls", "nonsense")
    with pytest.raises(AttributeError, match="handlers are"):
        cart.nonsense()
    client.send(Counter.increment, "calls", 3)
    assert client.call(Counter.get, "calls") == 3


def test_objects_are_seen_from_outside(client: Client) -> None:
    """All that `Engine` can, too."""
    assert client.state(Counter, "seen") is None
    client.at(Counter, "seen", prefix="t").increment(2)
    state = client.state(Counter, "seen", prefix="t")
    assert state is not None
    assert state.count == 2
    assert client.where(Counter, "seen", prefix="t") in (0, 1)
    assert client.evict(Counter, "seen", prefix="t") is True
    client.wake(Counter, "seen", prefix="t")
    assert client.objects(Counter, prefix="t") == ["seen"]
    alarms = client.alarms(Cart, "seen")
    alarms.schedule(Cart.expire, at=datetime(2100, 1, 1, tzinfo=UTC))
    alarms.schedule("expire", after=timedelta(days=9))
    assert [pending.name for pending in alarms.pending()] == ["expire"]
    assert alarms.cancel("expire") is True
    assert alarms.cancel_all() == 0
    assert client.delete(Counter, "seen", prefix="t") is True
    assert client.unpark(Counter, "seen") is False
    assert len(client.shards()) == len(client.statistics().shards) == 2
    assert client.request("shards")[0]["state"] == "up"


def test_many_threads_share_one_client(client: Client) -> None:
    """No call is lost or mixed up."""
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: client.at(Counter, "threads").increment(1 + 0 * n), range(400)))
    assert sorted(results) == list(range(1, 401))


def test_a_closed_client_says_so(server: Server) -> None:
    """Closing twice is fine; its thread is gone."""
    threads = threading.active_count()
    client = Client(server.endpoint)
    assert threading.active_count() == threads + 1
    client.close()
    client.close()
    assert threading.active_count() == threads
    with pytest.raises(EngineClosed, match="make another"):
        client.call(Counter.get, "a")


def test_whatever_is_under_way_ends_when_another_thread_closes_the_client(server: Server) -> None:
    """Calls as well as questions that take several steps; two threads may close at once."""

    def work(use: Callable[[], object], started: threading.Semaphore) -> None:
        while True:
            use()
            started.release()

    def close_under_way(client: Client) -> None:
        started = threading.Semaphore(0)
        uses = [client.shards, client.statistics, lambda: client.objects(Counter), client.at(Counter, "closing").get]
        with ThreadPoolExecutor(len(uses) + 2) as pool:
            working = [pool.submit(work, use, started) for use in uses]
            for _ in range(40):
                assert started.acquire(timeout=20)
            for closing in [pool.submit(client.close) for _ in range(2)]:
                closing.result(20)
            assert all(isinstance(each.exception(20), EngineClosed) for each in working)

    for _ in range(8):
        close_under_way(Client(server.endpoint))


def test_nobody_there_leaves_nothing_behind() -> None:
    """Unavailable, and no thread."""
    threads = threading.active_count()
    with pytest.raises(Unavailable):
        Client("tcp://127.0.0.1:1", timeout=0.1)
    with pytest.raises(ValueError, match="tcp://HOST:PORT"):
        Client("nonsense")
    assert threading.active_count() == threads


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_client_does_not_survive_fork(client: Client) -> None:
    """In the child it says so instead of hanging; in the parent it goes on."""
    pid = os.fork()
    if pid == 0:
        try:
            client.call(Counter.get, "fork")
        except EngineClosed as error:
            client.close()
            os._exit(0 if "fork" in error.message else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.call(Counter.get, "fork") == 0


def test_exactly_once_without_user_code(server: Server) -> None:
    """Keys are made for every call."""
    with Client(server.endpoint, exactly_once=True, prefix="once", call_timeout=10) as client:
        assert [client.at(Counter, "a").increment() for _ in range(3)] == [1, 2, 3]

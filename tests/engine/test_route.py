"""Which shard answers for which partition, and when a table replaces another."""

from __future__ import annotations

import pytest

from durable_engine.route import Route, RouteMap
from durable_shards.wire import RoutingTable, ShardRoute


def table(version: int, *shards: ShardRoute, server: str = "s", partitions: int = 1024) -> RoutingTable:
    return RoutingTable(server, version, partitions, list(shards))


def shard(number: int, endpoint: str, first: int, end: int, state: str = "up", pid: int = 1) -> ShardRoute:
    return ShardRoute(number, endpoint, 1, (first, end), state, pid)


def test_a_newer_table_replaces_an_older_one_of_the_same_server() -> None:
    """And any table of another server replaces both."""
    routes = RouteMap("tcp://h:1")
    assert routes.apply(table(5))
    assert not routes.apply(table(5))
    assert not routes.apply(table(4))
    assert routes.apply(table(6))
    assert routes.apply(table(1, server="another"))


def test_partitions_belong_to_the_shard_whose_range_has_them() -> None:
    """What no range has belongs to nobody; what is out of bounds is left out."""
    routes = RouteMap("tcp://h:1")
    routes.apply(table(1, shard(0, "a", 0, 512), shard(1, "b", 600, 4000)))
    assert [routes.partitions[each] for each in (0, 511, 512, 599, 600, 1023)] == [0, 0, -1, -1, 1, 1]


def test_calls_go_to_shards_that_are_up() -> None:
    """A new process is a new route, even on the same endpoint."""
    routes = RouteMap("ipc:///run/x")
    up, down, draining = shard(0, "e", 0, 1), shard(1, "", 1, 2), shard(2, "e", 2, 3, state="draining")
    routes.apply(table(1, up, down, draining))
    assert [routes.route_of(number) for number in range(4)] == [Route("e", 1), None, None, None]
    routes.apply(table(2, shard(0, "e", 0, 1, pid=2)))
    assert routes.route_of(0) == Route("e", 2) != Route("e", 1)


@pytest.mark.parametrize("listens", ["tcp://0.0.0.0:7401", "tcp://*:7401", "tcp://[::]:7401"])
def test_a_shard_on_all_interfaces_is_reached_as_the_server_was(listens: str) -> None:
    """Nobody can connect to a wildcard."""
    routes = RouteMap("tcp://db.example.org:7400")
    routes.apply(table(1, shard(0, listens, 0, 1024)))
    assert routes.route_of(0) == Route("tcp://db.example.org:7401", 1)


def test_another_number_of_partitions_is_refused() -> None:
    """fault F6: calls would go astray."""
    with pytest.raises(ValueError, match="512"):
        RouteMap("tcp://h:1").apply(table(1, partitions=512))

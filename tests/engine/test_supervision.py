"""The parts a supervisor judges by: watchdog, restarts, strikes, addresses. Pure, with clocks handed in."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from durable_engine import endpoints
from durable_engine.placement import LocalPlacement
from durable_engine.restarts import FAILING_AFTER, STABLE_SECONDS, Restarts
from durable_engine.strikes import PARKED_CHARACTERS_MAX, Strikes, describe_exit, is_strike
from durable_engine.supervisor_config import SupervisorConfig
from durable_engine.watchdog import Verdict, Watchdog
from durable_shards.control import EXIT_FAILED, EXIT_FENCED


def judge(watchdog: Watchdog, heartbeat_ms: int, until_ms: int, *, start_ms: int = 0) -> list[tuple[int, Verdict]]:
    """The verdicts other than FINE of a look every 100 ms at a heartbeat that stands still."""
    looks = [(now, watchdog.judge(heartbeat_ms, now)) for now in range(start_ms, until_ms, 100)]
    return [(now, verdict) for now, verdict in looks if verdict is not Verdict.FINE]


def test_the_watchdog_warns_once_and_then_condemns() -> None:
    """A loop that stands still is warned of after half a second and killed after three."""
    verdicts = judge(Watchdog(500, 3000), 10_000, 13_100, start_ms=10_000)

    assert verdicts == [(10_500, Verdict.WARN), (13_000, Verdict.KILL)]


def test_the_watchdog_leaves_a_beating_shard_alone() -> None:
    """Heartbeats that keep coming are never warned of."""
    watchdog = Watchdog(500, 3000)

    assert {watchdog.judge(now - 90, now) for now in range(1000, 60_000, 100)} == {Verdict.FINE}


def test_the_watchdog_warns_again_after_a_recovery() -> None:
    """Each stall has its own warning."""
    watchdog = Watchdog(500, 3000)
    first = judge(watchdog, 1000, 1700, start_ms=1000)
    second = judge(watchdog, 1700, 2400, start_ms=1700)

    assert [verdict for _, verdict in first + second] == [Verdict.WARN, Verdict.WARN]


def test_a_watchdog_that_overslept_condemns_nobody() -> None:
    """After a suspended machine all heartbeats are old; the shards get their full time anew."""
    watchdog = Watchdog(500, 3000)
    watchdog.judge(1000, 1000)

    verdicts = judge(watchdog, 1000, 65_000, start_ms=61_000)

    assert verdicts == [(61_000, Verdict.WARN), (64_000, Verdict.KILL), *verdicts[2:]]


def test_the_first_restart_is_immediate_and_later_ones_wait_longer() -> None:
    """fault A12: 0, then 0.05 s doubling up to 5 s."""
    restarts = Restarts()

    delays = [restarts.died(float(now)) for now in range(11)]

    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_service_forgives_deaths() -> None:
    """A shard that is killed every other second is back at once each time."""
    restarts = Restarts()
    delays = []
    for now in range(0, 40, 2):
        restarts.came_up(float(now))
        delays.append(restarts.died(now + 2.0))

    assert set(delays) == {0.0}
    assert not restarts.failing


def test_a_stable_minute_clears_the_record() -> None:
    """A shard that was up for a minute is restarted at once again."""
    restarts = Restarts()
    for now in range(6):
        restarts.came_up(float(now))
        restarts.died(float(now))
    assert restarts.failing

    restarts.came_up(100.0)

    assert restarts.died(100.0 + STABLE_SECONDS) == 0.0
    assert not restarts.failing
    assert restarts.total == 7


def test_a_shard_that_dies_in_a_row_is_failing() -> None:
    """fault A12: the breaker opens with the fifth death in a row, and a repair closes it."""
    restarts = Restarts()
    for _ in range(FAILING_AFTER):
        assert not restarts.failing
        restarts.died(0.0)
    assert restarts.failing

    restarts.forgive()

    assert not restarts.failing


def test_the_third_strike_parks_an_object() -> None:
    """Strikes add up per object, and only the parking one says so."""
    strikes = Strikes(3, 600.0)

    told = [strikes.strike("Bomb/1", now) for now in (0.0, 1.0, 2.0, 3.0)]

    assert told == [False, False, True, False]
    assert strikes.parked == ("Bomb/1",)
    assert strikes.count("Bomb/2") == 0


def test_strikes_expire() -> None:
    """Three strikes in more than ten minutes are bad luck."""
    strikes = Strikes(3, 600.0)

    assert not any(strikes.strike("Bomb/1", now) for now in (0.0, 300.0, 601.0, 950.0))


def test_an_unparked_object_has_a_clean_record() -> None:
    """After `unpark` it takes three strikes anew."""
    strikes = Strikes(3, 600.0)
    for now in (0.0, 1.0, 2.0):
        strikes.strike("Bomb/1", now)

    strikes.unpark("Bomb/1")

    assert strikes.parked == ()
    assert not strikes.strike("Bomb/1", 3.0)


@pytest.mark.parametrize(
    ("status", "by_watchdog", "expected"),
    [
        (1, False, True),
        (0, False, False),
        (EXIT_FAILED, False, False),
        (EXIT_FENCED, False, False),
        (-signal.SIGSEGV, False, True),
        (-signal.SIGABRT, False, True),
        (-signal.SIGKILL, False, False),
        (-signal.SIGKILL, True, True),
        (-signal.SIGTERM, False, False),
    ],
)
def test_only_deaths_by_ones_own_hand_are_strikes(status: int, by_watchdog: bool, expected: bool) -> None:
    """Exits and crashes count, a SIGKILL only when it was the watchdog's; whoever ran then is a bystander."""
    assert is_strike(status, killed_by_watchdog=by_watchdog) is expected


def test_the_end_of_a_process_is_told_in_words() -> None:
    """Exit codes by number, signals by name."""
    assert describe_exit(7) == "exit code 7"
    assert describe_exit(-9) == "signal SIGKILL"


def test_partitions_are_shared_out_without_gap() -> None:
    """The shards' ranges follow each other and cover everything."""
    placement = LocalPlacement(7)

    assert [p for shard in range(7) for p in placement.partitions(shard)] == list(range(1024))
    assert list(placement.members().values()) == ["up"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"shards": 0}, "shards must be between"),
        ({"objects": ()}, "objects must name"),
        ({"bind": "http://x"}, "bind must be"),
        ({"stall_timeout": 0.0}, "stall_timeout"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], problem: str) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=problem):
        SupervisorConfig(**{"objects": ("m",), "store": "memory://", **settings})


def test_settings_survive_the_pipe() -> None:
    """JSON and back."""
    config = SupervisorConfig(objects=("a.b", "c.py"), store="memory://", shards=3, migrate=True)

    assert SupervisorConfig.from_json(config.to_json()) == config


def test_malformed_settings_are_a_clear_error() -> None:
    """What is wrong, and where."""
    with pytest.raises(ValueError, match=r"malformed supervisor settings: .*shards"):
        SupervisorConfig.from_json(b'{"objects": ["m"], "store": "memory://", "shards": "four"}')


def test_a_socket_file_of_a_dead_server_is_removed(tmp_path: Path) -> None:
    """Nobody listens: the way is free."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    assert endpoints.prepare_bind(f"ipc://{path}") == f"ipc://{path}"
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A mistyped address must not cost anybody a file."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")

    with pytest.raises(OSError, match="no socket"):
        endpoints.prepare_bind(f"ipc://{path}")
    assert path.read_text() == "dear diary"


def test_a_socket_file_of_a_living_server_is_respected(tmp_path: Path) -> None:
    """Somebody listens: that is an error, and the file stays."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()

        with pytest.raises(OSError, match="another process listens there"):
            endpoints.prepare_bind(f"ipc://{path}")
        assert path.exists()


@pytest.mark.parametrize("bind", ["tcp://nowhere", "tcp://:7400", "tcp://127.0.0.1:70000", "ipc://", "ipc://*"])
def test_an_address_of_no_sense_is_refused(bind: str) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=r"expected tcp|needs a path"):
        endpoints.prepare_bind(bind)


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    """Linux would cut it."""
    with pytest.raises(ValueError, match="too long"):
        endpoints.prepare_bind("ipc:///" + "x" * 100)


def test_shards_listen_beside_their_supervisor() -> None:
    """On the same interface or in the same folder; each incarnation on an address of its own."""
    assert endpoints.shard_bind("tcp://10.0.0.1:7400", 3, 1) == "tcp://10.0.0.1:*"
    first, second = (endpoints.shard_bind("ipc:///run/e.sock", 0, incarnation) for incarnation in (1, 2))
    assert first != second
    assert first.startswith("ipc:///run/e.sock.0.")
    assert str(os.getpid()) in first


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "10.1.2.3", "[::]", "eth0", "example.org"])
def test_only_this_machine_can_be_served(host: str) -> None:
    """Nobody is asked who he is yet, so an address that others can reach is refused with what to do instead."""
    with pytest.raises(ValueError, match="ssh -L"):
        endpoints.prepare_bind(f"tcp://{host}:7400")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]", "lo"])
def test_loopback_addresses_are_served(host: str) -> None:
    """By any of their names."""
    assert endpoints.prepare_bind(f"tcp://{host}:7400") == f"tcp://{host}:7400"


def test_the_list_of_parked_objects_is_bounded() -> None:
    """When hundreds of objects are parked, the first of them is tried again."""
    strikes = Strikes(1, 600.0)
    for number in range(100):
        strikes.strike(f"Bomb/{number:0500}", 0.0)

    assert sum(map(len, strikes.parked)) <= PARKED_CHARACTERS_MAX
    assert f"Bomb/{99:0500}" in strikes.parked
    assert f"Bomb/{0:0500}" not in strikes.parked

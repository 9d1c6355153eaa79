"""Crash points: named places where a process dies when that was ordered."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from durable_storage import crashpoints


def test_nothing_happens_unless_it_was_ordered() -> None:
    """Every point is passed."""
    assert not any(crashpoints.reach(point, object()) for point in crashpoints.POINTS)


def test_a_crash_happens_once_at_the_nth_time() -> None:
    """Of its own point and store; whoever passes is told that it is dead."""
    store, struck = object(), list[str]()
    armed = crashpoints.arm("after_commit", nth=2, store=store, act=lambda: struck.append("dead"))

    passed = [
        crashpoints.reach("after_commit", store),
        crashpoints.reach("before_commit", store),
        crashpoints.reach("after_commit", object()),
        crashpoints.reach("after_commit", store),
        crashpoints.reach("after_commit", store),
    ]

    assert passed == [False, False, False, True, False]
    assert struck == ["dead"]
    assert armed.fired


def test_an_order_can_be_taken_back() -> None:
    """Once or twice."""
    armed = crashpoints.arm("before_load")
    armed.disarm()
    armed.disarm()
    assert not crashpoints.reach("before_load", object())
    assert not armed.fired


def test_wrong_orders_are_refused() -> None:
    """The error names the points that there are."""
    with pytest.raises(ValueError, match=r"no crash point 'after_reply'; there are: before_load, in_activation, "):
        crashpoints.arm("after_reply")
    with pytest.raises(ValueError, match="counts from 1, not 0"):
        crashpoints.arm("before_load", nth=0)


@pytest.mark.processes
def test_by_default_the_process_kills_itself() -> None:
    """As kill -9 does: nothing behind the point is run."""
    program = (
        "from durable_storage import crashpoints; crashpoints.arm('before_commit');"
        "crashpoints.reach('before_commit', None); print('alive')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert ran.stdout == b""

"""The bus of events: who hears what, and that no handler can do harm."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import durable_engine
from durable_storage import telemetry
from tests.support.hearing import Ear, hearing

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "telemetry.md"


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Each test begins and ends with nobody attached."""
    assert not any(telemetry.wanted(name) for name in telemetry.NAMES)
    yield
    assert not any(telemetry.wanted(name) for name in telemetry.NAMES)


def say(name: str, **metadata: Any) -> None:
    telemetry.emit(name, {"rows": 1}, metadata)


def test_a_handler_hears_the_events_it_was_attached_to() -> None:
    """parity 111: by name or by pattern, with measurements and metadata."""
    with hearing("storage.save.stop") as one, hearing("storage.*", "*.fired") as some, hearing() as everything:
        for name in telemetry.NAMES:
            say(name, shard=3)
    assert one.heard == [("storage.save.stop", {"rows": 1}, {"shard": 3})]
    assert some.names == [name for name in telemetry.NAMES if name.startswith("storage.")] + ["alarm.fired"]
    assert everything.names == list(telemetry.NAMES)


def test_a_handler_attached_twice_is_called_once_and_hears_both() -> None:
    """The patterns of one function add up."""
    with hearing("storage.save.*") as ear:
        telemetry.attach(ear, "storage.save.stop", "object.evicted")
        say("storage.save.stop")
        say("object.evicted")
        say("storage.load.stop")
    assert ear.names == ["storage.save.stop", "object.evicted"]


def test_detaching_says_whether_there_was_something_to_detach() -> None:
    """Nothing is heard after it."""
    ear = Ear()
    assert telemetry.detach(ear) is False
    telemetry.attach(ear)
    assert telemetry.detach(ear) is True
    assert telemetry.detach(ear) is False
    say("object.evicted")
    assert ear.heard == []


@pytest.mark.parametrize("pattern", ["storage.save.end", "objects.*", "", "Storage.*"])
def test_a_pattern_that_no_event_fits_is_refused(pattern: str) -> None:
    """The message lists the events there are, and nothing is attached, not even the patterns that fit."""
    with pytest.raises(ValueError, match=re.escape(repr(pattern))) as caught:
        telemetry.attach(Ear(), "storage.*", pattern)
    assert all(name in str(caught.value) for name in telemetry.NAMES)


def test_a_pattern_is_text() -> None:
    """Two functions in one call are a mistake that is told."""
    with pytest.raises(TypeError, match=r"a pattern is the name of an event, such as 'storage.save.stop'"):
        telemetry.attach(Ear(), Ear())  # type: ignore[arg-type]


class AsyncCall:
    async def __call__(self, *event: Any) -> None: ...


async def async_function(*event: Any) -> None: ...


@pytest.mark.parametrize("wrong", ["storage.save.stop", None, async_function, AsyncCall()])
def test_what_cannot_be_called_on_the_spot_is_refused(wrong: Any) -> None:
    """A name in the place of the function, or a coroutine function that nobody would await."""
    with pytest.raises(TypeError, match=r"function of \(name|makes a task"):
        telemetry.attach(wrong, "storage.*")


@pytest.mark.parametrize("raised", [ZeroDivisionError("a bug"), SystemExit(1), GeneratorExit()])
def test_a_handler_that_raises_is_detached_and_the_others_go_on(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises stays with it; a line of the log has the traceback."""

    def broken(*event: Any) -> None:
        raise raised

    telemetry.attach(broken)
    with hearing() as ear:
        say("object.activated")
        say("object.evicted")
    assert ear.names == ["object.activated", "object.evicted"]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("durable_engine.events", logging.ERROR)
    assert "broken" in record.getMessage()
    assert "object.activated" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is raised


def test_ctrl_c_in_a_handler_is_for_the_program() -> None:
    """It reached the handler by chance, and is no fault of it."""

    def interrupted(*event: Any) -> None:
        raise KeyboardInterrupt

    telemetry.attach(interrupted)
    with pytest.raises(KeyboardInterrupt):
        say("object.evicted")
    assert telemetry.detach(interrupted) is True


def test_a_handler_cannot_change_what_the_next_one_hears() -> None:
    """Each gets dicts of its own."""

    def greedy(name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        measurements.clear()
        metadata.clear()

    telemetry.attach(greedy)
    with hearing() as ear:
        say("object.evicted", shard=0)
    telemetry.detach(greedy)
    assert ear.heard == [("object.evicted", {"rows": 1}, {"shard": 0})]


def test_a_handler_may_attach_and_detach_others() -> None:
    """What it changes holds from the next event on."""
    ear = Ear()
    steps: list[Callable[[], object]] = [lambda: telemetry.attach(ear), lambda: telemetry.detach(ear)]

    def changing(*event: Any) -> None:
        steps.pop(0)()

    telemetry.attach(changing, "object.activated", "object.evicted")
    for name in ("object.activated", "object.hibernated", "object.evicted"):
        say(name)
    say("object.hibernated")
    telemetry.detach(changing)
    assert ear.names == ["object.hibernated", "object.evicted"]


def test_wanted_says_who_would_listen() -> None:
    """So that nothing is built for nobody."""
    with hearing("storage.save.*"):
        assert telemetry.wanted("storage.save.stop")
        assert not telemetry.wanted("storage.load.stop")
        assert telemetry.wanted_of("storage")
        assert not telemetry.wanted_of("alarm")
    assert not telemetry.wanted("storage.save.stop")
    assert not telemetry.wanted_of("storage")


def test_events_are_an_attribute_of_the_package() -> None:
    """parity 111: `import durable_engine` is enough, and imports them only when they are used."""
    code = (
        "import sys, durable_engine\n"
        "assert 'durable_engine.events' not in sys.modules\n"
        "assert durable_engine.events.detach(print) is False\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
    assert durable_engine.events.attach is telemetry.attach
    assert durable_engine.events.NAMES is telemetry.NAMES


def test_every_event_is_written_down() -> None:
    """parity 111, 112: in the docstring of `durable_engine.events` and in the guide, and no other."""
    listed = re.findall(r"^ {4}([a-z]+\.[a-z.]+) ", durable_engine.events.__doc__ or "", re.MULTILINE)
    rows = re.findall(r"^\| `([a-z.]+)` \|", GUIDE.read_text(), re.MULTILINE)
    assert listed == list(telemetry.NAMES)
    assert sorted(rows) == sorted(telemetry.NAMES)

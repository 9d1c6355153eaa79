"""What the peers in Python need of the harness: generated code that follows its source, few objects, import paths."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from durable_bench.peers.dbos import Dbos
from durable_bench.peers.durable_actors import OBJECTS, DurableActors, FewObjects
from durable_bench.peers.installing import generate
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.processes import Worker, python_worker
from durable_bench.peers.reboot import Reboot
from durable_bench.peers.workers.load import Load, Outcome

GENERATE = (
    "import pathlib; path = pathlib.Path('made'); path.write_text(path.read_text() + 'x' if path.exists() else 'x')"
)


async def test_code_is_generated_once_and_again_when_its_source_is_newer(tmp_path: Path) -> None:
    """Three times asked, and made when there was none and when the source had changed."""
    source, made = tmp_path / "source", tmp_path / "made"
    source.write_text("a")
    words = [sys.executable, "-c", GENERATE]

    await generate(words, tmp_path, source, made)
    await generate(words, tmp_path, source, made)
    assert made.read_text() == "x"

    later = made.stat().st_mtime - 10
    os.utime(made, (later, later))
    await generate(words, tmp_path, source, made)
    assert made.read_text() == "xx"


@pytest.mark.parametrize(
    ("program", "said"), [("pass", "did not make"), ("raise SystemExit('no compiler')", "no compiler")]
)
async def test_a_generator_that_makes_nothing_is_told(tmp_path: Path, program: str, said: str) -> None:
    """With what it said."""
    source = tmp_path / "source"
    source.write_text("a")

    with pytest.raises(NotAvailable, match=said):
        await generate([sys.executable, "-c", program], tmp_path, source, tmp_path / "made")


@dataclass
class FakeWorker:
    servers: tuple[int, ...] = ()
    asked: list[int] = field(default_factory=list)

    async def drive(self, load: Load) -> Outcome:
        self.asked.append(load.count)
        return Outcome(1, 1.0, {}, 0.1, {}, load.count)

    async def total(self, prefix: str, count: int) -> int:
        self.asked.append(count)
        return 1


async def test_a_peer_of_few_objects_is_asked_for_no_more() -> None:
    """Neither by loads nor when its counts are read; fewer stay fewer."""
    worker = FakeWorker()
    few = FewObjects(cast("Worker", worker))

    await few.drive(Load("add", "spread-", 1_000, 64, 1.0))
    await few.drive(Load("add", "hot-", 1, 64, 1.0))
    await few.total("spread-", 1_000)

    assert worker.asked == [OBJECTS, 1, OBJECTS]


def test_a_worker_elsewhere_sees_the_harness_and_what_was_generated(tmp_path: Path) -> None:
    """In its environment variable, and by a link."""
    words = python_worker(
        "reboot_client", "url", python=Path("/p"), installed=tmp_path, import_paths=[tmp_path / "generated"]
    )

    first, second = words["env"]["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "durable_bench" / "peers" / "workers" / "reboot_client.py").exists()
    assert Path(second) == tmp_path / "generated"


@pytest.mark.parametrize("make", [Dbos, Reboot, DurableActors])
def test_versions_are_pinned_and_can_be_chosen(make: type[Dbos | Reboot | DurableActors]) -> None:
    """Another version takes the place of the pinned one; the rest stays."""
    pinned = make().packages
    first = next(iter(pinned))

    chosen = make({first: "99.0", "of-another-peer": "1.0"}).packages

    assert chosen == {**pinned, first: "99.0"}
    assert all(pinned.values())

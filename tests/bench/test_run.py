"""The command, from end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from durable_bench.load import Sample
from durable_bench.results import read, write_json
from durable_bench.scenarios import NAMES
from durable_bench.workloads import WORKLOADS
from durable_bench.workloads.counters import EmbeddedSpread
from durable_engine.cli import cli
from tests.bench.example_results import results

SHORT = ("--repetitions", "1", "--seconds", "0.1")


def bench(*words: str, module: str = "durable_bench") -> subprocess.CompletedProcess[str]:
    """`python -m durable_bench` with these arguments, to its end."""
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.processes
@pytest.mark.postgres
def test_a_short_run_measures_and_verifies_on_each_store(tmp_path: Path) -> None:
    """Calls, alarms and memory, in one file; what was acknowledged is found afterwards."""
    path = tmp_path / "result.json"
    words = ("core", "embedded", "--in-flight", "16", "--objects", "2000", "--alarms", "100")

    done = bench(*words, *SHORT, "--json", str(path), "--charts", str(tmp_path / "charts"))

    assert done.returncode == 0, done.stdout + done.stderr
    found = read(path)
    measured = {(one.scenario, one.store): one for one in found.measurements}
    scenarios = ("spread", "hot", "reads", "alone", "embedded")
    assert measured.keys() == {(scenario, store) for scenario in scenarios for store in ("sqlite", "postgres")}
    assert all((one.verified > 0) == (one.scenario != "reads") for one in measured.values())
    assert {one.shards for one in measured.values() if one.scenario == "embedded"} == {0}
    assert all(one.repetitions[0].calls > 0 and not one.errors for one in measured.values())
    assert {one.in_flight for one in measured.values() if one.scenario != "alone"} == {16}
    punctual = {(one.scenario, one.store): one for one in found.alarms}
    assert punctual.keys() == {(name, store) for name in ("alarms", "alarm-storm") for store in ("sqlite", "postgres")}
    assert all((one.rounds[0].calls is None) == (one.scenario == "alarm-storm") for one in punctual.values())
    live, hibernated = (one.bytes_each.median for one in found.memory)
    assert live > hibernated > len("object-1000"), "an object that sleeps is little more than its bytes"
    assert {path.name for path in (tmp_path / "charts").iterdir()} == {
        "throughput.svg",
        "latency-sqlite.svg",
        "latency-postgres.svg",
    }


@pytest.mark.processes
def test_clients_of_their_own_share_a_sweep(tmp_path: Path) -> None:
    """Two client processes, two shards and two loads: all their calls are in one result, and verified by both books."""
    path = tmp_path / "result.json"
    names = ("mixed", "ycsb-d", "smallbank")
    words = ("--stores", "sqlite", "--clients", "2", "--shards", "2", "--in-flight", "3,8", "--objects", "100")

    done = bench(*names, *words, *SHORT, "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    found = read(path).measurements
    assert [(one.scenario, one.shards, one.clients, one.in_flight) for one in found] == [
        (name, 2, 2, in_flight) for name in names for in_flight in (3, 8)
    ]
    assert all(one.verified > 0 and one.repetitions[0].shards_us >= 0 for one in found)


@pytest.mark.processes
def test_an_open_loop_offers_its_rate(tmp_path: Path) -> None:
    """As many calls as were due, and how late they left by the generator's own fault."""
    path = tmp_path / "result.json"

    done = bench("spread", "--stores", "sqlite", "--rate", "500", "--arrivals", "poisson", *SHORT, "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    [one] = read(path).measurements
    assert (one.in_flight, one.rate) == (None, 500)
    assert 20 < one.repetitions[0].calls < 90
    assert one.repetitions[0].behind_max_ms > 0


def test_results_are_shown_again_from_their_file_and_compared(tmp_path: Path) -> None:
    """`--from` measures nothing, which makes tables, charts and comparisons of old runs."""
    path = tmp_path / "result.json"
    write_json(path, results().document())

    done = bench("--from", str(path), "--baseline", str(path), "--charts", str(tmp_path), "--chart-format", "png")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "compared with the baseline" in done.stdout
    assert "within the spread" in done.stdout
    assert (tmp_path / "throughput.png").exists()


def test_what_there_is_can_be_listed() -> None:
    """By the entry point as well, which is the way of an installed package."""
    done = bench("bench", "--list", module="durable_engine")

    assert done.returncode == 0, done.stderr
    assert all(f"\n{name} " in f"\n{done.stdout}" for name in NAMES)


def typed(*words: str) -> int:
    """The same in this process, which is quicker; the exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *words])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sprad"], "there is no scenario 'sprad'; there are spread, hot, zipf"),
        (["--stores", "sqlite,oracle"], "there is no 'oracle'; there are sqlite, postgres"),
        (["--in-flight", "1,none"], "'1,none' must be whole numbers above 0, separated by commas"),
        (["--shards", "0"], "'0' must be whole numbers above 0"),
        (["--rate", "-1.5"], "'-1.5' must be numbers above 0"),
        (["--seconds", "0"], "0.0 is not in the range x>0"),
        (["--baseline", "missing.json"], "'missing.json' does not exist"),
    ],
)
def test_what_was_mistyped_is_refused_before_anything_is_measured(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and what there is."""
    assert typed(*words) == 2
    assert problem in capsys.readouterr().err


def test_a_baseline_that_is_none_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, as one line that names the file."""
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": 1}))

    assert typed("spread", "--baseline", str(path)) == 1
    assert f"error: {path} has format 1" in capsys.readouterr().err


class Forgetful(EmbeddedSpread):
    """Its objects lack an increment of those that were acknowledged."""

    def settle(self, sample: Sample) -> None:
        super().settle(sample)
        self.ledger.sure["calls"] += 1


def test_a_run_whose_objects_lack_a_change_gives_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and one line that says what was acknowledged and what was found; nothing is written."""
    monkeypatch.setitem(WORKLOADS, "embedded", Forgetful)
    path = tmp_path / "result.json"

    assert typed("embedded", "--stores", "sqlite", *SHORT, "--json", str(path)) == 1

    shown = capsys.readouterr()
    assert re.search(r"error: embedded: \d+ calls acknowledged, but \d+ found\n", shown.err)
    assert "increments over 1,000 objects in this process ..." in shown.err, "it says what it is doing"
    assert shown.out == ""
    assert not path.exists()


@pytest.mark.processes
def test_a_server_that_does_not_start_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Here: at an address that a server without authentication refuses."""
    assert typed("spread", "--stores", "sqlite", "--bind", "tcp://10.1.2.3:7400") == 1
    assert "error: the server stopped with exit code" in (told := capsys.readouterr().err)
    assert "10.1.2.3" in told


@pytest.mark.parametrize("missing", ["hdrh", "matplotlib"])
def test_without_its_extra_the_command_says_what_to_install(missing: str, tmp_path: Path) -> None:
    """Before it has measured anything: not a ModuleNotFoundError of a name that nobody typed."""
    code = f"import sys; sys.modules[{missing!r}] = None; from durable_bench.__main__ import main; main()"
    words = ["spread", "--charts", str(tmp_path)]

    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 1
    assert f"needs the package {missing}, which is not installed" in done.stderr
    assert 'pip install "durable-engine[bench]"' in done.stderr
    assert "Traceback" not in done.stderr

"""A run is judged by its history, can be judged again, and says so by its exit code."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, cast

import pytest

from tests.chaos.__main__ import main
from tests.chaos.final import AtRest, Final
from tests.chaos.journal import START, link
from tests.chaos.nemesis import FAULTS, Nemesis, Strike
from tests.chaos.records import Op, Recorder
from tests.chaos.report import markdown, of_run, spread
from tests.chaos.rig import id_in_shard
from tests.chaos.run import Record, history_of

INCARNATION = 5


def chain_of(*tokens: int) -> int:
    """Of a log with these entries."""
    chain = START
    for token in tokens:
        chain = link(chain, token)
    return chain


def append(token: int, at: float, *before: int) -> Op:
    """A token that was acknowledged behind those before it."""
    value = [token, chain_of(*before, token)]
    return Op(0, "Log/a", "append", token, False, at, at + 0.5, "ok", value, INCARNATION, len(before) + 1)


def log_of(*tokens: int) -> AtRest:
    """A log at rest."""
    state = {"tokens": tokens, "begins": [0], "epochs": [INCARNATION], "chain": chain_of(*tokens)}
    return AtRest(json.dumps(state).encode(), len(tokens), {})


def leave(folder: Path, *entries: int) -> Path:
    """What a run leaves in which two appends were acknowledged, and whose log rests with these entries."""
    own = folder / "sqlite"
    history_of(own).mkdir(parents=True)
    record = Recorder(history_of(own), 0)
    record(append(1, 10.0))
    record(append(2, 11.0, 1))
    record.close()
    probe = Op(-1, f"Witness/{id_in_shard('Witness', 0, 2)}", "probe", 0, True, 20.25, 20.5, "ok", epoch=10**12)
    final = Final(store={"Log/a": log_of(*entries)}, faults={"kill": 1})
    strikes = [Strike("kill", "kills", (0,), 20.0, replaces=True)]
    Record("sqlite", 1, 2, strikes=strikes, gauged=[probe], final=final).save(own)
    return folder


def test_a_history_that_holds_is_judged_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and a report with counts and the time of recovery."""
    status = main(["--recheck", str(leave(tmp_path, 1, 2))])

    assert status == 0, capsys.readouterr().out
    [run] = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert run["violations"] == []
    assert (run["counts"], run["operations"]) == ({"kills": 1}, {"ok": 2})
    assert run["recoveries"]["kill"] == {"count": 1, "p50": 0.5, "p99": 0.5, "max": 0.5}
    assert "| kill -9 of shards | 1 |" in (tmp_path / "report.md").read_text()


def test_a_lost_acknowledgement_is_a_violation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the invariant, and the folder that shows it."""
    status = main(["--recheck", str(leave(tmp_path, 1))])

    said = capsys.readouterr().out
    assert status == 1
    assert "**I1** on sqlite, Log/a" in said
    assert f"--recheck {tmp_path}" in said


def test_a_fault_that_did_not_strike_is_a_violation(tmp_path: Path) -> None:
    """A run in which nothing happened shows nothing."""
    record = Record.read(leave(tmp_path, 1, 2) / "sqlite")
    record.final.faults["pause"] = 0

    record.judge(tmp_path / "sqlite")

    assert [violation.invariant for violation in record.violations] == ["I12"]


def test_a_fault_that_did_nothing_is_counted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the faults, and what was dealt until then is told, with how often it struck."""

    class Rig:
        def until_settled(self) -> None: ...

    class Work:
        def until_heard(self) -> None: ...
        def advance(self, by: int) -> None: ...
        def visit(self) -> None: ...

    monkeypatch.setitem(FAULTS, "pause", lambda nemesis, chance: nemesis.note("pause"))
    monkeypatch.setitem(FAULTS, "kill", lambda nemesis, chance: None)
    nemesis = Nemesis(cast(Any, Rig()), Work())

    nemesis.do("pause", random.Random(1))
    nemesis.do("pause", random.Random(1))
    with pytest.raises(AssertionError, match="kill did not strike"):
        nemesis.do("kill", random.Random(1))

    assert nemesis.dealt == {"pause": 2, "kill": 0}


def test_the_longest_waits_are_told() -> None:
    """Median, the 99th of a hundred, and the longest."""
    assert spread([float(number) for number in range(100)]) == {"count": 100, "p50": 50.0, "p99": 99.0, "max": 99.0}
    assert spread([0.25]) == {"count": 1, "p50": 0.25, "p99": 0.25, "max": 0.25}


def test_stores_stand_side_by_side_in_the_report() -> None:
    """One column each, and one for both together."""
    kill = Strike("kill", "kills", (0,), 1.0)
    runs = [of_run(Record(store, 9, 3, strikes=[kill])) for store in ("sqlite", "postgresql")]

    text = markdown({"command": "c", "machine": "m", "release": "r", "runs": runs})

    assert "|  | sqlite | postgresql | together |" in text
    assert "| seed | 9 | 9 |  |" in text
    assert "| kill -9 of shards | 1 | 1 | 2 |" in text

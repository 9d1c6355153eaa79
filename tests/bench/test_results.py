"""What is kept of a run, shown of it, and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from durable_bench.compare import compare
from durable_bench.errors import NotAResult
from durable_bench.report import tables
from durable_bench.results import FORMAT, Results, read, write_json
from tests.bench.example_results import measurement, punctuality, results


def test_a_rate_is_the_median_and_its_spread_the_distance_of_the_extremes() -> None:
    """Three repetitions of 80, 100 and 110 calls a second are 100, with a spread of 30 %."""
    rates = measurement([80, 110, 100]).rates

    assert rates.median == 100
    assert rates.spread == pytest.approx(0.3)


def test_alarms_are_judged_by_the_median_of_their_rounds() -> None:
    """Fired per second of the median round, and the lateness of the median one."""
    measured = punctuality([2.0, 1.0, 4.0])

    assert measured.rates.median == 500
    assert measured.lateness("p99_ms").median == pytest.approx(20, rel=1e-3)


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    """Every number, histograms included; machine, settings and medians stand beside them for other readers."""
    path, written = tmp_path / "a" / "b.json", results()
    write_json(path, written.document())
    found, text = read(path), json.loads(path.read_text())

    assert found == written
    assert found.measurements[0].histogram.count == 290
    assert text["format"] == FORMAT
    assert text["machine"]["cores"] >= 1
    assert text["settings"] == {"seconds": 1.0}
    assert text["measurements"][0]["median"]["per_second"] == 100
    assert text["measurements"][0]["repetitions"][0]["histogram"].startswith("HISTFAAA")
    assert text["alarms"][0]["median"]["per_second"] == 500
    assert text["memory"][0]["median"] == {"bytes_each": 1000}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "it has no format"),
        ('{"format": 1}', f"has format 1, and this release reads {FORMAT}: measure it again"),
        ('{"format": 2, "measurements": 7}', "is no result of durable-engine bench: "),
    ],
)
def test_what_is_no_result_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """By its name, and with what is wrong."""
    path = tmp_path / "file.json"
    path.write_text(text)

    with pytest.raises(NotAResult, match=problem) as caught:
        read(path)
    assert str(path) in str(caught.value)


def shown(run: Results, baseline: Results | None = None) -> str:
    console = Console(width=140, color_system=None)
    with console.capture() as capture:
        for table in tables(run, baseline):
            console.print(table)
    return capture.get()


def lines(text: str) -> dict[str, list[str]]:
    """The cells of each line by its first word; later lines win."""
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_the_tables_show_medians_and_all_there_is() -> None:
    """Calls, what an open loop's generator did, alarms and memory; errors where there were any."""
    text = shown(results())

    assert ["spread", "sqlite", "256", "100", "±15%", "1.00", "1.00", "1.00", "5.0+7.0"] in [
        line.split() for line in text.splitlines()
    ]
    assert lines(text)["reads"][-2:] == ["9", "Overloaded"]
    assert lines(text)["spread"] == ["spread", "sqlite", "10/s", "100%", "0.10", "0.20"]
    assert lines(text)["alarm-storm"][2:] == ["1,000", "500", "±75%", "20.0", "20.0", "20.0", "100", "1.00"]
    assert lines(text)["live"] == ["live", "100", "1,000", "±15.0%", "0.1"]


def test_calls_of_microseconds_are_no_zeros() -> None:
    """What takes two of them is not shown as 0.00 ms."""
    assert "0.0020" in lines(shown(Results({}, [measurement([100], 0.002)])))["spread"]


def test_a_comparison_says_what_is_better_worse_or_noise() -> None:
    """A difference counts when no repetition of the one run lies between those of the other."""
    before = Results({}, [measurement([100, 110, 120], 2.0)])
    for rates, verdict, ratio in (([130, 140, 150], "better", 1.27), ([80, 90, 95], "worse", 0.82)):
        rate, p50, _ = compare(Results({}, [measurement(rates, 2.0)]), before)
        assert (rate.figure, rate.verdict) == ("calls/s", verdict)
        assert rate.ratio == pytest.approx(ratio, abs=0.01)
        assert p50.verdict == "within the spread"
    rate, p50, p99 = compare(Results({}, [measurement([115, 130, 140], 4.0)]), before)
    assert rate.verdict == "within the spread"
    assert (p50.verdict, p99.verdict) == ("worse", "worse"), "of a latency, less is better"
    assert p99.ratio == pytest.approx(2.0, rel=1e-2)


def test_only_what_was_measured_in_the_same_way_is_compared() -> None:
    """The same scenario, store, shards, clients and load; alarms and memory as well."""
    before, after = results(), results()
    assert [change.ratio for change in compare(after, before)] == [1.0] * (4 * 3 + 2 + 1)

    after.measurements = [replace(one, shards=2) for one in after.measurements]
    assert {change.what for change in compare(after, before)} == {
        "alarm-storm, sqlite, 1,000 alarms",
        "live, 100 objects",
    }
    assert "compared with the baseline" in shown(after, before)
    assert "nothing here was measured in the baseline" in shown(Results({}), before)

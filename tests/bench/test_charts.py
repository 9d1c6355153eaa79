"""Charts are drawn for what there is."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from durable_bench.charts import draw
from durable_bench.results import Results
from tests.bench.example_results import measurement, results


def texts(path: Path) -> set[str]:
    """What is written in an SVG."""
    return {(each.text or "").strip() for each in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")}


def sweep() -> Results:
    """Three loads on each of two numbers of shards, and an open loop at two rates."""
    closed = [
        measurement([100 * number * shards] * 3, number / 100, in_flight=number, shards=shards)
        for shards in (1, 2)
        for number in (1, 16, 256)
    ]
    return Results({}, closed + [measurement([rate] * 3, in_flight=None, rate=float(rate)) for rate in (100, 200)])


def test_a_run_becomes_bars_and_percentiles(tmp_path: Path) -> None:
    """Throughput of each scenario with its store, and the latencies of each store."""
    written = draw(results(), tmp_path / "charts")

    assert [path.name for path in written] == ["throughput.svg", "latency-sqlite.svg", "latency-postgres.svg"]
    assert {"spread", "reads", "sqlite", "postgres", "acknowledged calls per second"} <= texts(written[0])
    assert {"latency in ms", "99 %"} <= texts(written[1])
    assert any("reads" in text for text in texts(written[1]))


def test_a_sweep_becomes_a_chart_for_each_axis(tmp_path: Path) -> None:
    """Against calls in flight, shards and offered rate; each line says what it is of."""
    written = {path.stem: path for path in draw(sweep(), tmp_path)}

    assert written.keys() == {"throughput", "latency-sqlite", "spread-in-flight", "spread-shards", "spread-rate"}
    assert {"calls in flight", "1", "16", "256", "sqlite, shards: 1", "sqlite, shards: 2"} <= texts(
        written["spread-in-flight"]
    )
    assert {"shards", "sqlite, calls in flight: 16"} <= texts(written["spread-shards"])
    assert {"calls offered per second", "100", "200"} <= texts(written["spread-rate"])


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    """So that a chart in a repository changes when its figures do, and only then."""
    first, again = (draw(results(), tmp_path / name) for name in ("first", "again"))
    run = results()
    run.at = "2026-01-01T00:00:00+00:00"
    other = [draw(run, tmp_path / name)[0].read_bytes() for name in ("third", "fourth")]

    assert other[0] == other[1]
    assert len(first) == len(again)


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_both_formats_are_what_they_say(kind: str, tmp_path: Path) -> None:
    """By their first bytes."""
    beginning = {"svg": b"<?xml", "png": b"\x89PNG"}[kind]

    written = draw(results(), tmp_path, kind)

    assert {path.suffix for path in written} == {f".{kind}"}
    assert all(path.read_bytes().startswith(beginning) for path in written)


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    """A run of alarms or memory alone has tables only."""
    assert draw(Results({}), tmp_path) == []

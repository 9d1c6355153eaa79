"""A plugin for the pytest of one plant: it plants the fault before anything is run, and writes down what failed.

`python -m pytest -p tests.plants.plugin` with the name of the plant in the environment. Hypothesis keeps no examples
and draws the same ones each time, so that what is caught once is caught always.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.plants.plant import grow_from_environment, path_of_plants

REPORT: Final = "DURABLE_TEST_PLANT_REPORT"
"""Names the file that the failures go to: one JSON object a line, `test` and `said`."""


def pytest_configure(config: pytest.Config) -> None:
    """Everything a test imports is as it will be, whoever has imported it before."""
    from hypothesis import Phase, settings

    # A failure is enough: nobody reads the smallest one, and looking for it takes minutes.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("plants", database=None, derandomize=True, print_blob=False, phases=phases)
    settings.load_profile("plants")
    grow_from_environment()
    sys.path += path_of_plants()  # engines of tests hand their own path on to their servers


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Whether the body failed, or what goes before and after it: both are told."""
    _write_down(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A plant must not keep a test from being found; were it so, it would be told as such."""
    _write_down(report)


def _write_down(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.failed and (path := os.environ.get(REPORT)):
        with Path(path).open("a") as file:
            file.write(
                json.dumps({"test": report.nodeid, "when": report.when or "collect", "said": report.longreprtext})
                + "\n"
            )

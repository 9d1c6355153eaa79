"""What a release publishes works where nothing else is, and continuous integration does all that a release needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from durable_engine.release import RELEASE
from tests.support.scaffolds import ROOT


@pytest.mark.processes
def test_the_archives_of_a_release_are_built_installed_and_called(tmp_path: Path) -> None:
    """parity 116: the wheel comes from the sdist, and a project made with it counts; dependencies are those here."""
    words = [
        sys.executable,
        str(ROOT / ".ci" / "dist.py"),
        "--dependencies=here",
        "--directory",
        str(tmp_path / "dist"),
    ]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    names = [f"durable_engine-{RELEASE}-py3-none-any.whl", f"durable_engine-{RELEASE}.tar.gz"]
    assert ran.stdout.split()[-2:] == names
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == names


def test_continuous_integration_does_what_a_release_needs() -> None:
    """parity 116: format, lint, types, fresh documentation, tests, warnings as errors, a minute of chaos, archives."""
    steps = re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert steps == ["check", "docs", "test", "chaos", "dist"]
    makefile = (ROOT / "Makefile").read_text()
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "test_cli_reference.py", "dist.py"):
        assert tool in makefile
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["pytest"]["ini_options"]["filterwarnings"][0] == "error"


def test_one_version_stands_everywhere() -> None:
    """parity 116: the archives, the command line and the changelog speak of the same release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [newest, *_] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project["version"] == RELEASE == newest

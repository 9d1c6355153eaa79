"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_client import FakeClient, Run, run_cli
from tests.support.scaffolds import Workplace


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder, which is the working directory too."""
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client that every command will get."""
    return FakeClient().take_the_place_of_all(monkeypatch)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: FakeClient) -> Run:
    """Run a command line in an empty directory, with no terminal."""
    monkeypatch.chdir(tmp_path)
    return run_cli

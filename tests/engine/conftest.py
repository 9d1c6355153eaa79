"""What tests of scaffolding share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scaffolds import Workplace


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder, which is the working directory too."""
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path)

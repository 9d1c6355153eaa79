"""A short chaos run as a test, for the table of plants; `make chaos` is the one that is part of the suite."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos.plan import cards_of


@pytest.mark.timeout(280)
def test_a_chaos_run_of_twenty_seconds(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its verdict."""
    from tests.chaos import __main__ as chaos
    from tests.support import postgres

    assert cards_of("sqlite")
    monkeypatch.setattr(postgres, "begin_session", lambda: None)  # it is part of the one under way
    monkeypatch.setattr(postgres, "end_session", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a history that is condemned is left behind
    status = chaos.main(["--store", "sqlite", "--seconds", "20", "--seed", "1", "--shards", "2"])
    assert status == 0, capfd.readouterr().out

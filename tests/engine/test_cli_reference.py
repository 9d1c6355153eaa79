"""The reference pages are what the code says of itself."""

import runpy
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", ["cli.md", "settings.md", "objects.md"])
def test_a_reference_page_is_fresh(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 23: a page is what the code says of itself; run `python docs/reference/generate.py` when this fails."""
    for variable in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    pages = runpy.run_path(str(REFERENCE / "generate.py"))["PAGES"]
    assert pages[name]() == (REFERENCE / name).read_text(encoding="utf-8")

"""The generated pages are what the code, and the marks of the tests, say of themselves."""

import pytest

from docs.reference.generate import HERE, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_fresh(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 23: a page is what the code says of itself; run `make reference` when this fails."""
    for variable in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    assert PAGES[name]() == (HERE / name).read_text(encoding="utf-8")

"""SQL lives in files: each statement has a name, a sentence that says what it is for, and a text.

The form of `sql/*/queries.sql` is procrastinate's:

    -- name_of_the_statement --
    -- What it does, and why it is written this way.
    SELECT ...
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, Literal

Dialect = Literal["postgres", "sqlite"]

SQL_DIRECTORY: Final = Path(__file__).parent / "sql"

_NAME: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def queries(dialect: Dialect) -> dict[str, str]:
    """{name: statement} of a dialect's `queries.sql`, comments removed."""
    text = (SQL_DIRECTORY / dialect / "queries.sql").read_text()
    _, *pieces = _NAME.split(text)
    named: dict[str, str] = {}
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        lines = [line for line in body.splitlines() if line.strip()]
        statement = [line for line in lines if not line.lstrip().startswith("--")]
        assert len(statement) < len(lines), f"{name} lacks the sentence that says what it is for"
        assert name not in named, f"two statements are called {name}"
        named[name] = "\n".join(statement).strip().removesuffix(";")
    return named

"""The texts that scaffolding begins with: `durable_engine/templates/*.tmpl`, with `${name}` for what differs."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Final

FOLDER: Final = Path(__file__).parent.parent / "templates"


def filled(template: str, /, **parts: str) -> str:
    """A template with its parts filled in."""
    return Template((FOLDER / f"{template}.tmpl").read_text(encoding="utf-8")).substitute(parts)

"""What the generators of pages share."""
# ruff: noqa: INP001 - beside scripts, not in a package

from __future__ import annotations


def cells(*texts: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"

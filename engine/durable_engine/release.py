"""Which release this is. A constant, since reading an installation's metadata takes longer than most commands."""

from __future__ import annotations

from typing import Final

RELEASE: Final = "0.1.0"

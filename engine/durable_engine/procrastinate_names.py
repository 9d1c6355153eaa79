"""Names that have to be known where procrastinate itself need not be installed."""

from __future__ import annotations

from typing import Final

PROCRASTINATE: Final = "procrastinate"
"""The extra, and the scheduler."""
DEFAULT_APP: Final = "durable_engine.procrastinate_app.app"
"""The procrastinate app of those who name none, as procrastinate's own command line takes it."""
SCHEMA_COMMAND: Final = "procrastinate --app={app} schema --apply"
"""Makes the tables of an app."""

"""The procrastinate app whose tables hold the jobs: the user's, by its import path, or this one.

    procrastinate --app=durable_engine.procrastinate_app.app worker --queues durable_alarms

The default app keeps its jobs in the database of the store, beside the alarms. Outside of the engine it finds the store
and the server where the engine's commands do: `DURABLE_STORE` and `DURABLE_CONNECT`, or `durable.toml` here.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from procrastinate import App, PsycopgConnector
from procrastinate.connector import BaseAsyncConnector
from psycopg.pq import Conninfo

from durable_engine.procrastinate_task import install_alarms
from durable_engine.settings import CONFIG_FILE, SETTINGS, read_config
from durable_storage.errors import DurableError

_ALIASES: Final = {"database": "dbname", "ssl": "sslmode"}
"""Options of a store's URL that psycopg knows by another name."""
_SPECIAL: Final = re.compile(r"([ \\])")
_ESCAPED: Final = r"\\\1"


def default_app(store: str, connect: str | None = None) -> App:
    """An app on the database of a PostgreSQL store, able to fire alarms through the server at `connect`."""
    options = {"application_name": "durable-engine procrastinate"}
    app = App(connector=PsycopgConnector(conninfo=conninfo_of(store), kwargs=options, min_size=1, max_size=4))
    install_alarms(app, connect=connect)
    return app


def load_app(path: str) -> App:
    """A user's app by its path, `module:app` or `module.app`. Raises DurableError."""
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        app: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DurableError(f"the procrastinate app {path!r} cannot be imported: {error}") from error
    if not isinstance(app, App):
        raise DurableError(f"the procrastinate app {path!r} is a {type(app).__name__}; name a procrastinate.App")
    if not isinstance(app.connector, BaseAsyncConnector):
        raise DurableError(
            f"the procrastinate app {path!r} has a {type(app.connector).__name__}, which blocks; give it an async one: "
            "App(connector=PsycopgConnector(conninfo=...))"
        )
    return app


def conninfo_of(url: str) -> str:
    """A store's URL as psycopg takes it: settings of the session, such as search_path, are an option there."""
    parts = urlsplit(url)
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    query: list[tuple[str, str]] = []
    settings: list[str] = []
    for written, value in parse_qsl(parts.query, keep_blank_values=True):
        name = _ALIASES.get(written, written)
        if name in known:
            query.append((name, value))
        else:
            settings.append(f"-c {name}={_SPECIAL.sub(_ESCAPED, value)}")
    if settings:
        query.append(("options", " ".join(settings)))
    # PostgreSQL's library takes a plus sign for what it is.
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def __getattr__(name: str) -> Any:
    """`app`, made when it is first asked for: procrastinate's command line does so."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    config = read_config(Path(CONFIG_FILE)) if Path(CONFIG_FILE).is_file() else {}
    variable = SETTINGS["store"].envvar
    store = os.environ.get(variable) or config.get("store")
    if not store:
        raise DurableError(f"set {variable} to the URL of the store, or write it into {CONFIG_FILE}")
    connect = os.environ.get(SETTINGS["connect"].envvar) or config.get("connect") or config.get("bind")
    globals()["app"] = app = default_app(store, connect)
    return app

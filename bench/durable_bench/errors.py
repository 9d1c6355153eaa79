"""What can keep a benchmark from giving figures. The docstring of each is its default message."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark gave no figures."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)


class NoPostgres(BenchError):
    """No PostgreSQL server was found; install one, or name a database of yours with --postgres URL."""


class ServerStopped(BenchError):
    """The server that was to be measured stopped by itself."""


class ClientFailed(BenchError):
    """A client process failed."""


class LostUpdate(BenchError):
    """The objects do not add up to what was acknowledged, so that the figures mean nothing."""


class WrongAlarms(BenchError):
    """Alarms were lost, fired twice, or early, so that the figures mean nothing."""


class NotAResult(BenchError):
    """The file is no result of this harness."""


class NoFlights(BenchError):
    """The example with the flights is not here; run the scenario from the folder of a clone."""

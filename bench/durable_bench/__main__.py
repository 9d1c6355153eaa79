"""`python -m durable_bench [SCENARIO...]` is `durable-engine bench [SCENARIO...]`."""

from __future__ import annotations

import sys

from durable_bench.cli import bench
from durable_engine.cli import cli


def main() -> None:
    """Run the command and leave by SystemExit."""
    cli.add_command(bench)
    cli.main(["bench", *sys.argv[1:]])


if __name__ == "__main__":
    main()

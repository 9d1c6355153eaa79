"""`python -m durable_engine`: the command line, and the way an embedded engine starts its supervisor."""

from __future__ import annotations

import sys


def _main() -> None:
    if sys.argv[1:2] == ["_supervise"]:
        # Before click is imported: this process is forked from, and an engine waits for it to be up.
        from durable_engine.supervise_main import supervise_main  # noqa: PLC0415

        sys.exit(supervise_main(sys.argv[2:]))
    from durable_engine.cli import main  # noqa: PLC0415

    main()


if __name__ == "__main__":
    _main()

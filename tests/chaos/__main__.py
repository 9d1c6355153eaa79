"""`python -m tests.chaos`: faults on a real server with real clients, and a verdict (`make chaos`, `chaos-long`)."""

from __future__ import annotations

import argparse
import json
import random
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import cards_of
from tests.chaos.report import markdown, report
from tests.chaos.run import Record, Run, Wanted, counted
from tests.support import postgres

STORES = ("sqlite", "postgresql")
COUNTS = ("kills", "stops", "restarts", "cuts", "operations")


def main(words: list[str]) -> int:
    """0: no violation."""
    options = parse(words)
    if options.recheck:
        return recheck(options.recheck)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    command = again(options, seed)
    print(f"seed {seed}; to repeat: {command}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    postgres.begin_session()
    try:
        records = [run(folder, store, seed, options) for store in stores_of(options)]
    except BaseException:
        shutil.rmtree(folder)
        raise
    finally:
        postgres.end_session()
    status = tell(records, command, folder, options.report or folder)
    if status == 0:
        shutil.rmtree(folder)
    return status


def interrupted(number: int, _: object) -> None:
    """End by the way that everything else is ended by, too."""
    sys.exit(128 + number)


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--seconds", type=float, default=60.0, help="in all; longer when counts are still wanting")
    parser.add_argument("--seed", type=int, help="of the order and the details of the faults; default: any")
    parser.add_argument("--shards", type=int, default=3)
    for name in COUNTS:
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=f"go on until there were N {name}")
    names = sorted({card.name for store in STORES for card in cards_of(store)})
    parser.add_argument("--only", action="append", choices=names, metavar="FAULT", help="; ".join(names))
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="where to leave report.json and report.md")
    parser.add_argument("--recheck", type=Path, metavar="FOLDER", help="judge the history of an earlier run again")
    return parser.parse_args(words)


def stores_of(options: argparse.Namespace) -> tuple[str, ...]:
    """Which stores, in order."""
    return STORES if options.store == "both" else (options.store,)


def run(folder: Path, store: str, seed: int, options: argparse.Namespace) -> Record:
    """One store, with its share of what is wanted."""
    stores = stores_of(options)
    counts = {}
    for name in COUNTS:
        able = [each for each in stores if name in counted(each)]
        if store in able:
            counts[name] = -(-getattr(options, name) // len(able))
    wanted = Wanted(options.seconds / len(stores), counts, tuple(options.only or ()))
    own = folder / store
    own.mkdir()
    own.chmod(0o755)
    tell = lambda text: print(f"{store}: {text}", flush=True)  # noqa: E731
    return Run(own, store, seed=seed, shards=options.shards, wanted=wanted, tell=tell).go()


def again(options: argparse.Namespace, seed: int) -> str:
    """The command that makes the same plan."""
    words = ["python", "-m", "tests.chaos", "--store", options.store, "--seconds", f"{options.seconds:g}"]
    words += ["--seed", str(seed), "--shards", str(options.shards)]
    for name in COUNTS:
        if getattr(options, name):
            words += [f"--{name}", str(getattr(options, name))]
    for name in options.only or ():
        words += ["--only", name]
    return shlex.join(words)


def tell(records: list[Record], command: str, folder: Path, place: Path) -> int:
    """Print and write the report; the exit code."""
    found = report(records, command)
    place.mkdir(exist_ok=True)
    (place / "report.json").write_text(json.dumps(found, indent=2) + "\n")
    (place / "report.md").write_text(markdown(found))
    print("\n" + markdown(found), flush=True)
    violations = sum(len(record.violations) for record in records)
    if violations:
        print(f"{violations} violations; history and logs: {folder}\nto repeat: {command}")
        print(f"to judge again: python -m tests.chaos --recheck {folder}", flush=True)
    return 1 if violations else 0


def recheck(folder: Path) -> int:
    """Judge again what a run left."""
    records = []
    for path in sorted(folder.glob("*/record.json")):
        record = Record.read(path.parent)
        record.judge(path.parent)
        records.append(record)
    return tell(records, f"python -m tests.chaos --recheck {folder}", folder, folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

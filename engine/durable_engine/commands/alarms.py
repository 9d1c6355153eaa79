"""`alarms`: look at alarms, set and cancel them, fire them by hand, and arm again those that gave up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from durable_engine.commands.call import read_argument
from durable_engine.commands.connection import StoredName, connected, server_settings
from durable_engine.commands.objects import label_of, on_one_object
from durable_engine.output import Output, confirm, encode_json, table
from durable_engine.settings import Duration, Group, json_setting, setting

if TYPE_CHECKING:
    from durable_engine.views import AlarmView

_PAGE = 1_000


@click.group(cls=Group)
def alarms() -> None:
    """List, schedule, cancel, fire and retry alarms."""


_name = click.argument("name", metavar="NAME")


def _listing(command: Callable[..., None]) -> Callable[..., None]:
    """What the two lists take: whose alarms, of which tenant, how many."""
    for option in (
        click.argument("object_id", metavar="[ID]", required=False),
        click.argument("object_type", metavar="[CLASS]", required=False, type=StoredName()),
        click.pass_obj,
        json_setting,
        server_settings,
        setting("prefix"),
        setting("limit"),
    ):
        command = option(command)
    return command


@alarms.command("list")
@_listing
def list_alarms(output: Output, **asked: Any) -> None:
    """Print alarms by class, id and name, those that cannot fire included: all, or those of a class or an object."""
    _list(output, _describe, orphaned=False, **asked)


def _describe(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    rows = [each | {"payload": None if each["payload"] is None else encode_json(each["payload"])} for each in found]
    yield from table(rows, ["class", "id", "name", "at", "attempt", "recurrence", "payload", "orphaned"])


@alarms.command("orphaned")
@_listing
def list_orphaned(output: Output, **asked: Any) -> None:
    """Print the alarms that cannot fire, and why: they failed too often, or no served class has a method for them."""
    _list(output, _describe_orphans, orphaned=True, **asked)


def _describe_orphans(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    rows = [each | {"problem": (each["problem"] or "").partition("\n")[0]} for each in found]
    yield from table(rows, ["class", "id", "name", "at", "attempt", "orphaned", "problem"])


def _list(
    output: Output,
    describe: Callable[[Sequence[dict[str, Any]]], Iterator[str]],
    *,
    orphaned: bool,
    limit: int,
    prefix: str,
    connect: str,
    timeout: timedelta,
    object_type: str | None,
    object_id: str | None,
) -> None:
    found: list[AlarmView] = []
    last = _place_before(prefix, object_type, object_id)
    with connected(connect, timeout) as client:
        while len(found) < limit:
            wanted = min(_PAGE, limit - len(found))
            page = client.all_alarms(orphaned=orphaned, after=last, limit=wanted, prefix=prefix)
            ours = [each for each in page if object_type in (None, each.object_type)]
            ours = [each for each in ours if object_id in (None, each.object_id)]
            found += ours
            if len(page) < wanted or len(ours) < len(page):
                break
            last = page[-1]
    shown = [_shown(alarm) for alarm in found]
    output.show(shown, describe(shown))
    if not found:
        output.note("There are none.")
    elif len(found) == limit:
        output.note("There may be more: raise --limit.")


def _place_before(prefix: str, object_type: str | None, object_id: str | None) -> AlarmView | None:
    """What stands directly in front of the alarms of a class or an object, in the order of the list."""
    if object_type is None:
        return None
    from durable_engine.views import AlarmView

    return AlarmView(
        object_type=object_type,
        object_id=object_id or "",
        prefix=prefix,
        name="",
        at=datetime.min.replace(tzinfo=UTC),
        attempt=0,
    )


def _shown(alarm: AlarmView) -> dict[str, Any]:
    return {
        "class": alarm.object_type,
        "id": alarm.object_id,
        "prefix": alarm.prefix,
        "name": alarm.name,
        "at": alarm.at,
        "attempt": alarm.attempt,
        "payload": alarm.payload,
        "recurrence": alarm.recurrence,
        "orphaned": alarm.orphaned,
        "problem": alarm.problem,
    }


@alarms.command("schedule")
@setting("after", help="How long from now.", type=Duration(), metavar="DURATION")
@setting("at")
@setting("every")
@setting("cron")
@setting("tz")
@setting("missed")
@setting("payload")
@on_one_object
@_name
def schedule_alarm(
    output: Output,
    *,
    object_type: str,
    object_id: str,
    name: str,
    prefix: str,
    connect: str,
    timeout: timedelta,
    after: timedelta | None,
    at: str | None,
    every: timedelta | None,
    cron: str | None,
    tz: str | None,
    missed: Any,
    payload: str | None,
) -> None:
    """Arm the alarm NAME of an object; one armed by this name before is replaced. The object is not woken."""
    _check_when(after=after, at=at, every=every, cron=cron)
    value = None if payload is None else read_argument(payload)
    time = None if at is None else _time(at)
    with connected(connect, timeout) as client:
        of_object = client.alarms(object_type, object_id, prefix=prefix)
        of_object.schedule(name, after=after, at=time, every=every, cron=cron, tz=tz, missed=missed, payload=value)
        armed = next((alarm.at for alarm in of_object.pending() if alarm.name == name), None)
    label = label_of(object_type, object_id, prefix)
    output.show({"name": name, "at": armed}, [f"alarm {name} of {label} fires at {armed or 'once'}"])


def _check_when(**given: Any) -> None:
    words = [f"--{word}" for word, value in given.items() if value is not None]
    if not words:
        raise click.UsageError("say when: by --after, --at, --every or --cron")
    # A beat may begin at a time of its own; nothing else goes together.
    if len(words) > 1 and words not in (["--after", "--every"], ["--at", "--every"]):
        raise click.UsageError(f"{' and '.join(words)} do not go together")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--at {text!r} is no time: write it like 2031-05-01T09:00:00Z") from None
    if time.utcoffset() is None:
        raise click.UsageError(f"--at {text!r} has no time zone: write it like 2031-05-01T09:00:00Z")
    return time


@alarms.command("cancel")
@setting("yes")
@on_one_object
@click.argument("name", metavar="[NAME]", required=False)
def cancel_alarm(
    output: Output,
    *,
    object_type: str,
    object_id: str,
    name: str | None,
    prefix: str,
    connect: str,
    timeout: timedelta,
    confirmed: bool,
) -> None:
    """Disarm the alarm NAME of an object, or all its alarms."""
    label = label_of(object_type, object_id, prefix)
    if name is None:
        confirm(f"Cancel all alarms of {label}?", confirmed=confirmed)
    with connected(connect, timeout) as client:
        of_object = client.alarms(object_type, object_id, prefix=prefix)
        count = of_object.cancel_all() if name is None else int(of_object.cancel(name))
    output.show({"cancelled": count}, [f"{count} cancelled" if count else f"{label} had no such alarm"])


@alarms.command("fire")
@on_one_object
@_name
def fire_alarm(
    output: Output, *, object_type: str, object_id: str, name: str, prefix: str, connect: str, timeout: timedelta
) -> None:
    """Fire the armed or parked alarm NAME of an object now, whatever its time."""
    with connected(connect, timeout) as client:
        client.alarms(object_type, object_id, prefix=prefix).fire(name)
    output.show({"fired": name}, [f"alarm {name} of {label_of(object_type, object_id, prefix)} was fired"])


@alarms.command("retry")
@on_one_object
@click.argument("name", metavar="[NAME]", required=False)
def retry_alarm(
    output: Output,
    *,
    object_type: str,
    object_id: str,
    name: str | None,
    prefix: str,
    connect: str,
    timeout: timedelta,
) -> None:
    """Arm again, for now, the alarms of an object that failed: parked ones, and those that wait for another attempt."""
    with connected(connect, timeout) as client:
        count = client.alarms(object_type, object_id, prefix=prefix).retry(name)
    label = label_of(object_type, object_id, prefix)
    output.show({"retried": count}, [f"{count} armed again" if count else f"no alarm of {label} has failed"])

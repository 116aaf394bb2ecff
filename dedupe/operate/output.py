"""Output: records and answers as tables for people, and as JSON for programs."""

import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dedupe.operate.job import JobCall
from dedupe.operate.view import KeyRecord, KeyState

_COLORS = {
    KeyState.EXECUTING: "cyan",
    KeyState.SUCCEEDED: "green",
    KeyState.FAILED: "red",
    KeyState.HELD: "bold yellow",
    KeyState.ABANDONED: "yellow",
}
_ROWS = 500
"""Records of a table that is printed at once: more become several tables."""
_WIDE = 300
"""Characters of a line, where nobody's terminal limits it."""
_UNTIL_SECONDS = timedelta(minutes=2)
_UNTIL_MINUTES = timedelta(hours=2)
_UNTIL_HOURS = timedelta(days=2)


class Format(StrEnum):
    """How output is written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def default_format() -> Format:
    """Return tables for a terminal, and lines of JSON for anything else."""
    return Format.TABLE if sys.stdout.isatty() else Format.JSONL


def as_json(record: KeyRecord, **more: object) -> str:
    """Return a record as one line of JSON."""
    return json.dumps({**dataclasses.asdict(record), **more}, default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


async def print_records(records: AsyncIterator[KeyRecord], format: Format) -> int:
    """Print records as they come, and return how many there were."""
    count, rows = 0, list[KeyRecord]()
    async for record in records:
        count += 1
        if format is Format.JSONL:
            print(as_json(record), flush=True)
            continue
        rows.append(record)
        if format is Format.TABLE and len(rows) == _ROWS:
            _print_table(rows)
            rows.clear()
    if format is Format.JSON:
        print("[", ",\n ".join(map(as_json, rows)), "]", sep="", flush=True)
    elif rows:
        _print_table(rows)
    return count


def _print_table(records: Iterable[KeyRecord]) -> None:
    now = datetime.now(UTC)
    records = list(records)
    are_earlier = any(record.ended is not None for record in records)
    table = Table(box=None)
    times = ("settled", "ended" if are_earlier else "expires")
    reasons = ["why"] if any(record.failure or record.held for record in records) else []
    for name in ("key", "state", "activity", "gen.", "begun", *times, "begun by", *reasons):
        table.add_column(name, overflow="fold")
    for record in records:
        table.add_row(
            Text(record.key),
            _state(record.state),
            Text(record.activity),
            str(record.generation),
            _ago(record.started_at, now),
            _ago(record.settled_at, now),
            record.ended or _ago(record.expires_at, now),
            Text(record.started_by),
            *(Text(record.failure or record.held or "") for _ in reasons),
        )
    _console().print(table)


def print_record(record: KeyRecord, *, links: Iterable[tuple[str, str]]) -> None:
    """Print all that is known of one key, as it is now."""
    now = datetime.now(UTC)
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")

    def add(name: str, value: str | Text | None) -> None:
        if value is not None:
            table.add_row(Text(name, style="dim"), value)

    add("key", Text(record.key, style="bold"))
    add("state", _state(record.state))
    add("activity", Text(record.activity))
    add("begun", _when(record.started_at, now))
    add("begun by job", Text(record.started_by))
    add("in its run", record.started_by_run)
    add("in trace", None if record.trace_id is None else Text(record.trace_id))
    add("execution", f"generation {record.generation}")
    add("idempotency key", record.idempotency_key)
    if record.attempts is not None:
        attempts = record.attempts
        is_due = not attempts.is_running and attempts.next_at is not None and attempts.next_at > now
        due = f", {_ago(attempts.next_at, now)}" if is_due else ""
        words = dataclasses.replace(attempts, last_failure=None).in_words(now=now)
        add("progress", Text(words + due))
        add("last failure", None if attempts.last_failure is None else Text(attempts.last_failure, "red"))
    add("held since", None if record.held_since is None else _when(record.held_since, now))
    add("held because", None if record.held is None else Text(record.held, "red"))
    add("settled", None if record.settled_at is None else _when(record.settled_at, now))
    if record.settled_at is not None:
        expires = "never" if record.expires_at is None else _when(record.expires_at, now)
        add("expires", expires)
    if record.resolution is None and record.recorded_by is not None:
        add("recorded by", Text(record.recorded_by))
    add("result", None if record.result_json is None else Text(record.result_json))
    add("resolved by", None if record.resolution is None else Text(record.resolution))
    add("failure", None if record.failure is None else Text(record.failure, "red"))
    add("workflow", Text(record.workflow_id))
    for name, address in links:
        add(name, Text(address))
    _console().print(table)


def print_calls(calls: Iterable[JobCall], format: Format) -> None:
    """Print the calls of a job."""
    if format is not Format.TABLE:
        rows = [json.dumps(dataclasses.asdict(call), default=_plain) for call in calls]
        print(f"[{', '.join(rows)}]" if format is Format.JSON else "\n".join(rows), flush=True)
        return
    now = datetime.now(UTC)
    table = Table("activity", "answer", "key's workflow", "when", "detail", box=None)
    for call in calls:
        by = None if call.executed_by is None else f"executed by {call.executed_by}"
        detail = ", ".join(part for part in (call.detail, by) if part)
        table.add_row(
            *map(Text, (call.activity, call.answer, call.key_workflow_id, _ago(call.at, now), detail))
        )
    _console().print(table)


def print_counts(title: str, counts: Iterable[tuple[tuple[str, ...], int]], format: Format) -> None:
    """Print how many records there are of each kind; the columns of a kind are named by `title`."""
    names = title.split()
    if format is not Format.TABLE:
        rows = [{**dict(zip(names, kind, strict=True)), "keys": number} for kind, number in counts]
        print(json.dumps(rows) if format is Format.JSON else "\n".join(map(json.dumps, rows)), flush=True)
        return
    table = Table(*names, box=None)
    table.add_column("keys", justify="right")
    for kind, number in counts:
        table.add_row(*map(Text, kind), str(number))
    _console().print(table)


def _console() -> Console:
    """Return where tables are printed. What is no terminal has no width, and gets long lines."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def _state(state: KeyState) -> Text:
    return Text(state.value, style=_COLORS[state])


def _when(time: datetime, now: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {_ago(time, now)}"


def _ago(time: datetime | None, now: datetime) -> str:
    if time is None:
        return ""
    distance = abs(now - time)
    if distance < _UNTIL_SECONDS:
        length = f"{distance.total_seconds():.0f} s"
    elif distance < _UNTIL_MINUTES:
        length = f"{distance / timedelta(minutes=1):.0f} min"
    elif distance < _UNTIL_HOURS:
        length = f"{distance / timedelta(hours=1):.0f} h"
    else:
        length = f"{distance.days} days"
    return f"in {length}" if time > now else f"{length} ago"

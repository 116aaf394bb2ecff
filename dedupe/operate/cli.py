"""The command line over `DedupeKeys`: `dedupe`, or `python -m dedupe`; here what looks at keys."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import click

from dedupe.operate.changes import forget, resolve, retry
from dedupe.operate.job import calls_of
from dedupe.operate.keys import DedupeKeys
from dedupe.operate.options import FAILED, SECRET_VARIABLE, Keys, about, command, filters, listed, output
from dedupe.operate.output import (
    Format,
    as_json,
    print_calls,
    print_counts,
    print_record,
    print_records,
)
from dedupe.operate.view import KeyRecord
from dedupe.record.search import NAMES, missing, register


def main() -> int:
    """Run the command line.

    Returns:
        The exit status. 0: success; 1: no such record; 2: failure; 130: interrupted; 141: nobody reads the
        output any more.
    """
    try:
        return int(_dedupe.main(prog_name="dedupe", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return FAILED
    except click.Abort:
        print("dedupe: nothing was done", file=sys.stderr)
        return FAILED


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=f"{SECRET_VARIABLE}: the project's key secret, if it hides its keys. TEMPORAL_ADDRESS, "
    "TEMPORAL_NAMESPACE and the other variables of Temporal's clients, or a profile of their configuration "
    "file, say which service.",
)
@click.version_option(package_name="temporal-dedupe")
def _dedupe() -> None:
    """Look at deduplication keys, drop, retry and resolve them."""


@_dedupe.command("show")
@about
@output
@click.argument("key")
@click.option("--earlier", is_flag=True, help="Also what was recorded before, the latest first.")
@command
async def _show(keys: Keys, format: Format, key: str, *, earlier: bool) -> int:
    """Print all that is known of a key: its outcome, or how its execution is getting on."""
    record = await keys.keys.get(key, **keys.scope)
    if record is None:
        print(await keys.absent(key), file=sys.stderr)
    elif format is Format.TABLE:
        print_record(record, links=keys.links(record))
    else:
        print(as_json(record, **dict(keys.links(record))), flush=True)
    if earlier:
        if format is Format.TABLE:
            print("\nearlier:")
        await print_records(keys.keys.earlier(key, **keys.scope), format)
    return 1 if record is None else 0


@_dedupe.command("list")
@about
@output
@filters
@click.option("--limit", type=click.IntRange(min=1), help="So many at the most.")
@command
async def _list(keys: Keys, format: Format, limit: int | None, **chosen: Any) -> int:
    """Print the records of a scope."""

    async def limited() -> AsyncIterator[KeyRecord]:
        count = 0
        async for record in listed(keys, chosen):
            yield record
            count += 1
            if count == limit:
                return

    if not await print_records(limited(), format) and format is Format.TABLE:
        print("no key is recorded that fits", file=sys.stderr)
    return 0


@_dedupe.command("stats")
@about
@output
@filters
@command
async def _stats(keys: Keys, format: Format, **chosen: Any) -> int:
    """Count the records of a scope, by state and activity."""
    counts: Counter[tuple[str, ...]] = Counter()
    async for record in listed(keys, chosen):
        counts[record.state.value, record.activity] += 1
    print_counts("state activity", sorted(counts.items()), format)
    return 0


@_dedupe.command("why")
@about
@output
@click.argument("workflow_id")
@click.option("--run-id", default="", help="Of an earlier run of the job; the current one by default.")
@command
async def _why(keys: Keys, format: Format, workflow_id: str, run_id: str) -> int:
    """Print the calls with a key that a job has made: how each was answered, or what it waits for."""
    print_calls([call async for call in calls_of(keys.client, workflow_id, run_id=run_id)], format)
    return 0


@_dedupe.command("search-attributes")
@about
@click.option("--add", is_flag=True, help="Register those that are missing.")
@command
async def _search_attributes(keys: Keys, _: Format, *, add: bool) -> int:
    """Say which search attributes of keys the namespace has, or register them."""
    absent = await missing(keys.client)
    if add and absent:
        await register(keys.client, absent)
    for name in NAMES:
        print(f"{name}: {'there' if name not in absent else 'registered' if add else 'missing'}", flush=True)
    return 1 if absent and not add else 0


@_dedupe.command("exclude")
def _exclude() -> int:
    """Print the part of a query that leaves keys out, as for a batch that terminates."""
    print(DedupeKeys.EXCLUDED, flush=True)
    return 0


for each in (forget, retry, resolve):
    _dedupe.add_command(each)

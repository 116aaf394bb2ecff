"""The command line over `DedupeKeys`: `dedupe`, or `python -m dedupe`.

The service is found as every Temporal client finds it: through TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, the TLS
and API key variables, or a profile of the Temporal configuration file.
"""

import importlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import Progress
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from dedupe.errors import DedupeError
from dedupe.model.findings import DidNotHappen, Happened
from dedupe.model.keys import Scope
from dedupe.operate.job import calls_of
from dedupe.operate.keys import DedupeKeys
from dedupe.operate.output import (
    Format,
    as_json,
    default_format,
    print_calls,
    print_counts,
    print_record,
    print_records,
)
from dedupe.operate.view import KeyRecord, KeyState
from dedupe.process import run

SECRET_VARIABLE = "DEDUPE_KEY_SECRET"  # noqa: S105 - the name of the variable
"""Environment variable with the project's key secret, if it hides its keys."""

_DEFAULT_ADDRESS = "localhost:7233"
_INTERRUPTED = 128 + signal.SIGINT
_NOBODY_READS = 128 + signal.SIGPIPE
_FAILED = 2
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def main() -> int:
    """Run the command line.

    Returns:
        The exit status: 0 it is done, 1 there is no such record, 2 it failed; 130 it was interrupted, 141
        nobody reads its output any more.
    """
    try:
        return int(_dedupe.main(prog_name="dedupe", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return _FAILED
    except click.Abort:
        print("dedupe: nothing was done", file=sys.stderr)
        return _FAILED


# ---------------------------------------------------------------------------------------------------- options


@dataclass(frozen=True, kw_only=True)
class Where:
    """Whose keys a command is about."""

    organization: str
    project: str
    scope: Scope
    job: str | None
    converter: str | None
    ui: str | None

    async def keys(self) -> "Keys":
        """Connect to the service.

        Raises:
            RuntimeError: It does not answer.
        """
        config = ClientConfig.load_client_connect_config()
        config.setdefault("target_host", _DEFAULT_ADDRESS)
        client = await Client.connect(**config, data_converter=_converter(self.converter))
        keys = DedupeKeys(
            client,
            organization=self.organization,
            project=self.project,
            key_secret=os.environ.get(SECRET_VARIABLE),
        )
        return Keys(keys=keys, client=client, where=self)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of one project, as a command asks for them."""

    keys: DedupeKeys
    client: Client
    where: Where

    @property
    def scope(self) -> dict[str, Any]:
        """The scope, as `DedupeKeys` takes it."""
        return {"scope": self.where.scope, "job": self.where.job}

    async def absent(self, key: str) -> str:
        """Return what there is to say where nothing is recorded."""
        where, namespace = self.where, self.client.namespace
        key_id = self.keys.workflow_id(key, **self.scope)
        said = (
            f"nothing is recorded under {key!r}: there is no workflow {key_id!r} in namespace {namespace!r}"
        )
        if not await self.keys.has_any(**self.scope):
            said += (
                f". There is no key at all of scope {where.scope.value!r} in project "
                f"{where.organization}/{where.project}: are these, the namespace and {SECRET_VARIABLE} right?"
            )
        return said

    def links(self, record: KeyRecord) -> list[tuple[str, str]]:
        """Return the pages of the Web UI that show a record."""
        if self.where.ui is None:
            return []
        base = f"{self.where.ui.rstrip('/')}/namespaces/{quote(self.client.namespace, safe='')}/workflows"
        ids = (("key's page", record.workflow_id), ("job's page", record.started_by))
        return [(name, f"{base}/{quote(each, safe='')}") for name, each in ids]


def _converter(place: str | None) -> DataConverter:
    """Return the data converter that `module:name` names."""
    if place is None:
        return DataConverter.default
    module, _, name = place.partition(":")
    sys.path.insert(0, os.curdir)
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, DataConverter):
        message = f"{place} is not a data converter: name one as module:attribute"
        raise ValueError(message)  # noqa: TRY004 - said in a line
    return found


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Take an instant in ISO 8601, or a length of time before now."""
        match = re.fullmatch(r"(\d+)([smhd])", str(value))
        if match:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is neither a time (2026-01-31T12:00) nor an age (90s, 15m, 2h, 30d)", param, ctx
            )
        return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_where = _options(
    click.option("--organization", required=True, envvar="DEDUPE_ORGANIZATION", help="As the plugin has it."),
    click.option("--project", required=True, envvar="DEDUPE_PROJECT", help="As the plugin has it."),
    click.option(
        "--scope",
        type=click.Choice([scope.value for scope in Scope]),
        default=Scope.PROJECT.value,
        show_default=True,
    ),
    click.option("--job", help="The workflow type, for the scope 'job'."),
    click.option(
        "--converter",
        envvar="DEDUPE_DATA_CONVERTER",
        metavar="MODULE:NAME",
        help="The data converter of the project, where it encrypts payloads.",
    ),
    click.option(
        "--ui", envvar="DEDUPE_UI", metavar="ADDRESS", help="The Web UI, for links: http://localhost:8233"
    ),
)
_output = click.option(
    "--output",
    "format",
    type=click.Choice([each.value for each in Format]),
    help="Default: a table on a terminal, otherwise lines of JSON.",
)
_filters = _options(
    click.option("--prefix", default="", help="Only keys that begin with this."),
    click.option("--state", type=click.Choice([state.value for state in KeyState])),
    click.option("--activity", help="Only keys of this activity."),
    click.option(
        "--since", type=_Time(), help="Begun since then: 2026-01-31T12:00, or 2h for two hours ago."
    ),
    click.option("--until", "--older-than", "until", type=_Time(), help="Begun before then, or longer ago."),
)


def _interrupted(*_: object) -> None:
    """End at once, whatever the SDK's threads are at. Repeating what was interrupted does no harm."""
    os.write(sys.stderr.fileno(), b"dedupe: interrupted\n")
    os._exit(_INTERRUPTED)


def _command(function: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., int]:
    """Run a command that asks the service."""

    def command(
        organization: str,
        project: str,
        scope: str,
        job: str | None,
        converter: str | None,
        ui: str | None,
        format: str | None = None,
        **options: Any,
    ) -> int:
        where = Where(
            organization=organization,
            project=project,
            scope=Scope(scope),
            job=job,
            converter=converter,
            ui=ui,
        )
        shown = default_format() if format is None else Format(format)

        async def connected() -> int:
            return await function(await where.keys(), shown, **options)

        signal.signal(signal.SIGINT, _interrupted)
        try:
            return run(connected())
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
            return _NOBODY_READS
        except (DedupeError, RPCError, RuntimeError, ValueError, OSError, ImportError) as error:
            print(f"dedupe: {getattr(error, 'message', error)}", file=sys.stderr)
            return _FAILED

    command.__name__, command.__doc__ = function.__name__.lstrip("_"), function.__doc__
    return command


# --------------------------------------------------------------------------------------------------- commands


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
@_where
@_output
@click.argument("key")
@click.option("--earlier", is_flag=True, help="Also what was recorded before, the latest first.")
@_command
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
        await print_records(keys.keys.earlier(key, **keys.scope), format)
    return 1 if record is None else 0


@_dedupe.command("list")
@_where
@_output
@_filters
@click.option("--limit", type=click.IntRange(min=1), help="So many at the most.")
@_command
async def _list(keys: Keys, format: Format, limit: int | None, **filters: Any) -> int:
    """Print the records of a scope."""

    async def limited() -> AsyncIterator[KeyRecord]:
        count = 0
        async for record in _listed(keys, filters):
            yield record
            count += 1
            if count == limit:
                return

    await print_records(limited(), format)
    return 0


@_dedupe.command("stats")
@_where
@_output
@_filters
@_command
async def _stats(keys: Keys, format: Format, **filters: Any) -> int:
    """Count the records of a scope, by state and activity."""
    counts: Counter[tuple[str, ...]] = Counter()
    async for record in _listed(keys, filters):
        counts[record.state.value, record.activity] += 1
    print_counts("state activity", sorted(counts.items()), format)
    return 0


@_dedupe.command("forget")
@_where
@_filters
@click.argument("key", nargs=-1)
@click.option("--file", type=click.File(), help="Keys, one a line; - is standard input.")
@click.option("--force", is_flag=True, help="Also while a key is executing: its effect may still happen.")
@click.option("--dry-run", is_flag=True, help="Only say which keys would be forgotten.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="", help="Recorded with each key that is dropped, beside your identity.")
@_command
async def _forget(
    keys: Keys,
    _: Format,
    key: tuple[str, ...],
    file: TextIO | None,
    *,
    force: bool,
    dry_run: bool,
    yes: bool,
    reason: str,
    **filters: Any,
) -> int:
    """Drop records: the next call with such a key executes. Keys, a file of them, or options as of `list`."""
    given = await _chosen(keys, key, file, filters)
    if dry_run:
        for each in given:
            print(each if isinstance(each, str) else each.key)
        print(f"{len(given)} would be forgotten", file=sys.stderr)
        return 0
    if not yes and len(given) > 1 and sys.stdin.isatty():
        click.confirm(f"Forget {len(given)} keys?", abort=True, err=True)
    return await _forget_each(keys, given, force=force, reason=reason)


async def _forget_each(keys: Keys, given: list[str | KeyRecord], *, force: bool, reason: str) -> int:
    forgotten, absent, failed = 0, 0, 0
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("forgetting", total=len(given))
        async for each in keys.keys.forget_each(given, force=force, reason=reason, **keys.scope):
            progress.advance(task)
            if each.error is not None:
                failed += 1
                print(f"dedupe: {each.error.message}", file=sys.stderr)
            elif each.was_recorded:
                forgotten += 1
            else:
                absent += 1
                if given == [each.key]:
                    print(await keys.absent(each.key), file=sys.stderr)
    if len(given) == 1:
        if forgotten:
            print("forgotten", file=sys.stderr)
    else:
        print(f"{forgotten} forgotten, {absent} without a record, {failed} failed", file=sys.stderr)
    return _FAILED if failed else int(not forgotten)


@_dedupe.command("resolve")
@_where
@click.argument("key")
@click.option("--happened", is_flag=True, help="Its effect happened: all calls get the result.")
@click.option("--did-not-happen", is_flag=True, help="It did not, and will not: a call executes again.")
@click.option(
    "--result", "result_json", help="What the activity would have returned, as JSON; null by default."
)
@click.option("--force", is_flag=True, help="Also while its attempt may still be under way.")
@click.option("--reason", default="", help="Recorded beside your identity.")
@_command
async def _resolve(
    keys: Keys,
    _: Format,
    key: str,
    *,
    happened: bool,
    did_not_happen: bool,
    result_json: str | None,
    force: bool,
    reason: str,
) -> int:
    """Say what became of a held key, of which nobody knows whether its effect happened."""
    if happened == did_not_happen:
        raise click.UsageError("say either --happened or --did-not-happen")
    if did_not_happen and result_json is not None:
        raise click.UsageError("there is no --result of what did not happen")
    try:
        result = json.loads(result_json or "null")
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="--result") from error
    finding = DidNotHappen() if did_not_happen else Happened(result)
    await keys.keys.resolve(key, finding, force=force, reason=reason, **keys.scope)
    print("resolved", file=sys.stderr)
    return 0


@_dedupe.command("retry")
@_where
@_filters
@click.argument("key", nargs=-1)
@click.option("--file", type=click.File(), help="Keys, one a line; - is standard input.")
@click.option("--dry-run", is_flag=True, help="Only say which keys would be retried.")
@click.option("--reason", default="", help="The summary of the jobs that make the calls.")
@_command
async def _retry(
    keys: Keys,
    _: Format,
    key: tuple[str, ...],
    file: TextIO | None,
    *,
    dry_run: bool,
    reason: str,
    **filters: Any,
) -> int:
    """Execute what failed again, with the same arguments. Keys, a file of them, or options as of `list`."""
    if any(filters.values()):
        if SECRET_VARIABLE in os.environ:
            raise click.UsageError("a list shows no keys where the project hides them: give the keys")
        filters["state"] = filters["state"] or KeyState.FAILED.value
    given = [each if isinstance(each, str) else each.key for each in await _chosen(keys, key, file, filters)]
    if dry_run:
        for each in given:
            print(each)
        print(f"{len(given)} would be retried", file=sys.stderr)
        return 0
    failed = 0
    for each in given:
        try:
            print(await keys.keys.retry(each, scope=keys.where.scope, reason=reason), flush=True)
        except (DedupeError, RPCError) as error:
            failed += 1
            print(f"dedupe: {error.message}", file=sys.stderr)
    print(f"{len(given) - failed} started, {failed} not", file=sys.stderr)
    return _FAILED if failed else int(not given)


@_dedupe.command("why")
@_where
@_output
@click.argument("workflow_id")
@click.option("--run-id", default="", help="Of an earlier run of the job; the current one by default.")
@_command
async def _why(keys: Keys, format: Format, workflow_id: str, run_id: str) -> int:
    """Print the calls with a key that a job has made: how each was answered, or what it waits for."""
    print_calls([call async for call in calls_of(keys.client, workflow_id, run_id=run_id)], format)
    return 0


@_dedupe.command("exclude")
def _exclude() -> int:
    """Print the part of a query that leaves keys out, as for a batch that terminates."""
    print(DedupeKeys.EXCLUDED, flush=True)
    return 0


async def _chosen(
    keys: Keys, key: tuple[str, ...], file: TextIO | None, filters: dict[str, Any]
) -> list[str | KeyRecord]:
    """Return the keys that a command is given, or the records that its options say.

    Raises:
        UsageError: It is given both, or neither.
    """
    given: list[str | KeyRecord] = [*key, *(line.rstrip("\n") for line in file or () if line.strip())]
    is_filtered = any(filters.values())
    if bool(given) == is_filtered:
        raise click.UsageError("give either keys (as arguments, or --file), or options that say which")
    return [record async for record in _listed(keys, filters)] if is_filtered else given


def _listed(keys: Keys, filters: dict[str, Any]) -> AsyncIterator[KeyRecord]:
    state = filters.pop("state", None)
    return keys.keys.list(**filters, state=None if state is None else KeyState(state), **keys.scope)

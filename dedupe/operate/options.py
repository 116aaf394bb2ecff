"""What the commands share: their options, and how one that asks the service is run.

The service is found as every Temporal client finds it: through TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, the TLS
and API key variables, or a profile of the Temporal configuration file.
"""

import importlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import click
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from dedupe.errors import DedupeError
from dedupe.model.keys import Scope
from dedupe.operate.keys import DedupeKeys
from dedupe.operate.output import Format, default_format
from dedupe.operate.view import KeyRecord, KeyState
from dedupe.process import run

SECRET_VARIABLE = "DEDUPE_KEY_SECRET"  # noqa: S105 - the name of the variable
"""Environment variable with the project's key secret, if it hides its keys."""
FAILED = 2
"""The exit status where something is wrong."""

_DEFAULT_ADDRESS = "localhost:7233"
_INTERRUPTED = 128 + signal.SIGINT
_NOBODY_READS = 128 + signal.SIGPIPE
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class Where:
    """Whose keys a command is about."""

    organization: str
    project: str
    scope: Scope
    job: str | None
    converter: str | None
    ui: str | None
    search_attributes: bool

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
            search_attributes=self.search_attributes,
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
                f". No key of scope {where.scope.value!r} exists in project "
                f"{where.organization}/{where.project}: are these, the namespace and {SECRET_VARIABLE} right?"
            )
        return said

    def links(self, record: KeyRecord) -> list[tuple[str, str]]:
        """Return the pages of the Web UI that show a record."""
        if self.where.ui is None:
            return []
        base = f"{self.where.ui.rstrip('/')}/namespaces/{quote(self.client.namespace, safe='')}/workflows"
        job = quote(record.started_by, safe="")
        if record.started_by_run is not None:
            job += f"/{record.started_by_run}/history"
        return [
            ("key's page", f"{base}/{quote(record.workflow_id, safe='')}"),
            ("job's page", f"{base}/{job}"),
        ]


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


def options(*each: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator for several of click's."""

    def decorate(function: Any) -> Any:
        for option in reversed(each):
            function = option(function)
        return function

    return decorate


about = options(
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
    click.option(
        "--search-attributes",
        is_flag=True,
        envvar="DEDUPE_SEARCH_ATTRIBUTES",
        help="As the plugin has it: the service finds what failed or is held.",
    ),
)
output = click.option(
    "--output",
    "format",
    type=click.Choice([each.value for each in Format]),
    help="Default: a table on a terminal, otherwise lines of JSON.",
)
filters = options(
    click.option("--prefix", default="", help="Only keys that begin with this."),
    click.option("--state", type=click.Choice([state.value for state in KeyState])),
    click.option("--activity", help="Only keys of this activity."),
    click.option(
        "--since", type=_Time(), help="Begun since then: 2026-01-31T12:00, or 2h for two hours ago."
    ),
    click.option("--until", "--older-than", "until", type=_Time(), help="Begun before then, or longer ago."),
    click.option("--query", help="Only keys whose workflows match this, as `temporal workflow list` has it."),
)


def _interrupted(*_: object) -> None:
    """End at once, whatever the SDK's threads are at. Repeating what was interrupted does no harm."""
    os.write(sys.stderr.fileno(), b"dedupe: interrupted\n")
    os._exit(_INTERRUPTED)


def command(function: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., int]:
    """Run a command that asks the service."""

    def asking(
        *,
        organization: str,
        project: str,
        scope: str,
        job: str | None,
        converter: str | None,
        ui: str | None,
        search_attributes: bool,
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
            search_attributes=search_attributes,
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
            return FAILED

    asking.__name__, asking.__doc__ = function.__name__.lstrip("_"), function.__doc__
    return asking


def listed(keys: Keys, chosen: dict[str, Any]) -> AsyncIterator[KeyRecord]:
    """Yield the records that a command's options say."""
    state = chosen.pop("state", None)
    return keys.keys.list(**chosen, state=None if state is None else KeyState(state), **keys.scope)

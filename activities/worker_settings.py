"""What the worker is told: its settings, where it finds them, and how `--help` lists them.

The models are the only place where a setting is written down: environment, errors and help follow from them.
Where the Temporal service is, is not among them: `temporalio.envconfig` knows that, as in all of its tools.
"""

import difflib
import os
import re
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, cast, get_args, get_origin

from annotated_types import Ge, MinLen
from pydantic import (
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from typing_extensions import override

from activities.email import EmailSettings, OutboxSettings
from activities.github import FolderSettings as GitHubFolderSettings
from activities.github import GitHubSettings
from activities.objects import FolderSettings as ObjectFolderSettings
from activities.objects import ObjectSettings
from activities.payments import LedgerSettings, PaymentSettings
from activities.responses import FolderSettings as ResponseFolderSettings
from activities.responses import ResponseSettings
from activities.slack import FolderSettings as SlackFolderSettings
from activities.slack import SlackSettings
from activities.sms import FolderSettings as SmsFolderSettings
from activities.sms import SmsSettings
from activities.webhook import FolderSettings, WebhookSettings

PREFIX = "WORKER_"
DEFAULT_ADDRESS = "localhost:7233"
_NESTED = "__"
_TRANSPORT = "transport"

TEMPORAL_VARIABLES = """\
  TEMPORAL_ADDRESS                       Host and port. [localhost:7233]
  TEMPORAL_NAMESPACE                     Namespace. [default]
  TEMPORAL_API_KEY                       API key; with one, TLS is on. [none]
  TEMPORAL_TLS                           Whether to use TLS: true or false. [false]
  TEMPORAL_TLS_CLIENT_CERT_PATH          PEM file; ..._DATA instead of ..._PATH, here and
                                         below: the PEM itself. [none]
  TEMPORAL_TLS_CLIENT_KEY_PATH           PEM file. [none]
  TEMPORAL_TLS_SERVER_CA_CERT_PATH       PEM file. [the system's authorities]
  TEMPORAL_TLS_SERVER_NAME               Name in the service's certificate. [its host]
  TEMPORAL_GRPC_META_...                 A header of each request: ..._X_TEAM=a is x-team: a. [none]
  TEMPORAL_CONFIG_FILE                   TOML file with profiles of all these.
                                         [temporalio/temporal.toml among the user's configuration]
  TEMPORAL_PROFILE                       Which profile in it. [default]"""
"""Variables of `temporalio.envconfig`, which does not list them itself."""


Name = Annotated[str, MinLen(1)]
Address = Annotated[str, StringConstraints(pattern=r"^[^\s:]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")]


class StartupError(Exception):
    """What keeps a command from starting, and what to do about it: one line."""


class Settings(BaseSettings):
    """What the worker is told, beside where its Temporal service is.

    Made with arguments it is what they say; made without, what the environment says.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter=_NESTED,
        use_attribute_docstrings=True,
    )

    organization: Name
    """Who shares deduplication keys of Scope.ORGANIZATION."""
    project: Name
    """Who, inside the organization, shares those of Scope.PROJECT."""
    key_secret: Annotated[SecretStr, MinLen(1)] | None = None
    """Hides keys: they are replaced by their HMAC under it. Another secret makes other keys."""
    task_queue: Name = "jobs"
    """Where jobs are started."""
    email: EmailSettings = OutboxSettings()
    """Where e-mails go."""
    payments: PaymentSettings = LedgerSettings()
    """Where charges go."""
    webhooks: WebhookSettings = FolderSettings()
    """Where webhooks go."""
    slack: SlackSettings = SlackFolderSettings()
    """Where Slack messages go."""
    github: GitHubSettings = GitHubFolderSettings()
    """Where issues and comments go."""
    sms: SmsSettings = SmsFolderSettings()
    """Where text messages go."""
    objects: ObjectSettings = ObjectFolderSettings()
    """Where objects go."""
    responses: ResponseSettings = ResponseFolderSettings()
    """Where prompts go."""
    database_url: SecretStr = SecretStr("sqlite:///var/database.sqlite3")
    """Where statements are executed: sqlite:///file, or postgresql+psycopg://user:password@host/database."""
    concurrent_activities: Annotated[int, Ge(1)] = 100
    """Activities at the same time."""
    concurrent_workflow_tasks: Annotated[int, Ge(2)] = 100
    """Workflow tasks at the same time."""
    graceful_shutdown_timeout: Annotated[timedelta, Ge(timedelta(0))] = timedelta(seconds=25)
    """How long running activities get to end, once told to stop; then they are cancelled."""
    stop_timeout: Annotated[timedelta, Ge(timedelta(0))] = timedelta(seconds=15)
    """How long after that the process may take to end; then it leaves what does not let go."""
    connect_timeout: Annotated[timedelta, Ge(timedelta(seconds=1))] = timedelta(seconds=10)
    """How long the service gets to answer at the start."""
    role: Literal["all", "jobs", "keys"] = "all"
    """Jobs: without serving the keys' task queue, which another process does as keys. All: both."""
    deployment_name: Name | None = None
    """Worker deployment that this worker belongs to; jobs then stay on the build they began on."""
    build_id: Name | None = None
    """Which build of the deployment this is."""
    metrics_address: Address | None = None
    """Where Prometheus finds metrics, such as 0.0.0.0:9464."""
    health_address: Address | None = None
    """Where /livez and /readyz are answered, such as 0.0.0.0:8080."""
    log_format: Literal["text", "json"] = "text"
    """One line each, for people or for machines."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged, to stderr."""

    @field_validator(
        "email", "payments", "webhooks", "slack", "github", "sms", "objects", "responses", mode="before"
    )
    @classmethod
    def _default_transport(cls, section: object, info: ValidationInfo) -> object:
        if not isinstance(section, dict):
            return section
        default = cls.model_fields[str(info.field_name)].default
        return {_TRANSPORT: default.transport, **cast("dict[str, object]", section)}

    @model_validator(mode="after")
    def _whole_deployment(self) -> "Settings":
        if (self.deployment_name is None) != (self.build_id is None):
            raise ValueError("give both of deployment_name and build_id, or none")
        return self

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """See base class."""
        return (init_settings,) if init_settings() else (env_settings,)


def load_settings() -> Settings:
    """Return the settings in the environment.

    Raises:
        StartupError: They are not complete, or not valid; says which variables are to be changed.
    """
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper().split(_NESTED)[0] not in known:
            close = difflib.get_close_matches(
                name.upper().removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], n=1
            )
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "unset it."
            raise StartupError(f"{name} is no setting: {hint} See python worker.py --help")
    try:
        return Settings.model_validate({})
    except SettingsError as error:
        raise StartupError(f"the settings cannot be read: {error}. See python worker.py --help") from error
    except ValidationError as error:
        faults = "; ".join(map(_fault, error.errors()))
        raise StartupError(f"{faults}. See python worker.py --help") from error


def _fault(fault: ErrorDetails) -> str:
    # Inside of a section, the second part of the location is the transport that was chosen.
    field, *inner = fault["loc"]
    variable = PREFIX + _NESTED.join(str(part) for part in (field, *inner[1:])).upper()
    # Never the input itself: it may be a secret.
    match fault["type"]:
        case "missing":
            return f"{variable} is not set: set it"
        case "too_short" | "string_too_short":
            return f"{variable} is empty: set or unset it"
        case "extra_forbidden":
            return f"{variable} is no setting of the transport that is chosen: unset it, or choose another"
        case "union_tag_invalid":
            tags = fault.get("ctx", {}).get("expected_tags", "")
            return f"{variable}{_NESTED}{_TRANSPORT.upper()} is no transport: set it to one of {tags}"
        case "time_delta_parsing" | "time_delta_type":
            return f"{variable} is no duration: write it as PT25S, or as 00:00:25"
        case _:
            return f"{variable} cannot be used: {fault['msg'].removeprefix('Value error, ')}"


def variables() -> Iterator[str]:
    """Yield the lines of `--help` about the environment, as the models have it."""
    for name, field in Settings.model_fields.items():
        if field.discriminator is None:
            yield from _line(PREFIX + name, field)
            continue
        for section in get_args(field.annotation):
            chosen = section.model_fields[_TRANSPORT].default
            default = " (default)" if isinstance(field.default, section) else ""
            yield f"  {PREFIX}{name}{_NESTED}{_TRANSPORT}".upper() + f"={chosen}{default}: {section.__doc__}"
            for inner, inner_field in section.model_fields.items():
                if inner != _TRANSPORT:
                    yield from _line(f"  {PREFIX}{name}{_NESTED}{inner}", inner_field)


def _line(name: str, field: FieldInfo) -> Iterator[str]:
    if field.is_required():
        default = "required"
    elif isinstance(field.default, timedelta):
        default = TypeAdapter(timedelta).dump_python(field.default, mode="json")
    else:
        default = "none" if field.default is None else str(field.default)
    options = (
        " or ".join(get_args(field.annotation)) + ". " if get_origin(field.annotation) is Literal else ""
    )
    text = f"{options}{field.description or ''} [{default}]".strip()
    head = f"  {name.upper()}"
    yield from textwrap.wrap(
        text, 100, initial_indent=f"{head:<40} ", subsequent_indent=" " * 41, break_on_hyphens=False
    )


def connection() -> ClientConnectConfig:
    """Return where the Temporal service is, as `temporalio.envconfig` has it.

    Raises:
        StartupError: The profile is not there, or not valid.
    """
    file = os.environ.get("TEMPORAL_CONFIG_FILE")
    if file and not Path(file).is_file():
        raise StartupError(f"TEMPORAL_CONFIG_FILE: there is no file {file!r}. Correct or unset it.")
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise StartupError(
            f"the connection to Temporal is not well configured: {one_line(error)}. "
            "Correct the TEMPORAL_ variables, or the profile in the configuration file."
        ) from error
    config.setdefault("target_host", DEFAULT_ADDRESS)
    return config


def one_line(error: BaseException) -> str:
    """Return what is said in an error of the SDK."""
    # Under the SDK's errors lies the debug form of Rust's; what is said in it is in quotes.
    said = re.findall(r'(?:message|error): "([^"]+)"', str(error))
    return " ".join((said[-1] if said else str(error)).split()).rstrip(".")

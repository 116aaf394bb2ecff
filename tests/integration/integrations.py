"""Every integration while its workers are killed, hundreds of times: how often did each effect happen?

    python -m tests.integration.integrations --kills 200 [--only Slack] [--page docs/measured/integrations.md]

Calls of new keys begin all the time; the only worker is killed (`kill -9`) at random moments, so before an
effect, in it, after it, and before its record. At the end a last worker finishes what was begun. Of services
that can be asked nothing a person is played: the harness looks into the mailbox, and resolves.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer
from pydantic import BaseModel, HttpUrl
from sqlalchemy import Engine, create_engine, text
from temporalio.client import Client
from temporalio.common import RetryPolicy

from activities.database import Statement
from activities.email import Email
from activities.github import NewComment, NewIssue
from activities.objects import NewObject
from activities.payments import Charge
from activities.responses import Prompt
from activities.slack import SlackMessage
from activities.sms import Sms
from activities.webhook import Event
from dedupe import DedupeClient, DedupeKeys, DidNotHappen, Happened, KeyState
from tests.fakes import (
    github_server,
    openai_server,
    resend_server,
    slack_server,
    stripe_server,
    twilio_server,
)
from tests.fakes.github_server import GitHubServer
from tests.fakes.mail_server import PASSWORD, USER, Mailbox, mail_server
from tests.fakes.openai_server import OpenAIServer
from tests.fakes.provider import Provider
from tests.fakes.receiver import SECRET, Receiver
from tests.fakes.resend_server import ResendServer
from tests.fakes.slack_server import SlackServer
from tests.fakes.stripe_server import StripeServer
from tests.fakes.twilio_server import TwilioServer
from tests.integration.processes import ROOT
from tests.support.dovecot import dovecot
from tests.support.postgres import postgres
from tests.support.servers import dev_server

_DELAY = timedelta(milliseconds=80)
"""Of each service before its effect, and again before its answer: so that a kill finds an attempt there."""
_EVERY = 0.2
"""Seconds from one call to the next."""
_MOST_OPEN = 200
"""Calls at a time that have no answer yet: the service answers so many that wait, whatever else it does."""
_PATIENCE = 240.0
"""Seconds for which the last worker gets to finish what was begun."""
_ASK = {"on_unknown": "hold"}
_BUCKET = "kills"


class Service(Protocol):
    """A service that counts."""

    @property
    def environment(self) -> Mapping[str, str]:
        """How a worker finds it."""
        ...

    def effects(self) -> Counter[str]:
        """Return how often each effect happened, by name."""
        ...

    def attempts(self) -> int | None:
        """Return how many requests asked for one; None: it does not count them."""
        ...

    def asked(self) -> int | None:
        """Return how many requests asked what became of one; None: it does not count them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Integration:
    """An activity, and what it promises."""

    name: str
    guarantee: str
    activity: str
    argument: Callable[[str, Mapping[str, str]], BaseModel]
    """Of the effect with this name, in this environment."""
    service: Callable[[Path], AbstractContextManager[Service]]
    options: Mapping[str, Any]
    """Of the call, beyond its time-outs."""
    by_hand: Mapping[str, Any] | None = None
    """What a person says that it returned, where nobody else can be asked."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one integration."""

    integration: Integration
    kills: int
    keys: int
    attempts: int | None
    effects: int
    most: int
    """Effects of one key."""
    asked: int | None
    missing: int
    """Keys without an effect."""
    before: int
    """Keys of which an attempt was cut off before its effect."""
    after: int
    """Keys of which an attempt was cut off between its effect and the record."""
    recorded: int
    """Keys whose worker was killed after the record, before the job had the answer."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        counts = (
            *(self.kills, self.before, self.after, self.recorded),
            *(self.keys, self.attempts, self.effects, self.most, self.missing, self.asked),
        )
        shown = ("-" if count is None else f"{count:,}" for count in counts)
        return (self.integration.name, self.integration.guarantee, *shown)


HEADER = (
    "activity",
    "guarantee",
    "kills",
    "before the effect",
    "before the record",
    "before the answer",
    "keys",
    "attempts",
    "effects",
    "most of one key",
    "keys without",
    "unknowns asked",
)


# ------------------------------------------------------------------------------------------------- services


@dataclass(frozen=True, kw_only=True)
class _Provider:
    environment: Mapping[str, str]
    server: Provider
    field: str
    """Of an effect, whose first line is its name."""

    def effects(self) -> Counter[str]:
        return Counter(effect.content[self.field].partition("\n")[0] for effect in self.server.effects)

    def attempts(self) -> int:
        return sum(request.method == "POST" for request in self._requests() if not _is_reading(request.path))

    def asked(self) -> int:
        return sum(
            (request.method == "GET" and not _is_waiting(request.path)) or _is_reading(request.path)
            for request in self._requests()
        )

    def _requests(self) -> list[Any]:
        return list(self.server.requests)


def _is_reading(path: str) -> bool:
    return path.startswith("/conversations.history")


def _is_waiting(path: str) -> bool:
    return path.startswith("/v1/responses/")


def _provider(
    server: type[Provider],
    section: str,
    transport: str,
    credential: Mapping[str, str],
    field: str,
    path: str = "",
    **more: str,
) -> Callable[[Path], AbstractContextManager[Service]]:
    @contextmanager
    def serving(folder: Path) -> Generator[Service]:
        [api_key] = credential.values()
        with server(
            ledger=folder / "service.sqlite3", api_key=api_key, delay=_DELAY, answer_delay=_DELAY
        ) as running:
            prefix = f"WORKER_{section}__"
            environment = {f"{prefix}TRANSPORT": transport, f"{prefix}BASE_URL": f"{running.url}{path}"}
            environment |= {f"{prefix}{name}": value for name, value in {**credential, **more}.items()}
            yield _Provider(environment=environment, server=running, field=field)

    return serving


@dataclass(frozen=True, kw_only=True)
class _Received:
    environment: Mapping[str, str]
    receiver: Receiver

    def effects(self) -> Counter[str]:
        return Counter(str(event["data"]) for event in self.receiver.taken.values())

    def attempts(self) -> int:
        return len(self.receiver.requests)

    def asked(self) -> int:
        return 0


@contextmanager
def _receiver(_: Path) -> Generator[Service]:
    with Receiver(delay=_DELAY) as receiver:
        environment = {
            "WORKER_WEBHOOKS__TRANSPORT": "http",
            "WORKER_WEBHOOKS__SECRET": SECRET,
            "RECEIVER": receiver.url,
        }
        yield _Received(environment=environment, receiver=receiver)


@dataclass(frozen=True, kw_only=True)
class _Mail:
    """Sent mail."""

    environment: Mapping[str, str]
    mailbox: Mailbox
    is_filed: bool

    def effects(self) -> Counter[str]:
        return Counter(str(message["Subject"]) for message in self.mailbox.taken)

    def attempts(self) -> int:
        return self.mailbox.attempts

    def asked(self) -> int | None:
        """See `Service`."""
        return None if self.is_filed else 0


@contextmanager
def _mail(_: Path) -> Generator[Service]:
    with _serving(Mailbox(delay=_DELAY)) as mail:
        yield mail


@contextmanager
def _filed_mail(_: Path) -> Generator[Service]:
    with dovecot() as sent:
        environment = {
            "WORKER_EMAIL__SENT_HOST": "127.0.0.1",
            "WORKER_EMAIL__SENT_PORT": str(sent.port),
            "WORKER_EMAIL__SENT_ENCRYPTION": "none",
            "WORKER_EMAIL__SENT_FILED_WITHIN": "PT0S",
        }
        with _serving(Mailbox(delay=_DELAY, file=sent.file), environment) as mail:
            yield mail


@contextmanager
def _serving(mailbox: Mailbox, more: Mapping[str, str] | None = None) -> Generator[_Mail]:
    with mail_server(mailbox) as port:
        environment = {
            "WORKER_EMAIL__TRANSPORT": "smtp",
            "WORKER_EMAIL__HOST": "127.0.0.1",
            "WORKER_EMAIL__PORT": str(port),
            "WORKER_EMAIL__ENCRYPTION": "none",
            "WORKER_EMAIL__USERNAME": USER,
            "WORKER_EMAIL__PASSWORD": PASSWORD,
            "WORKER_EMAIL__SENDER": "hello@acme.example",
            **(more or {}),
        }
        yield _Mail(environment=environment, mailbox=mailbox, is_filed=more is not None)


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    """A bucket that keeps every version of an object: an object written twice has two."""

    environment: Mapping[str, str]
    s3: Any

    def effects(self) -> Counter[str]:
        pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=_BUCKET)
        return Counter(version["Key"] for page in pages for version in page.get("Versions", []))

    def attempts(self) -> None:
        """See `Service`."""

    def asked(self) -> int:
        return 0


@contextmanager
def _bucket(_: Path) -> Generator[Service]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url, region, credential = f"http://{host}:{port}", "us-east-1", "tests"
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=credential,
        aws_secret_access_key=credential,
    )
    s3.create_bucket(Bucket=_BUCKET)
    s3.put_bucket_versioning(Bucket=_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    environment = {
        "WORKER_OBJECTS__TRANSPORT": "s3",
        "WORKER_OBJECTS__BUCKET": _BUCKET,
        "WORKER_OBJECTS__ENDPOINT_URL": url,
        "WORKER_OBJECTS__REGION": region,
        "WORKER_OBJECTS__ACCESS_KEY_ID": credential,
        "WORKER_OBJECTS__SECRET_ACCESS_KEY": credential,
    }
    try:
        yield _Bucket(environment=environment, s3=s3)
    finally:
        server.stop()


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows of a table in PostgreSQL."""

    environment: Mapping[str, str]
    engine: Engine

    def effects(self) -> Counter[str]:
        with self.engine.connect() as connection:
            return Counter(str(name) for name in connection.scalars(text("SELECT name FROM notes")))

    def attempts(self) -> None:
        """See `Service`."""

    def asked(self) -> int:
        return 0


@contextmanager
def _database(_: Path) -> Generator[Service]:
    with postgres() as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE notes (id SERIAL PRIMARY KEY, name TEXT NOT NULL)"))
        yield _Rows(environment={"WORKER_DATABASE_URL": url}, engine=engine)
        engine.dispose()


# --------------------------------------------------------------------------------------------- integrations


def _email(name: str, _: Mapping[str, str]) -> BaseModel:
    return Email(to="ada@example.com", subject=name, text="Hello")


def _charge(name: str, _: Mapping[str, str]) -> BaseModel:
    return Charge(
        order_id=name, customer=f"cus_{name}", amount=1_099, currency="eur", payment_method="pm_card_visa"
    )


def _event(name: str, environment: Mapping[str, str]) -> BaseModel:
    return Event(
        url=HttpUrl(environment["RECEIVER"]),
        type="order.paid",
        data=name,
        happened_at=datetime(2026, 1, 31, tzinfo=UTC),
    )


def _message(name: str, _: Mapping[str, str]) -> BaseModel:
    return SlackMessage(channel=slack_server.CHANNEL, text=name)


def _sms(name: str, _: Mapping[str, str]) -> BaseModel:
    return Sms(to=f"+4917{int(name.rpartition('-')[2]):08}", text=name, reference=name)


def _issue(name: str, _: Mapping[str, str]) -> BaseModel:
    return NewIssue(repository=github_server.REPOSITORY, title=name, body="It broke.")


def _comment(name: str, _: Mapping[str, str]) -> BaseModel:
    return NewComment(repository=github_server.REPOSITORY, issue=1, body=name)


def _prompt(name: str, _: Mapping[str, str]) -> BaseModel:
    return Prompt(model="gpt-loopback", text=name)


def _object(name: str, _: Mapping[str, str]) -> BaseModel:
    return NewObject.of(name, b"content")


def _statement(name: str, _: Mapping[str, str]) -> BaseModel:
    sql = "INSERT INTO notes (name) SELECT :name FROM pg_sleep(:seconds)"
    return Statement(sql=sql, parameters={"name": name, "seconds": _DELAY.total_seconds()})


INTEGRATIONS: Sequence[Integration] = (
    Integration(
        name="send_email, Resend",
        guarantee="the provider's key",
        activity="send_email",
        argument=_email,
        service=_provider(
            ResendServer,
            "EMAIL",
            "resend",
            {"API_KEY": resend_server.API_KEY},
            "subject",
            SENDER="hello@acme.example",
        ),
        options={},
    ),
    Integration(
        name="send_email, mail server",
        guarantee="held, and a person looks",
        activity="send_email",
        argument=_email,
        service=_mail,
        options=_ASK,
        by_hand={"message_id": "by hand", "transport": "smtp"},
    ),
    Integration(
        name="send_email, mail server with a folder",
        guarantee="held, and looked for",
        activity="send_email",
        argument=_email,
        service=_filed_mail,
        options={"reconcile": "find_email"},
    ),
    Integration(
        name="charge, Stripe",
        guarantee="the provider's key",
        activity="charge",
        argument=_charge,
        service=_provider(
            StripeServer,
            "PAYMENTS",
            "stripe",
            {"API_KEY": stripe_server.API_KEY},
            "metadata[order_id]",
        ),
        options={},
    ),
    Integration(
        name="send_webhook",
        guarantee="the event's id",
        activity="send_webhook",
        argument=_event,
        service=_receiver,
        options={},
    ),
    Integration(
        name="post_message, Slack",
        guarantee="held, and looked for",
        activity="post_message",
        argument=_message,
        service=_provider(SlackServer, "SLACK", "slack", {"TOKEN": slack_server.API_KEY}, "text"),
        options={"reconcile": "find_message"},
    ),
    Integration(
        name="send_sms, Twilio",
        guarantee="held, and looked for",
        activity="send_sms",
        argument=_sms,
        service=_provider(
            TwilioServer,
            "SMS",
            "twilio",
            {"AUTH_TOKEN": twilio_server.API_KEY},
            "body",
            ACCOUNT_SID=twilio_server.ACCOUNT,
            SENDER="+15005550006",
        ),
        options={"reconcile": "find_sms"},
    ),
    Integration(
        name="create_issue, GitHub",
        guarantee="held, and looked for",
        activity="create_issue",
        argument=_issue,
        service=_provider(GitHubServer, "GITHUB", "github", {"TOKEN": github_server.API_KEY}, "title"),
        options={"reconcile": "find_issue"},
    ),
    Integration(
        name="add_comment, GitHub",
        guarantee="held, and looked for",
        activity="add_comment",
        argument=_comment,
        service=_provider(
            GitHubServer,
            "GITHUB",
            "github",
            {"TOKEN": github_server.API_KEY},
            "body",
        ),
        options={"reconcile": "find_comment"},
    ),
    Integration(
        name="create_response, OpenAI",
        guarantee="held, and a person looks",
        activity="create_response",
        argument=_prompt,
        service=_provider(
            OpenAIServer, "RESPONSES", "openai", {"API_KEY": openai_server.API_KEY}, "input", path="/v1"
        ),
        options=_ASK,
        by_hand={"response_id": "by hand", "text": "by hand"},
    ),
    Integration(
        name="put_object, S3",
        guarantee="a conditional write",
        activity="put_object",
        argument=_object,
        service=_bucket,
        options={},
    ),
    Integration(
        name="execute_statement, PostgreSQL",
        guarantee="one transaction",
        activity="execute_statement",
        argument=_statement,
        service=_database,
        options={},
    ),
)


# ---------------------------------------------------------------------------------------------------- killing


class _Workers:
    """One worker after the other."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._log = folder / "workers.log"
        with self._log.open("wb") as output:
            self._forking = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.forked_workers"],
                cwd=folder,  # what a worker writes by default goes there
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )

    async def start(self) -> int:
        """Start one, and return its process id."""
        return await asyncio.to_thread(self._start)

    def _start(self) -> int:
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        self._forking.stdin.write(b"one\n")
        self._forking.stdin.flush()
        return int(self._forking.stdout.readline())

    def last_words(self, process: int) -> str:
        """Return whether a worker is there, and what they have said last."""
        alive = Path(f"/proc/{process}").exists()
        return f"the last worker is {'alive' if alive else 'gone'}\n{self._log.read_text()[-2_000:]}"

    def end(self) -> None:
        """Start no more."""
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        self._forking.stdin.close()
        self._forking.stdout.close()
        self._forking.wait()


async def kill(integration: Integration, client: Client, *, kills: int, folder: Path) -> Row:
    """Begin calls, and kill workers; return what came of it once all calls have their answers."""
    project = f"kills-{uuid4().hex[:8]}"
    with integration.service(folder) as service:
        environment = {
            "WORKER_ORGANIZATION": "acme",
            "WORKER_PROJECT": project,
            "WORKER_TASK_QUEUE": project,
            "WORKER_LOG_LEVEL": "WARNING",
            "TEMPORAL_ADDRESS": client.service_client.config.target_host,
            **service.environment,
        }
        workers = _Workers(environment, folder)
        calls: list[asyncio.Task[Any]] = []
        keys = DedupeKeys(client, organization="acme", project=project)
        cut_off: set[tuple[str, str]] = set()
        beginning = asyncio.create_task(_begin(calls, integration, client, service, project))
        alive = 0
        try:
            for _ in range(kills):
                alive = await workers.start()
                await asyncio.sleep(random.uniform(0.25, 0.9))
                try:
                    os.kill(alive, signal.SIGKILL)
                except ProcessLookupError as error:
                    raise RuntimeError(workers.last_words(alive)) from error
                cut_off |= await _cut_off(keys, service, calls)
            alive = await workers.start()
            beginning.cancel()
            with suppress(asyncio.CancelledError):
                await beginning
            resolved = None
            if integration.by_hand is not None:
                resolved = await _look_into(service, integration.by_hand, client, project, calls)
            _, left = await asyncio.wait(calls, timeout=_PATIENCE)
            if left:
                story = await _story(client, project, [calls.index(call) for call in left])
                raise RuntimeError(f"{story}\n{workers.last_words(alive)}")
            await asyncio.gather(*calls)
        finally:
            beginning.cancel()
            for call in calls:
                call.cancel()
            with suppress(ProcessLookupError):
                os.kill(alive, signal.SIGTERM)
            workers.end()
        effects, where = service.effects(), Counter(place for _, place in cut_off)
        return Row(
            integration=integration,
            kills=kills,
            keys=len(calls),
            attempts=service.attempts(),
            effects=effects.total(),
            most=max(effects.values(), default=0),
            asked=service.asked() if resolved is None else resolved,
            missing=len(calls) - len(effects),
            before=where["effect"],
            after=where["record"],
            recorded=where["answer"],
        )


async def _cut_off(
    keys: DedupeKeys, service: Service, calls: Sequence[asyncio.Task[Any]]
) -> set[tuple[str, str]]:
    """Return before what the calls were whose worker was just killed, once what it had sent has arrived."""
    open_calls = [f"effect-{number}" for number, call in enumerate(calls) if not call.done()]
    await asyncio.sleep(2 * _DELAY.total_seconds())
    effects = service.effects()
    found: set[tuple[str, str]] = set()
    for name, record in zip(open_calls, await asyncio.gather(*map(keys.get, open_calls)), strict=True):
        if record is None or record.state is KeyState.HELD:
            continue
        if record.state is KeyState.SUCCEEDED:
            found.add((name, "answer"))
        else:
            found.add((name, "record" if name in effects else "effect"))
    return found


async def _story(client: Client, project: str, left: Sequence[int]) -> str:
    """Say what became of calls that have no answer."""
    keys = DedupeKeys(client, organization="acme", project=project)
    records = [f"effect-{number}: {await keys.get(f'effect-{number}')}" for number in left[:5]]
    return "\n".join([f"{len(left)} calls have no answer", *records])


async def _begin(
    calls: list[asyncio.Task[Any]],
    integration: Integration,
    client: Client,
    service: Service,
    project: str,
) -> None:
    dedupe = DedupeClient(client, task_queue=project)
    while True:
        while sum(not call.done() for call in calls) >= _MOST_OPEN:
            await asyncio.sleep(_EVERY)
        name = f"effect-{len(calls)}"
        call = dedupe.execute_activity(
            integration.activity,
            integration.argument(name, service.environment),
            deduplication_key=name,
            start_to_close_timeout=timedelta(seconds=3),
            heartbeat_timeout=timedelta(seconds=1),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=5)),
            **integration.options,
        )
        calls.append(asyncio.create_task(call))
        await asyncio.sleep(_EVERY)


async def _look_into(
    service: Service,
    result: Mapping[str, Any],
    client: Client,
    project: str,
    calls: Sequence[asyncio.Task[Any]],
) -> int:
    """Say of each held key what the service says, until no call waits; return how many that were."""
    resolved = 0
    keys = DedupeKeys(client, organization="acme", project=project)
    async with asyncio.timeout(_PATIENCE):
        while not all(call.done() for call in calls):
            async for record in keys.list():
                if record.state is KeyState.HELD:
                    happened = record.key in service.effects()
                    with suppress(Exception):  # it is not over yet, or somebody was faster
                        await keys.resolve(record.key, Happened(result) if happened else DidNotHappen())
                        resolved += 1
            await asyncio.sleep(1)
    return resolved


# ----------------------------------------------------------------------------------------------- command line


def table(rows: Sequence[Row]) -> list[str]:
    """Return rows as a table of Markdown."""
    lines = [HEADER, tuple("---" for _ in HEADER), *(row.cells for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


_PAGE = """# Integrations while their workers are killed

Made by `make kills ARGS="--kills {kills} --page {page}"`, {day}, against the local services that the tests
use. Calls of new keys begin five times a second; the only worker is killed (`kill -9`) at random moments.
*Before the effect*, *the record*, *the answer*: keys of which a kill cut off an attempt there, as the key and
the service said right after it. *Attempts* are requests that the service saw; a bucket and a database do not
count them. *Unknowns asked*: requests that looked whether an effect had happened; a look may take several
pages. A folder of mail does not count them.

{table}
"""


async def _main(kills: int, only: str) -> list[Row]:
    rows: list[Row] = []
    async with dev_server() as client:
        for integration in INTEGRATIONS:
            if only.lower() not in integration.name.lower():
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows.append(await kill(integration, client, kills=kills, folder=Path(folder)))
            sys.stdout.write(f"{table(rows[-1:])[-1]}\n")
            sys.stdout.flush()
    return rows


def main() -> int:
    """Run, and return the exit code: 1 where an effect happened twice, or not at all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", default="", help="integrations whose name holds this")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    rows = asyncio.run(_main(options.kills, options.only))
    page: Path | None = options.page
    if page is not None:
        text_ = _PAGE.format(
            kills=options.kills,
            page=page,
            day=datetime.now(UTC).date().isoformat(),
            table="\n".join(table(rows)),
        )
        page.write_text(text_)
    return 0 if all(row.most == 1 and row.missing == 0 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

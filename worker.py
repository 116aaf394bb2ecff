"""The worker: runs the jobs of `workflows/` and the activities of `activities/` until it is told to stop.

`python worker.py` connects to any Temporal service and drains on SIGTERM and SIGINT; `python worker.py demo`
brings a service of its own (see `examples.demo`); `python worker.py --help` lists every setting.
What keeps it from starting is one line on stderr.
"""

import argparse
import asyncio
import logging
import signal
import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConnectConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

import dedupe
from activities.database import DatabaseActivities
from activities.email import EmailActivities, EmailTransport, email_transport
from activities.payments import PaymentActivities, PaymentTransport, payment_transport
from activities.webhook import WebhookActivities, WebhookTransport, webhook_transport
from activities.worker_settings import (
    TEMPORAL_VARIABLES,
    Settings,
    StartupError,
    connection,
    load_settings,
    one_line,
    variables,
)
from dedupe import DedupePlugin
from workflows.digest import DigestJob
from workflows.invoice import InvoiceJob
from workflows.onboarding import OnboardingJob
from workflows.order import OrderJob

_EXAMPLE = Path(__file__).parent / "examples" / "signups.jsonl"
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_ADVICE_OTHERWISE = "Try again later, or look into the service's logs."
_ADVICE = {
    RPCStatusCode.NOT_FOUND: "Create the namespace, or set TEMPORAL_NAMESPACE.",
    RPCStatusCode.PERMISSION_DENIED: "Set a TEMPORAL_API_KEY, or certificate, that may use it.",
    RPCStatusCode.UNAUTHENTICATED: "Set a TEMPORAL_API_KEY, or certificate, that may use it.",
}


async def create_worker(settings: Settings, config: ClientConnectConfig) -> Worker:
    """Return the worker of all jobs and activities, connected.

    Raises:
        StartupError: The service does not answer, or not to this client, or a transport cannot be made.
    """
    email, payments = _email_transport(settings), _payment_transport(settings)
    webhooks, database = _webhook_transport(settings), _database(settings)
    threads = ThreadPoolExecutor(settings.concurrent_activities, thread_name_prefix="transport")
    asyncio.get_running_loop().set_default_executor(threads)
    return Worker(
        await _connect(settings, config),
        task_queue=settings.task_queue,
        workflows=[OnboardingJob, InvoiceJob, DigestJob, OrderJob],
        activities=[
            EmailActivities(email).send_email,
            PaymentActivities(payments).charge,
            PaymentActivities(payments).find_charge,
            PaymentActivities(payments).refund,
            WebhookActivities(webhooks).send_webhook,
            database.execute_statement,
        ],
        max_concurrent_activities=settings.concurrent_activities,
        max_concurrent_workflow_tasks=settings.concurrent_workflow_tasks,
        graceful_shutdown_timeout=settings.graceful_shutdown_timeout,
        # After kill -9 of a worker its jobs' next steps are late by this much; the default is ten seconds.
        sticky_queue_schedule_to_start_timeout=timedelta(milliseconds=500),
    )


async def _connect(settings: Settings, config: ClientConnectConfig) -> Client:
    """Return a client whose workers deduplicate."""
    where = f"namespace {config.get('namespace', 'default')!r} at {config.get('target_host')}"
    secret = settings.key_secret
    try:
        async with asyncio.timeout(settings.connect_timeout.total_seconds()):
            client = await Client.connect(
                **config,
                data_converter=pydantic_data_converter,
                plugins=[
                    DedupePlugin(
                        organization=settings.organization,
                        project=settings.project,
                        key_secret=None if secret is None else secret.get_secret_value(),
                    )
                ],
            )
            request = DescribeNamespaceRequest(namespace=client.namespace)
            await client.workflow_service.describe_namespace(request)
    except TimeoutError as error:
        raise StartupError(
            f"no answer from Temporal, {where}, within {settings.connect_timeout}. "
            "Is it running and reachable? Is TEMPORAL_ADDRESS right?"
        ) from error
    except RPCError as error:
        raise StartupError(
            f"Temporal refuses {where}: {one_line(error)}. {_ADVICE.get(error.status, _ADVICE_OTHERWISE)}"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise StartupError(
            f"no connection to Temporal, {where}: {one_line(error)}. "
            "Start it (such as: temporal server start-dev), or correct TEMPORAL_ADDRESS, or TLS."
        ) from error
    return client


def _email_transport(settings: Settings) -> EmailTransport:
    try:
        return email_transport(settings.email)
    except OSError as error:
        raise StartupError(
            f"the outbox cannot be made: {error}. Set WORKER_EMAIL__DIRECTORY to a folder to write to."
        ) from error


def _payment_transport(settings: Settings) -> PaymentTransport:
    try:
        return payment_transport(settings.payments)
    except (OSError, sqlite3.Error) as error:
        raise StartupError(
            f"the ledger cannot be opened: {error}. Set WORKER_PAYMENTS__PATH to a file to write to."
        ) from error


def _webhook_transport(settings: Settings) -> WebhookTransport:
    try:
        return webhook_transport(settings.webhooks)
    except OSError as error:
        raise StartupError(
            f"the folder of webhooks cannot be made: {error}. "
            "Set WORKER_WEBHOOKS__DIRECTORY to a folder to write to."
        ) from error


def _database(settings: Settings) -> DatabaseActivities:
    try:
        return DatabaseActivities(settings.database_url)
    except (OSError, SQLAlchemyError) as error:
        raise StartupError(
            f"the database cannot be used: {one_line(error)}. Correct WORKER_DATABASE_URL, or start it."
        ) from error


async def serve(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT, and then until what it has begun is done. Return its exit code.

    Raises:
        StartupError: It cannot start.
    """
    worker = await create_worker(settings, connection())
    await dedupe.serve(worker, stop_timeout=settings.stop_timeout)
    return 0


def _parser() -> argparse.ArgumentParser:
    environment = "\n".join(variables())
    parser = argparse.ArgumentParser(
        prog="worker.py",
        usage="worker.py [-h] [COMMAND ...]",
        description="Without a command: run the jobs of this project until SIGTERM or SIGINT; then\n"
        "finish what was begun, and end. A second signal ends it at once.",
        epilog=f"environment:\n{environment}\n\nTemporal service, as all of Temporal's tools find it:\n"
        f"{TEMPORAL_VARIABLES}\n\nA duration is written as PT25S, or as 00:00:25.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        prog="worker.py demo",
        help="run a service and a worker here, and let sign-up events start jobs on them",
        description="Run a Temporal service and a worker here, and start a job for each sign-up event of a\n"
        "file, as a webhook delivers them: at least once. No setting is read, and no e-mail leaves\n"
        "the machine.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument(
        "file",
        nargs="?",
        default=str(_EXAMPLE),
        metavar="FILE",
        help=f"one JSON object a line; - is stdin [{_EXAMPLE.parent.name}/{_EXAMPLE.name}]",
    )
    demo.add_argument("--data", type=Path, default=Path(".demo"), metavar="DIR", help="state [%(default)s]")
    demo.add_argument("--keep", action="store_true", help="stay, with the Web UI, until Ctrl-C")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "demo":
            from examples import demo  # noqa: PLC0415 - a worker needs none of it

            running = demo.run(
                arguments.file, arguments.data, keep=arguments.keep, create_worker=create_worker
            )
        else:
            settings = load_settings()
            logging.basicConfig(level=settings.log_level, format=_LOG_FORMAT)
            running = serve(settings)
        return dedupe.run(running)
    except StartupError as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("worker.py: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())

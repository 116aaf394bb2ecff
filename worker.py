"""The worker: runs the jobs of `workflows/` and the activities of `activities/` until it is told to stop.

`python worker.py` connects to any Temporal service and drains on SIGTERM and SIGINT; `python worker.py demo`
brings a service of its own (see `examples.demo`); `python worker.py --help` lists every setting.
What keeps it from starting is one line on stderr.
"""

import argparse
import asyncio
import errno
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from pythonjsonlogger.json import JsonFormatter
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConnectConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker, WorkerDeploymentConfig

import dedupe
from activities.services import create_activities
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
_LOG_FIELDS = {"asctime": "time", "levelname": "level", "name": "logger"}

_ADVICE_OTHERWISE = "Try again later, or look into the service's logs."
_ADVICE = {
    RPCStatusCode.NOT_FOUND: "Create the namespace, or set TEMPORAL_NAMESPACE.",
    RPCStatusCode.PERMISSION_DENIED: "Set a TEMPORAL_API_KEY, or certificate, that may use it.",
    RPCStatusCode.UNAUTHENTICATED: "Set a TEMPORAL_API_KEY, or certificate, that may use it.",
}


def create_plugin(settings: Settings) -> DedupePlugin:
    """Return what makes this process's workers deduplicate."""
    secret = settings.key_secret
    return DedupePlugin(
        organization=settings.organization,
        project=settings.project,
        key_secret=None if secret is None else secret.get_secret_value(),
        serve=settings.role != "jobs",
    )


def create_worker(settings: Settings, client: Client, activities: Sequence[Callable[..., Any]]) -> Worker:
    """Return the worker of all jobs, and of these activities."""
    threads = ThreadPoolExecutor(settings.concurrent_activities, thread_name_prefix="transport")
    asyncio.get_running_loop().set_default_executor(threads)
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[OnboardingJob, InvoiceJob, DigestJob, OrderJob],
        activities=activities,
        max_concurrent_activities=settings.concurrent_activities,
        max_concurrent_workflow_tasks=settings.concurrent_workflow_tasks,
        graceful_shutdown_timeout=settings.graceful_shutdown_timeout,
        # After kill -9 of a worker its jobs' next steps are late by this much; the default is ten seconds.
        sticky_queue_schedule_to_start_timeout=timedelta(milliseconds=500),
        deployment_config=_deployment(settings),
    )


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    if settings.deployment_name is None or settings.build_id is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=settings.deployment_name, build_id=settings.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def connect(settings: Settings, config: ClientConnectConfig, plugin: DedupePlugin) -> Client:
    """Return a client whose workers deduplicate.

    Raises:
        StartupError: The service does not answer, or not to this client; or metrics have no place.
    """
    where = f"namespace {config.get('namespace', 'default')!r} at {config.get('target_host')}"
    try:
        async with asyncio.timeout(settings.connect_timeout.total_seconds()):
            client = await Client.connect(
                **config,
                data_converter=pydantic_data_converter,
                plugins=[plugin],
                runtime=_runtime(settings),
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


def _runtime(settings: Settings) -> Runtime | None:
    """Return what shows metrics; None where nobody asks for them.

    Raises:
        StartupError: The address cannot be listened at.
    """
    if settings.metrics_address is None:
        return None
    prometheus = PrometheusConfig(bind_address=settings.metrics_address, durations_as_seconds=True)
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=prometheus))
    except (RuntimeError, ValueError) as error:
        raise StartupError(
            f"metrics cannot be shown at {settings.metrics_address}: {one_line(error)}. "
            "Correct WORKER_METRICS_ADDRESS: host and port, such as 0.0.0.0:9464"
        ) from error


async def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, and then until what was begun is done. Return the exit code.

    Raises:
        StartupError: It cannot start.
    """
    plugin = create_plugin(settings)
    activities = [] if settings.role == "keys" else create_activities(settings)
    client = await connect(settings, connection(), plugin)
    try:
        if settings.role == "keys":
            await dedupe.serve_keys(client, plugin, health_address=settings.health_address)
        else:
            await dedupe.serve(
                create_worker(settings, client, activities),
                stop_timeout=settings.stop_timeout,
                health_address=settings.health_address,
            )
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}:
            raise
        raise StartupError(
            f"health cannot be answered at {settings.health_address}: {error.strerror}. "
            "Correct WORKER_HEALTH_ADDRESS"
        ) from error
    return 0


def _log(settings: Settings) -> None:
    """Write the log to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter(_LOG_FORMAT)
        if settings.log_format == "text"
        else JsonFormatter(["asctime", "levelname", "name", "message"], rename_fields=_LOG_FIELDS)
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler])


async def _demo_worker(settings: Settings, config: ClientConnectConfig) -> Worker:
    activities = create_activities(settings)
    client = await connect(settings, config, create_plugin(settings))
    return create_worker(settings, client, activities)


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
        "file, as a webhook delivers them: at least once. Meanwhile kill the worker of an order in\n"
        "the middle of its charge. No setting is read, and nothing leaves the machine.",
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
    demo.add_argument(
        "--only-sign-ups",
        action="store_true",
        help="leave out the order whose worker is killed in the charge, which takes 40 seconds",
    )
    demo.add_argument("--keep", action="store_true", help="stay, with the Web UI, until Ctrl-C")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "demo":
            from examples import demo  # noqa: PLC0415 - a worker needs none of it

            running = demo.run(
                arguments.file,
                arguments.data,
                keep=arguments.keep,
                with_order=not arguments.only_sign_ups,
                create_worker=_demo_worker,
            )
        else:
            settings = load_settings()
            _log(settings)
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

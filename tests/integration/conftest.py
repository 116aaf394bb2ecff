"""What the integration tests share: a server's address, servers to break, the table of faults."""

import functools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from tests.fakes.resend_server import API_KEY, ResendServer
from tests.integration.fault_table import TABLE, Table
from tests.integration.temporal_container import (
    TemporalContainer,
    temporal_container,
    temporal_image,
    why_no_container,
)

_why_no_container = functools.cache(why_no_container)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a `docker` test where there is no engine; fail it where the machine has promised one."""
    if item.get_closest_marker("docker") is None:
        return
    reason = _why_no_container()
    if reason is None:
        return
    if os.environ.get("DEDUPE_REQUIRE_DOCKER") == "1":
        pytest.fail(f"DEDUPE_REQUIRE_DOCKER=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """An environment in which a worker would start, if there were a service."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "WORKER_"))
    }
    return {
        **kept,
        "XDG_CONFIG_HOME": str(tmp_path),
        "WORKER_ORGANIZATION": f"org-{uuid4().hex[:12]}",
        "WORKER_PROJECT": "web",
        "WORKER_TASK_QUEUE": f"jobs-{uuid4()}",
        "WORKER_EMAIL__DIRECTORY": str(tmp_path / "outbox"),
        "WORKER_PAYMENTS__PATH": str(tmp_path / "ledger.sqlite3"),
        "WORKER_CONNECT_TIMEOUT": "PT2S",
    }


@pytest.fixture
def resend(tmp_path: Path, settings: dict[str, str]) -> Iterator[ResendServer]:
    """A local Resend, through which the worker sends."""
    with ResendServer(ledger=tmp_path / "resend.sqlite3", api_key=API_KEY) as server:
        del settings["WORKER_EMAIL__DIRECTORY"]
        settings["WORKER_EMAIL__TRANSPORT"] = "resend"
        settings["WORKER_EMAIL__API_KEY"] = API_KEY
        settings["WORKER_EMAIL__SENDER"] = "hello@acme.example"
        settings["WORKER_EMAIL__BASE_URL"] = server.url
        yield server


@pytest.fixture(scope="session")
def running_server(real_client: Client) -> str:
    """The address of the session's real server, for processes that find it by themselves."""
    return real_client.service_client.config.target_host


@pytest.fixture(scope="session")
def server_image() -> Iterator[str]:
    """The image of the session's Temporal containers."""
    with temporal_image() as image:
        yield image


@pytest.fixture
async def server(server_image: str) -> AsyncIterator[TemporalContainer]:
    """A Temporal server in a container of the test's own, to break as it likes."""
    async with temporal_container(server_image) as container:
        yield container


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """The table that is printed at the end of the run."""
    return pytestconfig.stash[TABLE]

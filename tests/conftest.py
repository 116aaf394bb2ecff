"""A real server for the session, one that skips time for each module; and a ground on them for each test."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.integration.fault_table import TABLE, Table
from tests.support.ground import Ground, Grounds
from tests.support.servers import dev_server, time_skipping_server, virtual_time_server

_FAULTS = "faults"


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table of faults."""
    config.stash[TABLE] = Table()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let reports travel from process to process: what tests log may hold half a character."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the table of faults to the process that prints it, where the tests run in several."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_FAULTS] = session.config.stash[TABLE].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the table of faults of one process."""
    node.config.stash[TABLE].load(getattr(node, "workeroutput", {}).get(_FAULTS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the faults of this run did."""
    lines = terminalreporter.config.stash[TABLE].lines()
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
async def real_client() -> AsyncIterator[Client]:
    """A client of the session's real server: the one at DEDUPE_TEMPORAL_ADDRESS, or else a dev server."""
    if address := os.environ.get("DEDUPE_TEMPORAL_ADDRESS"):
        yield await Client.connect(address, data_converter=pydantic_data_converter)
        return
    async with dev_server() as client:
        yield client


@pytest.fixture(scope="module")
async def skipping_client() -> AsyncIterator[Client]:
    """A client of a server that skips time.

    One for each module: the server stops skipping for good once an activity is cancelled while an attempt of
    it runs, deduplicated or not.
    """
    async with time_skipping_server() as client:
        yield client


@asynccontextmanager
async def making(client: Client, *, skips_time: bool) -> AsyncGenerator[Grounds]:
    """Lend grounds to a test; at its end, all that happened there must replay."""
    made: list[Ground] = []

    def make(**settings: Any) -> Ground:
        made.append(Ground.on(client, skips_time=skips_time, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for ground in made:
            await ground.close()
    for ground in made:
        await ground.replay()


@pytest.fixture
async def real_grounds(real_client: Client) -> AsyncIterator[Grounds]:
    """Make grounds with settings of one's own, on the real server."""
    async with making(real_client, skips_time=False) as make:
        yield make


@pytest.fixture
def real(real_grounds: Grounds) -> Ground:
    """A ground on the real server."""
    return real_grounds()


@pytest.fixture
async def skipping(skipping_client: Client) -> AsyncIterator[Ground]:
    """A ground on the server that skips time."""
    async with making(skipping_client, skips_time=True) as make:
        yield make()


@pytest.fixture(scope="session")
async def virtual_client() -> AsyncIterator[Client]:
    """A client of a real server on which each workflow it starts has a clock of its own, which skips time."""
    async with virtual_time_server() as client:
        yield client


@pytest.fixture(params=["time-skipping", "virtual-time", "dev-server"])
def server(request: pytest.FixtureRequest) -> tuple[Client, bool]:
    """Each of the servers, and whether it is the one whose single time skips."""
    if request.param == "virtual-time":
        return request.getfixturevalue("virtual_client"), False
    if request.param == "time-skipping":
        return request.getfixturevalue("skipping_client"), True
    return request.getfixturevalue("real_client"), False


@pytest.fixture
async def grounds(server: tuple[Client, bool]) -> AsyncIterator[Grounds]:
    """Make grounds with settings of one's own, on each of the two servers."""
    client, skips_time = server
    async with making(client, skips_time=skips_time) as make:
        yield make


@pytest.fixture
def ground(grounds: Grounds) -> Ground:
    """A ground on each of the two servers."""
    return grounds()


@pytest.fixture(params=[100, 0], ids=["cached", "uncached"])
def cached_or_not(grounds: Grounds, request: pytest.FixtureRequest) -> Ground:
    """A ground on each of the two servers, with workflows kept in memory, and without."""
    return grounds(max_cached_workflows=request.param)

"""The SDK's second kind of time skipping: a real server, where each workflow has a clock of its own."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from tests.conftest import making
from tests.support.ground import Ground
from tests.support.scripts import Call, returned

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def virtual(virtual_client: Client) -> AsyncIterator[Ground]:
    """A ground on that server."""
    async with making(virtual_client, skips_time=False) as make:
        yield make()


async def test_days_pass_in_no_time(virtual: Ground) -> None:
    """A job's timers and the back-off of its activities are skipped, plain and with a key."""
    virtual.effects.then(*[ApplicationError("not yet")] * 4, "there", "there")
    began = time.monotonic()
    async with virtual.worker():
        for key in (None, "key"):
            again = Call(key=key, after=30 * DAY, attempts=5, backoff=HOUR)
            assert (await virtual.call(again)).value == "there"
            if key is None:
                assert len(virtual.effects.attempts) == 5
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("wait", [0 * DAY, 30 * DAY], ids=["now", "in-a-month"])
async def test_a_record_lasts_as_long_as_its_job_says(virtual: Ground, wait: timedelta) -> None:
    """By the clock of the job that calls, a record is there until its TTL is over, and then no more."""
    async with virtual.worker():
        first = Call(argument="first", ttl=2 * HOUR, after=wait or None)
        at_once = Call(argument="second", ttl=2 * HOUR)
        soon = Call(argument="third", ttl=2 * HOUR, after=HOUR)
        late = Call(argument="fourth", ttl=2 * HOUR, after=3 * HOUR)
        ends = await virtual.script([first], [at_once], [soon], [late])
    assert [end for [end] in ends] == [returned("first")] * 3 + [returned("fourth")]

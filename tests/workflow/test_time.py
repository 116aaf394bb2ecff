"""Months and hours pass in seconds, with a user's own plain time-skipping environment."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from dedupe import DedupePlugin
from tests.support.effects import Effects
from tests.support.ground import Ground
from tests.support.scripts import Call, Script, returned
from tests.support.servers import binary

MONTH = timedelta(days=30)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["client", "worker"])
async def users_own(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Client, Effects]]:
    """What a user's tests have: a plain environment, and the plugin on its client or on the worker only."""
    plugin = DedupePlugin(organization="acme", project="web")
    on_client = request.param == "client"
    effects = Effects()
    async with (
        await WorkflowEnvironment.start_time_skipping(
            data_converter=pydantic_data_converter,
            plugins=[plugin] if on_client else [],
            test_server_existing_path=binary("temporal-test-server"),
        ) as environment,
        Worker(
            environment.client,
            task_queue="jobs",
            workflows=[Script],
            activities=[effects.effect],
            plugins=[] if on_client else [plugin],
        ),
    ):
        yield environment.client, effects


async def run(client: Client, job: str, *steps: Call) -> list[object]:
    """Run a job that makes these calls one after the other; return what they returned."""
    async with asyncio.timeout(20):
        ends = await client.execute_workflow(
            Script.run, [[step] for step in steps], id=job, task_queue="jobs"
        )
    return [ended.value for [ended] in ends]


async def test_a_ttl_of_a_month_passes_in_seconds(users_own: tuple[Client, Effects]) -> None:
    """Within the month the result is reused, after it the call executes; also by another job."""
    client, effects = users_own
    call = Call(argument="first", ttl=MONTH)
    assert await run(
        client,
        "one",
        call,
        Call(argument="second", after=MONTH - HOUR, ttl=MONTH),
        Call(argument="third", after=2 * HOUR, ttl=MONTH),
        Call(argument="fourth", after=MONTH - HOUR, ttl=MONTH),
    ) == ["first", "first", "third", "third"]
    assert await run(client, "two", Call(argument="fifth", after=2 * HOUR, ttl=MONTH)) == ["fifth"]
    assert effects.arguments == ["first", "third", "fifth"]


async def test_back_offs_of_an_hour_pass_in_seconds(users_own: tuple[Client, Effects]) -> None:
    """An execution that fails three times and backs off for an hour each is one execution."""
    client, effects = users_own
    effects.then(*(ApplicationError("not yet") for _ in range(3)))
    call = Call(argument="patience", attempts=5, backoff=HOUR)
    assert await run(client, "one", call, Call()) == ["patience", "patience"]
    assert [attempt.attempt for attempt in effects.attempts] == [1, 2, 3, 4]
    assert len(set(effects.idempotency_keys)) == 1


async def test_duplicates_share_an_execution_that_backs_off(users_own: tuple[Client, Effects]) -> None:
    """Calls made hours into an execution's back-off wait for it, with time skipped."""
    client, effects = users_own
    effects.then(*(ApplicationError("not yet") for _ in range(3)))
    calls = [
        Call(argument="first", attempts=5, backoff=3 * HOUR),
        Call(argument="second", after=HOUR),
        Call(argument="third", after=4 * HOUR),
    ]
    async with asyncio.timeout(20):
        [ends] = await client.execute_workflow(Script.run, [calls], id="one", task_queue="jobs")
    assert ends == [returned("first")] * 3
    assert len(effects.attempts) == 4


async def test_an_outcome_without_a_ttl_is_kept_for_years(users_own: tuple[Client, Effects]) -> None:
    """Without a TTL an outcome is kept, however much time passes."""
    client, _ = users_own
    year = timedelta(days=365)
    calls = [Call(argument="first"), Call(after=5 * year), Call(after=3 * year)]
    assert await run(client, "one", *calls) == ["first"] * 3


async def test_a_failure_outlives_its_retries_with_a_ttl(skipping: Ground) -> None:
    """The TTL counts from settlement, not from the first attempt."""
    skipping.effects.then(ApplicationError("not yet"), ApplicationError("never", non_retryable=True))
    async with skipping.worker():
        [[failed], [within], [after]] = await skipping.script(
            Call(attempts=5, backoff=5 * HOUR, ttl=10 * HOUR, skip_failure=True),
            Call(after=HOUR, skip_failure=True),
            Call(argument="after", after=10 * HOUR, skip_failure=True),
        )
    assert (failed.message, failed.reused) == ("never", False)
    assert (within.message, within.reused) == ("never", True)
    assert after == returned("after")


async def test_an_execution_may_last_for_days(skipping_client: Client) -> None:
    """Callers wait for days, and their histories do not grow with it."""
    ground = Ground.on(skipping_client, skips_time=True, wait_slice=timedelta(minutes=1))
    ground.effects.then(*(ApplicationError("not yet") for _ in range(10)))
    async with ground.worker():
        jobs = [await ground.start_script(Call(attempts=0, backoff=12 * HOUR)) for _ in range(3)]
        ends = [await job.result() for job in jobs]
        first = await jobs[0].describe()
        lengths = [len((await ground.history(job)).events) for job in jobs]
    assert ends == [[[returned("argument")]]] * 3
    assert [attempt.attempt for attempt in ground.effects.attempts] == [*range(1, 12)]
    # Not the server's own time: it leaps ahead once what is awaited has closed.
    assert first.close_time is not None
    assert timedelta(days=5) <= first.close_time - first.start_time < timedelta(days=10)
    assert max(lengths) <= 15
    await ground.replay()

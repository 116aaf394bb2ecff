"""The kit for users' own tests, used as they would use it."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import dedupe
import dedupe.testing
from dedupe import CallAnswer, DidNotHappen, Happened, KeyState
from dedupe.testing import DedupeEnvironment
from dedupe.testing.environment import found_server
from dedupe.testing.fixtures import environment_fixture

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

sent: list[int] = []
gate = asyncio.Event()


@activity.defn
async def send(user: int) -> str:
    """Send something, and say which one it is."""
    sent.append(user)
    return f"message {len(sent)} for user {user}"


@activity.defn
async def flaky(user: int) -> str:
    """Fail at the first two attempts."""
    if activity.info().attempt < 3:
        raise ApplicationError("not yet")
    return await send(user)


@workflow.defn
class Welcome:
    """Sends a message once in thirty days."""

    @workflow.run
    async def run(self, user: int, wait: float = 0, activity_name: str = "send") -> str:
        """Wait, and call the activity."""
        if wait:
            await workflow.sleep(wait)
        answer = await dedupe.execute_activity(
            activity_name,
            user,
            result_type=str,
            deduplication_key=f"welcome-{user}",
            deduplication_ttl=30 * DAY,
            start_to_close_timeout=timedelta(seconds=30),
            schedule_to_close_timeout=7 * DAY,
            retry_policy=RetryPolicy(initial_interval=HOUR, backoff_coefficient=1),
            skip_failure=user < 0,
        )
        return str(answer) if isinstance(answer, str) else f"{answer.type}: {answer.message}"


@activity.defn
async def wait_for_gate() -> None:
    """Wait until the test opens the gate."""
    await gate.wait()


@workflow.defn
class Gated:
    """Goes through the gate, and waits for a day."""

    @workflow.run
    async def run(self) -> None:
        """Do so."""
        await workflow.execute_activity(wait_for_gate, start_to_close_timeout=timedelta(seconds=30))
        await workflow.sleep(DAY)


@workflow.defn
class Asserting:
    """Asserts something that does not hold."""

    @workflow.run
    async def run(self) -> None:
        """Assert it."""
        assert workflow.info().attempt > 1, "the first attempt"


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    """Begin with nothing sent."""
    sent.clear()


def kit(**options: Any) -> Any:
    """Return the environment of these jobs."""
    return dedupe.testing.environment(
        workflows=[Welcome, Gated, Asserting], activities=[send, flaky, wait_for_gate], **options
    )


async def test_a_record_with_a_ttl_lasts_as_long_as_it_says() -> None:
    """However many jobs are awaited, time moves by what the test says."""
    async with kit() as dd:
        answers = [await dd.run(Welcome.run, 1) for _ in range(8)]
        assert set(answers) == {"message 1 for user 1"}
        await dd.sleep(29 * DAY)
        assert await dd.run(Welcome.run, 1) == "message 1 for user 1"
        dd.assert_executed_once("welcome-1")
        await dd.sleep(2 * DAY)
        assert await dd.run(Welcome.run, 1) == "message 2 for user 1"
        assert dd.executions("welcome-1") == 2
        await dd.expire("welcome-1")
        assert await dd.record("welcome-1") is None


async def test_time_moves_by_what_jobs_wait_for_and_no_further() -> None:
    """A job's own timers, and the back-off of its activities, take no time, and nothing leaps beyond."""
    async with kit() as dd:
        began = await dd.now()
        assert await dd.run(Welcome.run, 1, 3 * 86_400) == "message 1 for user 1"
        assert timedelta(0) <= await dd.now() - began - 3 * DAY < timedelta(seconds=20)
        assert await dd.run(Welcome.run, 2, 0, "flaky") == "message 2 for user 2"
        # A call that waits learns of the end up to a quarter of that time later.
        assert timedelta(0) <= await dd.now() - began - 3 * DAY - 2 * HOUR < timedelta(minutes=31)


async def test_jobs_go_on_while_the_test_sleeps() -> None:
    """A job that nobody awaits goes on by the time that the test moves, to its end."""
    async with kit() as dd:
        job = await dd.start(Welcome.run, 1, 3_600)
        await dd.sleep(timedelta(minutes=59))
        assert sent == []
        began = time.monotonic()
        await dd.sleep(timedelta(minutes=2))
        assert await job.result() == "message 1 for user 1"
        assert time.monotonic() - began < 10
        assert [event.event_type for event in (await job.fetch_history()).events].count(
            EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        ) == 0


async def test_a_job_that_has_ended_moves_no_time() -> None:
    """Its result may be asked for again, and much later: nothing leaps ahead meanwhile."""
    async with kit() as dd:
        job = await dd.start(Welcome.run, 1, 3_600)
        await dd.sleep(2 * HOUR)
        before = await dd.now()
        for _ in range(5):
            assert await job.result() == "message 1 for user 1"
        assert await dd.now() - before < timedelta(seconds=20)
        again = await dd.start(Welcome.run, 1, 86_400, id=job.id)
        assert await again.result() == "message 1 for user 1"
        assert timedelta(0) <= await dd.now() - before - DAY < timedelta(seconds=20)


async def test_one_that_stops_awaiting_a_job_stops_no_other() -> None:
    """Time moves as long as anybody awaits the job."""
    gate.clear()
    async with kit() as dd:
        job = await dd.start(Gated.run)
        patient = asyncio.ensure_future(job.result())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.result(), 0.3)
        with pytest.raises(RuntimeError, match="while a job is awaited"):
            await dd.sleep(DAY)
        gate.set()
        await asyncio.wait_for(patient, 20)


async def test_a_job_that_is_retried_is_awaited_to_its_end() -> None:
    """Time goes on to move between the runs of a job with a retry policy."""
    async with kit() as dd:
        policy = RetryPolicy(initial_interval=DAY, maximum_attempts=3)
        began = await dd.now()
        job = await dd.start(Asserting.run, retry_policy=policy)
        await asyncio.wait_for(job.result(), 20)
        assert await dd.now() - began >= DAY


kit_fixture = environment_fixture(workflows=[Welcome], activities=[send])
elsewhere = environment_fixture(workflows=[Welcome], activities=[send], loop_scope="function")


@pytest.mark.parametrize("user", [1, 2])
async def test_the_environment_is_a_fixture(kit_fixture: DedupeEnvironment, user: int) -> None:
    """Each test that asks for it has one of its own."""
    await kit_fixture.run(Welcome.run, user)
    assert [call.key for call in kit_fixture.calls] == [f"welcome-{user}"]
    assert [record.key async for record in kit_fixture.keys.list()] == [f"welcome-{user}"]


async def test_a_fixture_on_another_loop_says_so(elsewhere: DedupeEnvironment) -> None:
    """Its worker would stand still for as long as the test waits."""
    with pytest.raises(RuntimeError, match="give its fixture the loop_scope of the test"):
        await elsewhere.run(Welcome.run, 1)


async def test_keys_are_listed() -> None:
    """Those of calls and those that were given, executing ones too; since when is the server's time."""
    async with dedupe.testing.environment(workflows=[Welcome], activities=[send]) as dd:
        await dd.run(Welcome.run, 1)
        await dd.sleep(DAY)
        later = await dd.now()
        await dd.given("page-7", activity=send, failed=ApplicationError("no"))
        await dd.given("page-8", activity=send, executing=True)
        listed = {record.key: record.state async for record in dd.keys.list()}
        assert listed == {
            "welcome-1": KeyState.SUCCEEDED,
            "page-7": KeyState.FAILED,
            "page-8": KeyState.EXECUTING,
        }
        assert {record.key async for record in dd.keys.list(since=later)} == {"page-7", "page-8"}
        assert [record.key async for record in dd.keys.list(until=later)] == ["welcome-1"]
        assert await dd.keys.has_any()


async def test_jobs_run_at_once() -> None:
    """Jobs that are awaited together share executions, and none of their activities times out."""
    async with kit() as dd:
        answers = await asyncio.gather(
            *(dd.run(Welcome.run, number % 5, 60 * number) for number in range(30)),
            *(dd.run(Welcome.run, 10 + number, 0, "flaky") for number in range(3)),
        )
        assert len(set(answers)) == 8
        assert sorted(sent) == [0, 1, 2, 3, 4, 10, 11, 12]
        for user in (0, 1, 2, 3, 4, 10, 11, 12):
            dd.assert_executed_once(f"welcome-{user}")


async def test_what_was_not_executed_once_is_told() -> None:
    """The message of the assertion lists the calls with the key, or the keys that there are."""
    async with kit() as dd:
        handle = await dd.start(Welcome.run, 1, id="first")
        await handle.result()
        await dd.forget("welcome-1")
        await dd.run(Welcome.run, 1, id="second")
        twice = (
            r"'welcome-1' was executed 2 times. Its calls: executed \(job first\), executed \(job second\)"
        )
        with pytest.raises(AssertionError, match=twice):
            dd.assert_executed_once("welcome-1")
        with pytest.raises(
            AssertionError, match=r"0 times. Its calls: none; there are calls with \['welcome-1'\]"
        ):
            dd.assert_executed_once("welcome-2")


@pytest.mark.parametrize("converter", [None, pydantic_data_converter], ids=["default", "pydantic"])
async def test_keys_can_be_given(converter: Any) -> None:
    """A key that succeeded, failed, or is being executed: by whom, the job under test need not know."""
    options = {} if converter is None else {"data_converter": converter}
    async with kit(**options) as dd:
        await dd.given("welcome-1", activity=send, succeeded="an old message", ttl=DAY)
        assert await dd.run(Welcome.run, 1) == "an old message"
        await dd.sleep(DAY)
        assert await dd.run(Welcome.run, 1) == "message 1 for user 1"

        await dd.given("welcome--1", activity="send", failed=ApplicationError("no such user", type="Gone"))
        assert await dd.run(Welcome.run, -1) == "Gone: no such user"

        await dd.given("welcome-3", activity=send, executing=True)
        job = await dd.start(Welcome.run, 3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(job.result())), 1)
        await dd.finish("welcome-3", succeeded="theirs")
        assert await job.result() == "theirs"
        assert [call.answer for call in dd.calls] == [
            CallAnswer.REUSED,
            CallAnswer.EXECUTED,
            CallAnswer.FAILED,
            CallAnswer.JOINED,
        ]
    assert sent == [1]


async def test_a_key_can_be_given_as_held() -> None:
    """Jobs wait until the test says what happened; what did not happen, one of them executes."""
    async with kit() as dd:
        for finding, expected in (
            (Happened("an old message"), "an old message"),
            (DidNotHappen(), "message 1 for user 2"),
        ):
            user = 1 if isinstance(finding, Happened) else 2
            await dd.given(f"welcome-{user}", activity=send, held=True, ttl=DAY)
            job = await dd.start(Welcome.run, user)
            record = await dd.record(f"welcome-{user}")
            assert record is not None
            assert record.state is KeyState.HELD
            await dd.resolve(f"welcome-{user}", finding)
            assert await job.result() == expected
    assert sent == [2]


async def test_keys_of_all_scopes_can_be_given() -> None:
    """A key of one job, and of the organization."""
    async with kit() as dd:
        await dd.given("key", activity=send, succeeded=1, scope=dedupe.Scope.JOB, job="Welcome")
        await dd.given("key", activity=send, succeeded=2, scope=dedupe.Scope.ORGANIZATION)
        found = await dd.record("key", scope=dedupe.Scope.JOB, job="Welcome")
        assert found is not None
        assert found.result_json == "1"
        assert await dd.record("key") is None


async def test_mistakes_are_told() -> None:
    """What cannot be set up is refused, with a reason."""
    async with kit() as dd:
        with pytest.raises(ValueError, match="give one of succeeded"):
            await dd.given("key", activity=send)
        with pytest.raises(ValueError, match="give one of succeeded"):
            await dd.finish("key")
        with pytest.raises(ValueError, match="'key' was not given as executing"):
            await dd.finish("key", succeeded=1)
        with pytest.raises(ValueError, match="no record that expires"):
            await dd.expire("key")


async def test_time_is_moved_by_one_hand() -> None:
    """While a key is given as executing time stands still, and the test is told so."""
    async with kit() as dd:
        await dd.given("welcome-1", activity=send, executing=True)
        awaited = asyncio.ensure_future(dd.run(Welcome.run, 1, id="waiting"))
        await asyncio.sleep(0.2)
        with pytest.raises(
            RuntimeError, match="time stands still while a key is executing: finish welcome-1"
        ):
            await dd.sleep(DAY)
        await dd.finish("welcome-1", succeeded="theirs")
        assert await awaited == "theirs"
        await dd.sleep(DAY)


async def test_a_failed_assertion_fails_the_job() -> None:
    """It would fail its workflow task over and over otherwise."""
    async with kit() as dd:
        with pytest.raises(WorkflowFailureError) as failed:
            await dd.run(Asserting.run)
    assert "the first attempt" in str(failed.value.cause)


async def test_two_arguments_under_one_key_can_be_refused() -> None:
    """The strict mode finds keys that are too short."""
    async with kit(plugin_options={"on_mismatch": "raise"}) as dd:
        await dd.run(Welcome.run, 1)
        await dd.given("welcome-2", activity=send, succeeded="without an argument")
        with pytest.raises(WorkflowFailureError) as failed:
            await dd.run(Welcome.run, 2)
    assert "other arguments" in str(failed.value.cause)


async def test_calls_can_be_plain() -> None:
    """With `passthrough` in place of the plugin, each call executes, and a failure comes as it would."""
    async with (
        await WorkflowEnvironment.start_time_skipping(test_server_existing_path=found_server()) as server,
        Worker(
            server.client,
            task_queue="plain",
            workflows=[Welcome],
            activities=[send],
            plugins=[dedupe.testing.passthrough()],
        ),
    ):
        for number in (1, 2):
            answer = await server.client.execute_workflow(
                Welcome.run, args=[1], id=f"plain-{number}", task_queue="plain"
            )
            assert answer == f"message {number} for user 1"
        failed: str = await server.client.execute_workflow(
            Welcome.run, args=[-1, 0, "unknown"], id="failing", task_queue="plain"
        )
        assert failed.startswith("NotFoundError: ")

"""Calls from outside of jobs, and keys that activities declare."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.exceptions import ActivityError, ApplicationError

import dedupe
from dedupe import (
    DedupeClient,
    DeduplicationConflictError,
    FailedResult,
    Happened,
    InvalidCallError,
    InvalidDeduplicationKeyError,
    KeyState,
    Scope,
)
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned

with workflow.unsafe.imports_passed_through():
    from tests.support.codecs import EncryptionCodec

SECOND = timedelta(seconds=1)


@dataclass
class User:
    """Somebody to be welcomed."""

    id: int
    name: str


SENT: list[str] = []


def key_of(user: User) -> str:
    """Return the key of a user's message."""
    return f"welcome-{user.id}"


@dedupe.keyed(key_of, deduplication_ttl=timedelta(days=30))
@activity.defn
async def welcome(user: User) -> User:
    """Send a message."""
    SENT.append(user.name)
    return user


@activity.defn
async def refuse() -> None:
    """Fail for good."""
    raise ApplicationError("not today", type="Refused", non_retryable=True)


@workflow.defn
class WelcomeJob:
    """Welcomes a user, by the key that the activity declares, unless another one is given."""

    @workflow.run
    async def run(self, user: User, key: str | None) -> User:
        """Return what the activity returned."""
        if key is not None:
            return await dedupe.execute_activity(
                welcome, user, deduplication_key=key, start_to_close_timeout=SECOND
            )
        return await dedupe.execute_activity(welcome, user, start_to_close_timeout=SECOND)


@workflow.defn
class KeylessJob:
    """Calls by the activity's name, which declares nothing."""

    @workflow.run
    async def run(self, user: Any) -> Any:
        """Return what the activity returned."""
        if user == "by name":
            return await dedupe.execute_activity("welcome", user, start_to_close_timeout=SECOND)
        return await dedupe.execute_activity(welcome, cast("User", user), start_to_close_timeout=SECOND)


@pytest.fixture(autouse=True)
def _nothing_sent() -> None:
    SENT.clear()


def from_outside(ground: Ground) -> DedupeClient:
    """Return a client that needs no plugin."""
    return DedupeClient(ground.server, task_queue=ground.task_queue)


async def test_an_activity_declares_its_key(ground: Ground) -> None:
    """Calls that give none have it, with its scope and TTL; a call's own key wins."""
    ada = User(1, "ada")
    async with ground.worker(workflows=[WelcomeJob], activities=[welcome]):
        for key in (None, None, "another", None):
            assert await ground.run(WelcomeJob.run, args=[ada, key]) == ada
        assert SENT == ["ada", "ada"]
        record = await ground.keys.get("welcome-1")
        assert record is not None
        assert record.expires_at is not None
        assert await ground.state("another") is KeyState.SUCCEEDED


async def test_a_key_that_cannot_be_made_fails_the_call(ground: Ground) -> None:
    """So does a call by name without a key: nothing is executed, and the error says what to do."""
    async with ground.worker(workflows=[KeylessJob], activities=[welcome]):
        with pytest.raises(WorkflowFailureError) as raised:
            await ground.run(KeylessJob.run, {"name": "without an id"})
        assert isinstance(raised.value.cause, ApplicationError)
        assert raised.value.cause.type == InvalidCallError.__name__
        assert "its declared key cannot be made" in raised.value.cause.message
        with pytest.raises(WorkflowFailureError) as raised:
            await ground.run(KeylessJob.run, "by name")
        assert isinstance(raised.value.cause, ApplicationError)
        assert raised.value.cause.type == InvalidDeduplicationKeyError.__name__
        assert "dedupe.keyed" in raised.value.cause.message
    assert SENT == []


async def test_a_call_from_outside_shares_the_record_of_jobs(ground: Ground) -> None:
    """A process without a job gets the result of jobs, and they get its."""
    outside = from_outside(ground)
    async with ground.worker():
        assert await ground.call(Call(argument="of a job")) == returned("of a job")
        again = await outside.execute_activity(
            "effect", "from outside", deduplication_key="key", start_to_close_timeout=SECOND
        )
        assert again == "of a job"
        first = await outside.execute_activity(
            "effect", "from outside", deduplication_key="other", start_to_close_timeout=SECOND
        )
        assert first == "from outside"
        assert await ground.call(Call(key="other")) == returned("from outside")
    assert ground.effects.arguments == ["of a job", "from outside"]


async def test_many_calls_from_outside_at_once(ground: Ground) -> None:
    """Twenty requests for one key are one execution; results are of the activity's type."""
    outside = from_outside(ground)
    async with ground.worker(activities=[welcome]):
        users = await asyncio.gather(
            *(
                outside.execute_activity(welcome, User(2, "bob"), start_to_close_timeout=SECOND)
                for _ in range(20)
            )
        )
    assert users == [User(2, "bob")] * 20
    assert SENT == ["bob"]


async def test_a_handle_from_outside(ground: Ground) -> None:
    """It is there before the call has ended, and names the job that makes it."""
    gate = ground.effects.close()
    async with ground.worker():
        handle = await from_outside(ground).start_activity(
            "effect",
            7,
            deduplication_key="key",
            result_type=int,
            summary="for the web handler, " * 50,
            start_to_close_timeout=SECOND * 60,
        )
        await ground.effects.seen(1)
        assert (await handle.job.describe()).status is not None
        gate.set()
        assert await handle.result() == 7


async def test_failures_reach_the_outside(ground: Ground) -> None:
    """As a job would have them: raised, or with skip_failure returned."""
    outside = from_outside(ground)
    async with ground.worker(activities=[refuse]):
        with pytest.raises(ActivityError) as raised:
            await outside.execute_activity(refuse, deduplication_key="key", start_to_close_timeout=SECOND)
        assert isinstance(raised.value.cause, ApplicationError)
        assert raised.value.cause.type == "Refused"
        failed = await outside.execute_activity(
            refuse, deduplication_key="key", skip_failure=True, start_to_close_timeout=SECOND
        )
        assert isinstance(failed, FailedResult)
        assert (failed.type, failed.message, failed.reused) == ("Refused", "not today", True)
        with pytest.raises(DeduplicationConflictError):
            await outside.execute_activity(
                "effect", 1, deduplication_key="key", start_to_close_timeout=SECOND
            )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start_to_close_timeout": SECOND, "task_queue": "other"}, "task_queue cannot be given"),
        ({"start_to_close_timeout": SECOND, "activity_id": "a"}, "activity_id cannot be given"),
        ({"start_to_close_timeout": SECOND, "deduplicaton_ttl": None}, "deduplicaton_ttl cannot be given"),
        ({"start_to_close_timeout": "soon"}, "start_to_close_timeout"),
        ({"start_to_close_timeout": SECOND, "deduplication_scope": Scope.JOB}, "jobs of one type"),
        ({"start_to_close_timeout": SECOND, "on_unknown": "wait"}, 'give "repeat" or "hold"'),
        ({}, "it has no time-out"),
    ],
)
async def test_what_cannot_be_called_from_outside(
    ground: Ground, options: dict[str, Any], reason: str
) -> None:
    """The error names the key and says what is wrong; nothing is executed."""
    async with ground.worker():
        with pytest.raises(InvalidCallError, match="'key'") as raised:
            await from_outside(ground).execute_activity("effect", 1, deduplication_key="key", **options)
    assert reason in raised.value.message
    assert ground.effects.attempts == []


async def test_a_call_from_outside_without_a_key(ground: Ground) -> None:
    """It is refused by the job that would make it, as any other."""
    async with ground.worker():
        with pytest.raises(InvalidDeduplicationKeyError):
            await from_outside(ground).execute_activity("effect", 1, start_to_close_timeout=SECOND)


async def test_a_held_call_from_outside(real: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may have happened is not repeated there either."""
    monkeypatch.setattr("dedupe.model.record.MARGIN", timedelta(0))
    real.effects.close()
    async with real.worker():
        handle = await from_outside(real).start_activity(
            "effect", 1, deduplication_key="key", on_unknown="hold", start_to_close_timeout=SECOND
        )
        await real.reached(KeyState.HELD)
        await real.keys.resolve("key", Happened("by hand"))
        assert await handle.result() == "by hand"
    assert len(real.effects.attempts) == 1


async def test_a_call_from_outside_is_encrypted(real_grounds: Grounds) -> None:
    """Arguments and results go through the client's codec, whole."""
    codec = EncryptionCodec(b"k" * 32)
    ground = real_grounds(client_config={"data_converter": real_converter(codec)})
    outside = DedupeClient(ground.client, task_queue=ground.task_queue)
    async with ground.worker():
        result = await outside.execute_activity(
            "effect", "secret", deduplication_key="key", start_to_close_timeout=SECOND
        )
    assert result == "secret"
    [record] = [record async for record in ground.keys.list()]
    job = await ground.server.get_workflow_handle(record.started_by).fetch_history()
    assert b"secret" not in b"".join(event.SerializeToString() for event in job.events)


def real_converter(codec: EncryptionCodec) -> DataConverter:
    """Return a data converter with a codec."""
    return replace(pydantic_data_converter, payload_codec=codec)

"""Keys from outside: get, list and forget, in every state; and forgetting while others claim."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from dedupe import DedupeKeys, InvalidDeduplicationKeyError, KeyRecord, KeyState, Scope
from dedupe.errors import KeyChangedError, KeyExecutingError
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned
from tests.support.waiting import until

HOUR = timedelta(hours=1)


async def test_an_absent_key_has_no_record(ground: Ground) -> None:
    """Of a key that nobody used there is nothing to get and nothing to forget."""
    assert await ground.keys.get("key") is None
    assert await ground.keys.forget("key") is False
    assert await ground.keys.forget("key", force=True) is False


async def test_an_executing_key_has_a_record(ground: Ground) -> None:
    """While a key executes its record says so, and who began it."""
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script(Call())
        await ground.effects.seen(1)
        record = await ground.keys.get("key")
        gate.set()
        await job.result()
    assert record is not None
    assert (record.key, record.state, record.activity) == ("key", KeyState.EXECUTING, "effect")
    assert (record.generation, record.idempotency_key) == (1, ground.effects.idempotency_keys[0])
    assert (record.started_by, record.workflow_id) == (job.id, ground.key_id())
    assert (record.settled_at, record.expires_at, record.result_json, record.failure) == (None,) * 4


async def test_a_succeeded_key_has_a_record(ground: Ground) -> None:
    """The record of a success holds the result as JSON, and the times."""
    # The server that skips time leaps ten years when a job is over.
    ttl = 90 * timedelta(days=365)
    async with ground.worker():
        await ground.call(Call(argument={"a": [1, None]}, ttl=ttl))
        record = await ground.keys.get("key")
    assert record is not None
    assert record.state is KeyState.SUCCEEDED
    assert record.result_json == '{"a":[1,null]}'
    assert record.failure is None
    assert record.settled_at is not None
    assert record.started_at <= record.settled_at
    assert record.expires_at == record.settled_at + ttl
    assert record.started_at.tzinfo is UTC


async def test_a_failed_key_has_a_record(ground: Ground) -> None:
    """The record of a failure says why, and of which generation."""
    ground.effects.then(*(ApplicationError(f"no {n}", type="Refused") for n in (1, 2)))
    async with ground.worker():
        await ground.call()
        second = await ground.start_script(Call())
        await second.result()
        record = await ground.keys.get("key")
    assert record is not None
    assert (record.state, record.generation, record.result_json) == (KeyState.FAILED, 2, None)
    assert record.failure is not None
    assert "no 2" in record.failure
    assert record.started_by == second.id


@pytest.mark.parametrize("result", [None, False, 0, "", []])
async def test_a_falsy_result_is_a_result(ground: Ground, result: object) -> None:
    """A falsy result is told from no result."""
    async with ground.worker():
        await ground.call(Call(argument=result))
        record = await ground.keys.get("key")
    assert record is not None
    assert record.result_json == json.dumps(result)


async def test_an_expired_key_has_no_record(ground: Ground) -> None:
    """What has expired is gone for those outside as well."""
    ttl = timedelta(seconds=1) if not ground.skips_time else HOUR
    async with ground.worker():
        await ground.script(Call(ttl=ttl), Call(key=None, after=1.5 * ttl))

        async def gone() -> bool:
            return await ground.keys.get("key") is None

        await until(gone)
        assert await ground.keys.forget("key") is False


async def test_keys_are_found_in_their_scope_only(ground: Ground) -> None:
    """A record is got by key and scope, and by job where the scope is one."""
    async with ground.worker():
        await ground.call(Call(scope=Scope.JOB))
    assert await ground.keys.get("key", scope=Scope.JOB, job="Script") is not None
    assert await ground.keys.get("key", scope=Scope.JOB, job="OtherScript") is None
    assert await ground.keys.get("key") is None
    with pytest.raises(InvalidDeduplicationKeyError):
        await ground.keys.get("key", scope=Scope.JOB)
    with pytest.raises(InvalidDeduplicationKeyError):
        await ground.keys.get("")


async def test_an_executing_key_is_forgotten_by_force_only(real: Ground) -> None:
    """A key that executes is not forgotten by mistake; by force it is, and those who wait execute again."""
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script([Call(start_to_close_timeout=timedelta(seconds=5)), Call()])
        await real.effects.seen(1)
        await real.claiming(1)
        with pytest.raises(KeyExecutingError, match="'key'"):
            await real.keys.forget("key")
        assert await real.keys.forget("key", force=True)
        await real.effects.seen(2)
        gate.set()
        assert await job.result() == [[returned("argument")] * 2]
    assert len(real.effects.attempts) == 2
    assert len(set(real.effects.idempotency_keys)) == 2


async def test_an_executing_key_is_not_forgotten_where_time_is_skipped(skipping: Ground) -> None:
    """The same refusal on the server that skips time."""
    gate = skipping.effects.close()
    async with skipping.worker():
        job = await skipping.start_script(Call())
        await skipping.effects.seen(1)
        with pytest.raises(KeyExecutingError):
            await skipping.keys.forget("key")
        gate.set()
        await job.result()
        assert await skipping.keys.forget("key")
        assert await skipping.keys.get("key") is None


async def test_keys_are_listed_by_prefix_and_scope(ground: Ground) -> None:
    """Listing yields the records of one scope whose keys begin with a prefix, and of no other."""
    ground.effects.then("result", ApplicationError("no"))
    async with ground.worker():
        await ground.call(Call(key="a/1"))
        await ground.call(Call(key="a/2"))
        await ground.script([Call(key="a%2F3"), Call(key="b"), Call(key="a/job", scope=Scope.JOB)])

        async def listed() -> bool:
            return len([record async for record in ground.keys.list()]) == 4

        await until(listed)
        found = {record.key: record.state async for record in ground.keys.list(prefix="a/")}
        assert found == {"a/1": KeyState.SUCCEEDED, "a/2": KeyState.FAILED}
        jobs = [record.key async for record in ground.keys.list(scope=Scope.JOB, job="Script")]
        assert jobs == ["a/job"]
        assert [record.key async for record in ground.keys.list(prefix="c")] == []
        assert await ground.keys.forget("a/1")

        async def is_gone() -> bool:
            return [record.key async for record in ground.keys.list(prefix="a/")] == ["a/2"]

        await until(is_gone)


async def test_long_keys_are_listed_and_others_of_the_same_spelling_are_not(ground: Ground) -> None:
    """A prefix may be longer than what is left of a long id, and upper case is another key."""
    long, prefix = "a" * 300, "a" * 200
    async with ground.worker():
        await ground.script([Call(key=long), Call(key=long.upper()), Call(key=f"{'a' * 190}{'b' * 110}")])

        async def listed() -> bool:
            return len([record async for record in ground.keys.list()]) == 3

        await until(listed)
        assert [record.key async for record in ground.keys.list(prefix=prefix)] == [long]
        assert [record.key async for record in ground.keys.list(prefix="A")] == [long.upper()]


async def test_keys_that_are_hidden_have_no_prefix(real_grounds: Grounds) -> None:
    """With a key_secret, records are got by the real key and hold its HMAC; prefixes are refused."""
    ground = real_grounds(key_secret="secret")  # noqa: S106 - a test's secret
    async with ground.worker():
        await ground.call(Call(key="ada@example.com"))
        record = await ground.keys.get("ada@example.com")
        assert record is not None
        assert "ada" not in str(record)
        with pytest.raises(InvalidDeduplicationKeyError):
            await anext(ground.keys.list(prefix="ada"))
        other = DedupeKeys(
            ground.server,
            organization=ground.organization,
            project=ground.project,
            key_secret="other",  # noqa: S106
        )
        assert await other.get("ada@example.com") is None


# ------------------------------------------------------------------------------------------------- races


async def test_forgetting_while_ten_claim_leaves_no_claim_behind(real: Ground) -> None:
    """Forget and claim, again and again at once: each call gets a result that was recorded for the key."""
    async with real.worker():
        job = await real.start_script(
            *[[Call(argument=f"{step}/{number}") for number in range(10)] for step in range(8)]
        )
        forgotten = 0
        while not await _closed(job):
            try:
                forgotten += await real.keys.forget("key")
            except KeyExecutingError:
                await asyncio.sleep(0)
        ends = await job.result()
    assert forgotten
    results = [ended.value for step in ends for ended in step]
    assert set(results) <= set(real.effects.arguments)
    assert real.effects.most_at_once["key"] == 1


async def test_only_what_was_listed_is_forgotten(real: Ground) -> None:
    """A key that was listed as failed and has succeeded since keeps its record, even by force."""
    real.effects.then(ApplicationError("no"), "yes")
    async with real.worker():
        for key in ("key", "other"):
            await real.call(Call(key=key, skip_failure=True))
        failed, other = [await real.keys.get(key) for key in ("key", "other")]
        assert failed is not None
        assert other is not None
        assert await real.call() == returned("argument")
        outcomes = [each async for each in real.keys.forget_each([failed, other], force=True)]
    assert [(each.key, type(each.error), each.was_recorded) for each in outcomes] == [
        ("key", KeyChangedError, False),
        ("other", type(None), True),
    ]
    assert await real.state() is KeyState.SUCCEEDED
    assert await real.state("other") is None


async def test_what_was_recorded_before_is_told(real: Ground) -> None:
    """The latest first: what was forgotten, and what failed and was executed again."""
    real.effects.then(ApplicationError("no", non_retryable=True), "yes", "again")
    async with real.worker():
        await real.call(Call(skip_failure=True))
        assert await real.call() == returned("yes")
        assert await real.keys.forget("key")
        assert await real.call() == returned("again")

        async def told() -> list[KeyRecord] | None:  # visibility lags behind
            found = [each async for each in real.keys.earlier("key")]
            return found if len(found) == 2 else None

        forgotten, failed = await until(told, what="two runs that are over")
    assert (forgotten.state, forgotten.ended) == (KeyState.SUCCEEDED, "forgotten")
    assert (failed.state, failed.ended) == (KeyState.FAILED, "executed again")
    assert (forgotten.result_json, failed.failure) == ('"yes"', "no")
    assert [each async for each in real.keys.earlier("another")] == []


async def test_hidden_keys_that_were_listed_are_forgotten(real_grounds: Grounds) -> None:
    """A record names a hidden key by its HMAC, which is no key to hide again."""
    ground = real_grounds(key_secret="secret")  # noqa: S106 - of a test
    async with ground.worker():
        await ground.call()
    listed = await ground.keys.get("key")
    assert listed is not None
    [outcome] = [each async for each in ground.keys.forget_each([listed])]
    assert outcome.was_recorded
    assert await ground.state() is None


async def _closed(job: WorkflowHandle[Any, Any]) -> bool:
    return (await job.describe()).close_time is not None


async def test_expiry_while_many_claim_leaves_no_claim_behind(real: Ground) -> None:
    """Calls made around the expiry of a key get the old result or execute; none hangs, none fails."""
    ttl = timedelta(milliseconds=300)
    steps = [
        [Call(argument=f"{step}/{number}", ttl=ttl, after=number * ttl / 10) for number in range(12)]
        for step in range(4)
    ]
    started = datetime.now(UTC)
    async with real.worker():
        ends = await real.script(*steps)
    assert {ended.error for step in ends for ended in step} == {None}
    results = {ended.value for step in ends for ended in step}
    assert results == set(real.effects.arguments)
    assert 4 <= len(results) <= 2 + (datetime.now(UTC) - started) / ttl
    assert real.effects.most_at_once["key"] == 1


async def test_a_forget_that_meets_a_rerun_is_refused_or_carried_out(real: Ground) -> None:
    """Forgetting a failed key that is just executed again either refuses or drops it; the caller gets the
    new result either way.
    """
    real.effects.then(ApplicationError("no"))
    async with real.worker():
        await real.call()
        gate = real.effects.close()
        job = await real.start_script(Call(argument="again"))
        await real.effects.seen(2)
        with pytest.raises(KeyExecutingError):
            await real.keys.forget("key")
        gate.set()
        assert await job.result() == [[returned("again")]]

"""Which call gets what: every cell of the table, on both servers, with and without a workflow cache."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from dedupe.model.names import CLAIM
from tests.support.ground import Ground
from tests.support.scripts import Call, Ended, returned

SKIP = pytest.mark.parametrize("skip_failure", [False, True], ids=["raise", "skip"])
SECOND = timedelta(seconds=1)


def refused() -> ApplicationError:
    """Return what an activity fails for good with."""
    return ApplicationError("card refused", type="Refused", non_retryable=True)


def assert_failed(ended: Ended, *, skip_failure: bool, reused: bool = False) -> None:
    """Assert that a call got the failure, in the form it asked for."""
    assert ended.message == "card refused"
    assert ended.activity == "effect"
    assert ended.value is None
    if skip_failure:
        assert (ended.error, ended.failed, ended.reused, ended.key) == (None, "Refused", reused, "key")
    else:
        assert (ended.error, ended.type, ended.failed) == ("ActivityError", "Refused", None)


@SKIP
async def test_an_unknown_key_executes(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """The first call of a key executes, at the cost of one marker and one activity."""
    ground = cached_or_not
    async with ground.worker():
        assert await ground.call(Call(skip_failure=skip_failure)) == returned("argument")
    assert ground.effects.arguments == ["argument"]
    await ground.assert_miss()


@SKIP
async def test_a_success_is_reused(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """A recorded success is the result of every later call, at the cost of one marker."""
    ground = cached_or_not
    async with ground.worker():
        await ground.call(Call(argument="first"))
        for _ in range(2):
            ended = await ground.call(Call(argument="second", skip_failure=skip_failure))
            assert ended == returned("first")
            await ground.assert_hit()
    assert ground.effects.arguments == ["first"]


@SKIP
async def test_a_call_shares_the_success_it_waits_for(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """Calls of a key that is executing wait, and get its result without executing again."""
    ground = cached_or_not
    gate = ground.effects.close()
    async with ground.worker():
        calls = [Call(argument=str(number), skip_failure=skip_failure) for number in range(3)]
        job = await ground.start_script(calls)
        await ground.effects.seen(1)
        await ground.claiming(3, owner=True)
        gate.set()
        [ends] = await job.result()
    assert len(ground.effects.attempts) == 1
    assert ends == [returned(ground.effects.arguments[0])] * 3
    # All three found the key new. In place each tries to take it, and those who come too late wait.
    tried = [] if ground.skips_time else [ground.miss_of()] * 3
    assert await ground.scheduled() == [*tried, *[CLAIM] * (3 - len(tried[:1]))]


@SKIP
async def test_a_call_shares_the_failure_it_waits_for(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """A failure that comes while calls wait is the end of all of them; none executes again."""
    ground = cached_or_not
    gate = ground.effects.close()
    ground.effects.then(refused())
    async with ground.worker():
        job = await ground.start_script([Call(skip_failure=skip_failure)] * 3)
        await ground.effects.seen(1)
        await ground.claiming(3, owner=True)
        gate.set()
        [ends] = await job.result()
    assert len(ground.effects.attempts) == 1
    for ended in ends:
        assert_failed(ended, skip_failure=skip_failure)


@SKIP
async def test_a_first_failure_is_the_callers(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """The call whose execution fails gets the failure: raised, or returned and not marked as reused."""
    ground = cached_or_not
    ground.effects.then(refused())
    async with ground.worker():
        assert_failed(await ground.call(Call(skip_failure=skip_failure)), skip_failure=skip_failure)
    await ground.assert_miss(fails=True)


async def test_a_recorded_failure_is_executed_again(cached_or_not: Ground) -> None:
    """A call made after a failure executes again, as a new generation, with its own arguments."""
    ground = cached_or_not
    ground.effects.then(refused(), refused())
    async with ground.worker():
        assert_failed(await ground.call(Call(argument="first")), skip_failure=False)
        assert_failed(await ground.call(Call(argument="second")), skip_failure=False)
        await ground.assert_miss(fails=True)
        assert await ground.call(Call(argument="third")) == returned("third")
        assert await ground.call(Call(argument="fourth")) == returned("third")
    assert ground.effects.arguments == ["first", "second", "third"]
    assert ground.effects.generations == [1, 2, 3]


async def test_a_recorded_failure_is_reused_where_asked_for(cached_or_not: Ground) -> None:
    """With skip_failure a recorded failure is returned, marked as reused, at the cost of one marker."""
    ground = cached_or_not
    ground.effects.then(refused())
    async with ground.worker():
        await ground.call(Call())
        assert_failed(await ground.call(Call(skip_failure=True)), skip_failure=True, reused=True)
        await ground.assert_hit()
    assert len(ground.effects.attempts) == 1


@SKIP
async def test_a_forgotten_key_executes(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """A call of a forgotten key executes, be what was forgotten a success or a failure."""
    ground = cached_or_not
    ground.effects.then("result", refused())
    async with ground.worker():
        await ground.call(Call(argument="first"))
        assert await ground.keys.forget("key")
        await ground.call(Call(argument="second"))
        assert await ground.keys.forget("key")
        ended = await ground.call(Call(argument="third", skip_failure=skip_failure))
    assert ended == returned("third")
    assert ground.effects.arguments == ["first", "second", "third"]
    assert ground.effects.generations == [1, 1, 1]
    assert len(set(ground.effects.idempotency_keys)) == 3


@SKIP
async def test_an_expired_key_executes(cached_or_not: Ground, *, skip_failure: bool) -> None:
    """A call of a key whose TTL is over executes; one before that does not."""
    ground = cached_or_not
    ttl = SECOND if not ground.skips_time else timedelta(hours=1)
    # A second may be over before the next call, where a second is one.
    before = [Call(argument="second")] if ground.skips_time else []
    async with ground.worker():
        ends = await ground.script(
            Call(argument="first", ttl=ttl),
            *before,
            Call(argument="third", after=1.2 * ttl, skip_failure=skip_failure),
        )
    assert ends == [[returned("first")], *[[returned("first")] for _ in before], [returned("third")]]
    assert ground.effects.arguments == ["first", "third"]


async def test_the_attempts_of_one_execution_are_no_executions(cached_or_not: Ground) -> None:
    """Attempts under the retry policy of the call are one execution, with one idempotency key."""
    ground = cached_or_not
    ground.effects.then(ApplicationError("not yet"), ApplicationError("not yet"))
    async with ground.worker():
        assert await ground.call(Call(attempts=3)) == returned("argument")
    assert [attempt.attempt for attempt in ground.effects.attempts] == [1, 2, 3]
    assert ground.effects.generations == [1, 1, 1]
    assert len(set(ground.effects.idempotency_keys)) == 1


async def test_a_call_without_a_key_is_untouched(ground: Ground) -> None:
    """A plain call is scheduled as it is, each time, and leaves no trace of deduplication."""
    async with ground.worker():
        await ground.script(Call(key=None), Call(key=None))
        assert await ground.scheduled() == ["effect", "effect"]
    assert len(ground.effects.attempts) == 2
    assert ground.effects.idempotency_keys == [None, None]

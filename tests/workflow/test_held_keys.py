"""Unknown outcomes that are held: nothing is repeated until somebody says what happened."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest,
    RespondWorkflowTaskCompletedRequest,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from dedupe import (
    DidNotHappen,
    Happened,
    KeyHeldError,
    KeyNotResolvedError,
    KeyState,
    StillUnknown,
    UnknownOutcomeError,
    current_execution,
)
from dedupe.model.names import CLAIM, TWIN
from dedupe.record.handle import KeyHandle
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned
from tests.support.waiting import until

SHORT = timedelta(seconds=1)
HELD = Call(argument="owner", on_unknown="hold", attempts=5, start_to_close_timeout=SHORT)
OTHER = Call(argument="other")


class Provider:
    """What somebody finds out who asks the provider."""

    def __init__(self) -> None:
        """Begin with nothing to be found."""
        self.asked: list[tuple[Any, str]] = []
        self.answers: deque[Any] = deque()

    def says(self, *answers: Any) -> None:
        """Say what is found, one time after the other: returned, or raised."""
        self.answers.extend(answers)

    @activity.defn
    async def look(self, argument: Any) -> Any:
        """Find out."""
        execution = current_execution()
        assert execution is not None
        self.asked.append((argument, execution.idempotency_key))
        answer = self.answers.popleft()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def provider() -> Provider:
    """A provider that can be asked."""
    return Provider()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts be over when they time out: here workers and servers have the same clock."""
    monkeypatch.setattr("dedupe.model.record.MARGIN", timedelta(0))


async def test_a_time_out_is_held_and_a_person_says_that_it_happened(ground: Ground) -> None:
    """An attempt that timed out is not repeated; all calls wait, and get what a person says."""
    ground.effects.close()
    async with ground.worker():
        jobs = [await ground.start_script(HELD)]
        await ground.effects.seen(1)
        jobs.append(await ground.start_script(OTHER))
        await ground.reached(KeyState.HELD)
        record = await ground.keys.get("key")
        assert record is not None
        assert record.held is not None
        assert record.held_since is not None
        await ground.keys.resolve("key", Happened("by hand"), reason="seen at the provider")
        assert [await job.result() for job in jobs] == [[[returned("by hand")]]] * 2
        assert await ground.call(OTHER) == returned("by hand")
    assert ground.effects.arguments == ["owner"]
    record = await ground.keys.get("key")
    assert record is not None
    assert record.state is KeyState.SUCCEEDED
    assert record.resolution is not None
    assert "seen at the provider" in record.resolution


async def test_a_person_says_that_it_did_not_happen(ground: Ground) -> None:
    """One of the calls that wait executes, under the same idempotency key; the others get its result."""
    ground.effects.close()
    async with ground.worker():
        jobs = [await ground.start_script(HELD)]
        await ground.effects.seen(1)
        jobs.append(await ground.start_script(OTHER))
        await ground.reached(KeyState.HELD)
        ground.effects.gate = None
        await ground.keys.resolve("key", DidNotHappen())
        ends = [await job.result() for job in jobs]
    assert ends in ([[[returned("owner")]]] * 2, [[[returned("other")]]] * 2)
    assert len(ground.effects.attempts) == 2
    assert len(set(ground.effects.idempotency_keys)) == 1


async def test_an_error_is_an_answer(ground: Ground) -> None:
    """What the activity raises is attempted again as in any call, and is recorded as its failure at last."""
    ground.effects.then(ApplicationError("busy"), ApplicationError("busy"), "third time")
    async with ground.worker():
        assert await ground.call(HELD) == returned("third time")
        ground.effects.then(*[ApplicationError("down", type="Down") for _ in range(5)])
        ended = await ground.call(HELD.model_copy(update={"key": "other key"}))
        assert (ended.error, ended.type) == ("ActivityError", "Down")
        assert await ground.state("other key") is KeyState.FAILED
        assert await ground.call(HELD.model_copy(update={"key": "other key"})) == returned("owner")
    assert len(ground.effects.attempts) == 3 + 5 + 1


async def test_an_activity_that_cannot_tell_is_held(ground: Ground, provider: Provider) -> None:
    """What it raises then is no answer; where nobody asked to hold, it is an error like others."""
    ground.effects.then(UnknownOutcomeError("no answer from the provider"))
    provider.says(Happened("found"))
    call = HELD.model_copy(update={"reconcile": "look"})
    async with ground.worker(activities=[provider.look]):
        assert await ground.call(call) == returned("found")
        assert len(ground.effects.attempts) == 1
        ground.effects.then(UnknownOutcomeError("no answer from the provider"), "second time")
        repeated = HELD.model_copy(update={"key": "other key", "on_unknown": None})
        assert await ground.call(repeated) == returned("second time")
    assert len(ground.effects.attempts) == 3
    record = await ground.keys.get("key")
    assert record is not None
    assert record.state is KeyState.SUCCEEDED


async def test_what_cannot_tell_elsewhere_is_held(real_grounds: Grounds) -> None:
    """An activity that the key's workflow schedules says so by the error's type, in any language."""
    ground = real_grounds(in_place=False)
    ground.effects.then(ApplicationError("no answer from the provider", type="UnknownOutcome"))
    async with ground.worker():
        job = await ground.start_script(HELD)
        await ground.reached(KeyState.HELD)
        record = await ground.keys.get("key")
        assert record is not None
        assert "no answer from the provider" in str(record.held)
        await ground.keys.resolve("key", Happened("by hand"))
        assert await job.result() == [[returned("by hand")]]
    assert len(ground.effects.attempts) == 1


async def test_errors_until_there_is_no_time_for_another_attempt_are_a_failure(real: Ground) -> None:
    """The last attempt has failed, and said so."""
    real.effects.then(ApplicationError("down"), ApplicationError("still down"))
    limits = {"schedule_to_close_timeout": timedelta(seconds=3), "backoff": timedelta(seconds=1.5)}
    async with real.worker():
        ended = await real.call(HELD.model_copy(update=limits))
        assert ended.error == "ActivityError"
        assert await real.state() is KeyState.FAILED
        assert len(real.effects.attempts) == 2
        assert await real.call(HELD) == returned("owner")


async def test_the_whole_time_is_over_in_an_attempt_after_errors(real_grounds: Grounds) -> None:
    """What the service says of it holds the error of the attempt before, which is no answer of this one."""
    for in_place in (True, False):
        ground = real_grounds(in_place=in_place)
        ground.effects.then(ApplicationError("down"))
        limits = {"schedule_to_close_timeout": timedelta(seconds=2), "start_to_close_timeout": SHORT * 30}
        async with ground.worker():
            job = await ground.start_script(HELD.model_copy(update=limits))
            await ground.effects.seen(1)
            ground.effects.close()
            [[ended]] = await job.result()
            assert ended.error == "ActivityError"
            assert len(ground.effects.attempts) == 2
            await ground.reached(KeyState.HELD)  # delegated, the key learns of it a moment later


async def test_a_time_out_after_errors_is_held_as_well(ground: Ground, provider: Provider) -> None:
    """A later attempt that times out is no more repeated than a first one."""
    ground.effects.then(ApplicationError("busy"))
    provider.says(Happened("found"))
    call = HELD.model_copy(update={"reconcile": "look"})
    async with ground.worker(activities=[provider.look]):
        job = await ground.start_script(call)
        await ground.effects.seen(1)
        ground.effects.close()
        assert await job.result() == [[returned("found")]]
    assert len(ground.effects.attempts) == 2


@pytest.mark.parametrize("finding", [Happened({"id": 7}), Happened(None)], ids=["a result", "nothing"])
async def test_reconcile_says_that_it_happened(
    ground: Ground, provider: Provider, finding: Happened[Any]
) -> None:
    """The job has its own activity find out, with the call's arguments and the idempotency key."""
    ground.effects.close()
    provider.says(finding)
    call = HELD.model_copy(update={"reconcile": "look"})
    async with ground.worker(activities=[provider.look]):
        assert await ground.call(call) == returned(finding.result)
        assert await ground.call(OTHER) == returned(finding.result)
    assert ground.effects.arguments == ["owner"]
    assert provider.asked == [("owner", ground.effects.idempotency_keys[0])]


async def test_reconcile_says_that_it_did_not_happen(ground: Ground, provider: Provider) -> None:
    """The call executes again, under the same idempotency key."""
    ground.effects.close()
    provider.says(DidNotHappen())
    call = HELD.model_copy(update={"reconcile": "look"})
    async with ground.worker(activities=[provider.look]):
        job = await ground.start_script(call)
        await until_asked(provider, 1)
        ground.effects.gate = None
        assert await job.result() == [[returned("owner")]]
    assert len(ground.effects.attempts) == 2
    assert len(set(ground.effects.idempotency_keys)) == 1


async def test_reconcile_is_asked_again_while_nobody_can_tell(ground: Ground, provider: Provider) -> None:
    """It is asked until it can tell; nothing is executed meanwhile."""
    ground.effects.close()
    provider.says(StillUnknown(), StillUnknown(), Happened("at last"))
    call = HELD.model_copy(update={"reconcile": "look"})
    async with ground.worker(activities=[provider.look]):
        assert await ground.call(call) == returned("at last")
    assert len(provider.asked) == 3
    assert ground.effects.arguments == ["owner"]


async def test_another_call_reconciles(ground: Ground, provider: Provider) -> None:
    """A call that asks for it finds out for all, whoever executed."""
    ground.effects.close()
    provider.says(Happened("found"))
    async with ground.worker(activities=[provider.look]):
        job = await ground.start_script(HELD)
        await ground.reached(KeyState.HELD)
        assert await ground.call(OTHER.model_copy(update={"reconcile": "look"})) == returned("found")
        assert await job.result() == [[returned("found")]]
    assert ground.effects.arguments == ["owner"]


async def test_reconcile_that_fails_fails_the_call(ground: Ground, provider: Provider) -> None:
    """Its error reaches the job, and the key is still held."""
    ground.effects.close()
    provider.says(ApplicationError("not allowed", type="Forbidden", non_retryable=True))
    async with ground.worker(activities=[provider.look]):
        ended = await ground.call(HELD.model_copy(update={"reconcile": "look"}))
        assert (ended.error, ended.type, ended.activity) == ("ActivityError", "Forbidden", "look")
    assert await ground.state() is KeyState.HELD


async def test_reconcile_has_to_return_a_finding(ground: Ground, provider: Provider) -> None:
    """Anything else is an error that says so, and the key is still held."""
    ground.effects.close()
    provider.says("yes")
    async with ground.worker(activities=[provider.look]):
        ended = await ground.call(HELD.model_copy(update={"reconcile": "look"}))
        assert ended.error == "ActivityError"
        assert "Happened(result), DidNotHappen() or StillUnknown()" in (ended.message or "")
    assert await ground.state() is KeyState.HELD


async def test_a_finding_that_does_not_arrive_as_one(
    ground: Ground, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a worker without the plugin: the error does not say that nothing was executed."""

    def encode(finding: object, *, encode: object) -> Payload:
        del finding, encode
        return Payload(data=b"something else")

    monkeypatch.setattr("dedupe.execution.interceptor.encode_finding", encode)
    ground.effects.close()
    provider.says(Happened("lost on the way"))
    async with ground.worker(activities=[provider.look]):
        ended = await ground.call(HELD.model_copy(update={"reconcile": "look"}))
    assert ended.error == "ReconcileError"
    assert "The key is still held" in (ended.message or "")
    assert await ground.state() is KeyState.HELD


async def test_a_call_that_times_out_names_the_state(ground: Ground) -> None:
    """`schedule_to_close_timeout` bounds the wait, and the error says what it waited for."""
    ground.effects.close()
    bounded = {"schedule_to_close_timeout": timedelta(seconds=4)}
    async with ground.worker():
        ended = await ground.call(HELD.model_copy(update=bounded))
        assert (ended.error, ended.type) == ("ActivityError", "SCHEDULE_TO_CLOSE")
        assert "'key' is held, since nobody knows whether its effect happened" in (ended.message or "")
        skipped = await ground.call(OTHER.model_copy(update={**bounded, "skip_failure": True}))
        assert skipped.failed == "TimeoutError"
        assert "is held" in (skipped.message or "")
    assert ground.effects.arguments == ["owner"]


async def test_a_held_key_is_dropped_by_force_only(ground: Ground) -> None:
    """Forgetting it would repeat what may have happened."""
    ground.effects.close()
    async with ground.worker():
        job = await ground.start_script(HELD)
        await ground.reached(KeyState.HELD)
        with pytest.raises(KeyHeldError, match="nobody knows whether its effect happened"):
            await ground.keys.forget("key")
        ground.effects.gate = None
        assert await ground.keys.forget("key", force=True)
        assert await job.result() == [[returned("owner")]]
    assert len(ground.effects.attempts) == 2
    assert len(set(ground.effects.idempotency_keys)) == 2


async def test_only_held_keys_are_resolved(ground: Ground) -> None:
    """Nothing else is changed, and the error says where the key stands."""
    gate = ground.effects.close()
    async with ground.worker():
        with pytest.raises(KeyNotResolvedError, match="nothing is recorded"):
            await ground.keys.resolve("key", DidNotHappen())
        job = await ground.start_script(HELD.model_copy(update={"start_to_close_timeout": SHORT * 60}))
        await ground.effects.seen(1)
        with pytest.raises(KeyNotResolvedError, match="it is executing"):
            await ground.keys.resolve("key", DidNotHappen())
        gate.set()
        await job.result()
        with pytest.raises(KeyNotResolvedError, match="it has succeeded"):
            await ground.keys.resolve("key", Happened("other"))
        assert await ground.call(OTHER) == returned("owner")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"on_unknown": "wait"}, 'give "repeat" or "hold"'),
        ({"on_unknown": "repeat", "reconcile": "look"}, "leave one of them out"),
        ({"reconcile": "effect"}, "is the activity itself"),
        ({"reconcile": ""}, "give an activity"),
    ],
)
async def test_options_that_cannot_be_meant(ground: Ground, options: dict[str, Any], reason: str) -> None:
    """They fail the call, and nothing is executed."""
    async with ground.worker():
        ended = await ground.call(Call.model_construct(**{**Call().model_dump(), **options}))
    assert ended.error == "InvalidCallError"
    assert reason in (ended.message or "")
    assert ground.effects.attempts == []


async def test_caller_and_worker_gone(real: Ground) -> None:
    """Where nobody is left who could tell, the key is held, and not taken over."""
    real.effects.close()
    async with real.worker(graceful_shutdown_timeout=timedelta(0)):
        job = await real.start_script(HELD.model_copy(update={"start_to_close_timeout": SHORT * 2}))
        await real.effects.seen(1)
        await job.terminate()
    async with real.worker():
        heir = await real.start_script(OTHER)
        await real.reached(KeyState.HELD)
        await real.keys.resolve("key", Happened("told"))
        assert await heir.result() == [[returned("told")]]
    assert real.effects.arguments == ["owner"]


async def test_a_worker_that_stops_interrupts_an_attempt(real: Ground) -> None:
    """What it was doing may have happened: the key is held at once."""
    real.effects.close()
    async with real.worker(graceful_shutdown_timeout=timedelta(0)):
        job = await real.start_script(HELD.model_copy(update={"start_to_close_timeout": SHORT * 60}))
        await real.effects.seen(1)
    async with real.worker():
        await real.reached(KeyState.HELD)
        record = await real.keys.get("key")
        assert record is not None
        assert "interrupted" in (record.held or "")
        await real.keys.resolve("key", Happened("told"))
        assert await job.result() == [[returned("told")]]
    assert real.effects.arguments == ["owner"]


async def test_an_attempt_that_is_lost_before_it_holds_the_key(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has happened under it: the call goes on, as a plain one would by another attempt."""
    acquire, lost = KeyHandle.acquire, [True]

    async def lose(key: KeyHandle, *args: Any, **options: Any) -> str | None:
        if lost.pop() if lost else False:
            await asyncio.sleep(60)
        return await acquire(key, *args, **options)

    monkeypatch.setattr(KeyHandle, "acquire", lose)
    async with real.worker(graceful_shutdown_timeout=timedelta(0)):
        assert await real.call(HELD) == returned("owner")
    assert len(real.effects.attempts) == 1


@pytest.mark.parametrize("completes", [True, False])
async def test_an_activity_that_is_completed_from_elsewhere(real: Ground, *, completes: bool) -> None:
    """Its completion is the answer; where it never comes, the key is held."""
    tokens: list[bytes] = []

    @activity.defn(name="later")
    async def later(argument: Any) -> Any:
        del argument
        tokens.append(activity.info().task_token)
        activity.raise_complete_async()

    call = HELD.model_copy(update={"activity": "later", "start_to_close_timeout": 2 * SHORT})
    async with real.worker(activities=[later]):
        job = await real.start_script(call)

        async def has_begun() -> bool:
            return bool(tokens)

        await until(has_begun, what="the attempt")
        if completes:
            await real.client.get_async_activity_handle(task_token=tokens[0]).complete("from elsewhere")
            assert await job.result() == [[returned("from elsewhere")]]
            assert await real.state() is KeyState.SUCCEEDED
        else:
            await real.reached(KeyState.HELD)
            await real.keys.resolve("key", Happened("told"))
            assert await job.result() == [[returned("told")]]
    assert len(tokens) == 1


async def test_a_job_that_was_terminated_between_attempts(real: Ground) -> None:
    """Its last attempt has failed and said so: nothing is unknown, and the next call executes."""
    real.effects.then(ApplicationError("busy"))
    async with real.worker():
        job = await real.start_script(HELD.model_copy(update={"backoff": timedelta(hours=1)}))
        await real.effects.seen(1)

        async def has_failed() -> bool:
            [pending] = (await job.describe()).raw_description.pending_activities
            return int(pending.attempt) == 2

        await until(has_failed, what="the end of the first attempt")
        await job.terminate()
        assert await real.call(OTHER) == returned("other")


async def test_the_lost_attempt_comes_back(real: Ground) -> None:
    """An attempt that was given up and ends after all resolves its key by itself."""
    gate = real.effects.close()
    call = HELD.model_copy(update={"activity": "stubborn"})

    @activity.defn(name="stubborn")
    async def stubborn(argument: Any) -> Any:
        real.effects.attempts.append(argument)
        task = asyncio.ensure_future(gate.wait())
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                continue
        return argument

    async with real.worker(activities=[stubborn]):
        job = await real.start_script(call)
        await real.reached(KeyState.HELD)
        gate.set()
        assert await job.result() == [[returned("owner")]]
    assert len(real.effects.attempts) == 1


async def test_a_run_that_is_ended_from_outside(real: Ground) -> None:
    """An operator who terminates the key's workflow in the middle of an effect repeats nothing."""
    gate = real.effects.close()
    long = {"start_to_close_timeout": timedelta(seconds=3)}
    async with real.worker(graceful_shutdown_timeout=timedelta(0)):
        job = await real.start_script(HELD.model_copy(update=long))
        await real.effects.seen(1)
        await real.key_workflow().terminate("by mistake")
        await job.terminate()
    async with real.worker():
        heir = await real.start_script(OTHER)
        await real.reached(KeyState.HELD)
        gate.set()
        await real.keys.resolve("key", DidNotHappen())
        assert await heir.result() == [[returned("other")]]
    assert len(set(real.effects.idempotency_keys)) == 1


async def test_a_finding_that_shows_late(real_grounds: Grounds) -> None:
    """The service keeps signals back while a worker has the key's workflow task: nobody is told wrong."""
    ground = real_grounds(serve=False)
    ground.effects.close()
    async with ground.worker():
        job = await ground.start_script(HELD)
        await ground.reached(KeyState.HELD)
        async with task_of(ground):
            resolving = asyncio.create_task(ground.keys.resolve("key", Happened("by hand")))
            await asyncio.sleep(0.5)
            assert not resolving.done()
        await resolving
        assert await job.result() == [[returned("by hand")]]


@asynccontextmanager
async def task_of(ground: Ground) -> AsyncGenerator[None]:
    """Have the workflow task of a ground's key in a worker's hands."""
    service, handle = ground.server.workflow_service, ground.key_workflow()
    run_id = (await handle.describe()).run_id
    with suppress(RPCError):
        await ground.key_handle().wake(run_id)
    queue = TaskQueue(name=ground.key_queue)
    task = await service.poll_workflow_task_queue(
        PollWorkflowTaskQueueRequest(namespace=ground.server.namespace, task_queue=queue)
    )
    assert task.workflow_execution.run_id == run_id
    yield
    await service.respond_workflow_task_completed(
        RespondWorkflowTaskCompletedRequest(namespace=ground.server.namespace, task_token=task.task_token)
    )


@pytest.mark.parametrize("in_place", [True, False])
async def test_a_result_that_cannot_be_recorded(real_grounds: Grounds, *, in_place: bool) -> None:
    """The effect has happened, so it is not repeated; the wait says what is wrong."""
    ground = real_grounds(in_place=in_place)
    ground.effects.then("x" * 3_000_000)
    async with ground.worker():
        job = await ground.start_script(HELD.model_copy(update={"start_to_close_timeout": SHORT * 30}))
        await ground.reached(KeyState.HELD)
        await ground.keys.resolve("key", Happened("shorter"), force=True)
        assert await job.result() == [[returned("shorter")]]
    assert len(ground.effects.attempts) == 1


async def test_a_result_that_cannot_be_encoded(real: Ground) -> None:
    """The same, where the payload converter does not take it."""
    real.effects.then(object())
    async with real.worker():
        job = await real.start_script(HELD.model_copy(update={"start_to_close_timeout": SHORT * 30}))
        await real.reached(KeyState.HELD)
        await real.keys.resolve("key", Happened("written"))
        assert await job.result() == [[returned("written")]]
    assert len(real.effects.attempts) == 1


async def test_what_a_held_call_schedules(real: Ground, provider: Provider) -> None:
    """The twin, a claim, the activity that finds out, and a claim that brings the answer."""
    real.effects.close()
    provider.says(Happened("found"))
    async with real.worker(activities=[provider.look]):
        await real.call(HELD.model_copy(update={"reconcile": "look"}))
        assert await real.scheduled() == [f"{TWIN}effect", CLAIM, "look", CLAIM]


async def until_asked(provider: Provider, times: int) -> None:
    """Wait until the provider was asked so often."""

    async def asked() -> bool:
        return len(provider.asked) >= times

    await until(asked, what=f"{times} inquiries")

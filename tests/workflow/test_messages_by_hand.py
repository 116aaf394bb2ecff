"""Messages that somebody else sends to a key, by hand: none of them stops it, or holds it."""

import gc
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from dedupe.claims import claim
from dedupe.model.messages import Plan, Start
from dedupe.model.names import DELEGATED, IN_PLACE, OUTCOME
from dedupe.model.payloads import encode
from tests.support.ends import end_of, stuck
from tests.support.ground import Ground
from tests.support.histories import types
from tests.support.scripts import Call, returned
from tests.support.waiting import until

# The SDK never awaits the run of a workflow whose __init__ raises.
_INIT_RAISES = pytest.mark.filterwarnings(
    "ignore:coroutine '_WorkflowInstanceImpl:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


async def test_a_stranger_signalling_a_key_changes_nothing(ground: Ground) -> None:
    """Signals that no call sent are dropped, whatever they are named and hold; also a second outcome."""
    async with ground.worker():
        await ground.call(Call(argument="first"))
        strange: list[tuple[str, list[Any]]] = [
            ("nothing", []),
            (OUTCOME, ["no message"]),
            (OUTCOME, []),
            (OUTCOME, [{}, {}]),
        ]
        for signal, arguments in strange:
            if not ground.skips_time:  # there the key's workflow has closed
                await ground.key_workflow().signal(signal, args=arguments)
        assert await ground.call(Call(argument="second")) == returned("first")
        history = await ground.key_workflow().fetch_history()
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in types(history)


@pytest.mark.parametrize("arguments", [[], ["no message"], [{}, {}]], ids=["none", "text", "two"])
async def test_an_outcome_by_hand_is_not_a_reason_to_execute_again(
    real: Ground, monkeypatch: pytest.MonkeyPatch, arguments: list[Any]
) -> None:
    """One that comes before the real one cannot be read: calls fail with a clear error until it is
    forgotten.
    """
    monkeypatch.setattr(claim, "_PATIENCE", 2)  # not a minute of attempts
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(argument="first"))
        await real.effects.seen(1)
        await real.key_workflow().signal(OUTCOME, args=arguments)
        gate.set()
        assert await job.result() == [[returned("first")]]
        refused = await real.call(Call(argument="second"))
        assert refused.type == "UnreadableRecordError"
        assert "'key'" in (refused.message or "")
        assert len(real.effects.attempts) == 1


@_INIT_RAISES
@pytest.mark.parametrize("kind", [IN_PLACE, DELEGATED])
async def test_a_key_workflow_with_a_strange_input_fails_and_holds_nothing(real: Ground, kind: str) -> None:
    """A key's workflow that somebody else starts fails at once, and the key is absent."""
    async with real.worker():
        handle = await real.client.start_workflow(
            kind, "no message", id=real.key_id(), task_queue=real.key_queue
        )

        async def failed() -> bool:
            return (await handle.describe()).status == WorkflowExecutionStatus.FAILED

        await until(failed)
        assert await real.call() == returned("argument")
    gc.collect()


@_INIT_RAISES
async def test_a_start_that_cannot_be_carried_out_holds_nothing(real: Ground) -> None:
    """A plan without time-outs, which the SDK refuses to schedule, fails the run and not task after task."""
    start = Start(key="key", activity="effect", idempotency_key="i-1", plan=Plan(task_queue=real.task_queue))
    async with real.worker():
        handle: WorkflowHandle[Any, Any] = await real.client.start_workflow(
            DELEGATED, encode(start), id=real.key_id(), task_queue=real.key_queue
        )

        async def failed() -> bool:
            return (await handle.describe()).status == WorkflowExecutionStatus.FAILED

        await until(failed)
        assert await real.call() == returned("argument")
    gc.collect()


@_INIT_RAISES
@pytest.mark.parametrize("kind", [IN_PLACE, DELEGATED])
async def test_junk_by_hand_does_no_harm(real: Ground, kind: str) -> None:
    """Starts by hand, with input that no call makes, hold up no key."""
    starts: list[list[object]] = [[], ["junk"], [{"key": "k"}], [None]]
    keys = [f"by-hand-{number}" for number in range(len(starts))]
    async with real.worker():
        by_hand = [
            await real.client.start_workflow(
                kind, args=arguments, id=real.key_id(key), task_queue=real.key_queue
            )
            for key, arguments in zip(keys, starts, strict=True)
        ]
        ends = [await end_of(handle) for handle in by_hand]
        assert all("are started by deduplicated calls only" in ended for ended in ends)
        assert await stuck(real.client, map(real.key_id, keys)) == []
        assert await real.script([Call(key=key) for key in keys]) == [[returned("argument")] * len(keys)]
    gc.collect()

"""Messages that somebody else sends to a key, by hand: none of them stops it, or holds it."""

import asyncio
import gc
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from dedupe.messages import ATTACH, FORGET, KEY_WORKFLOW, RERUN, SETTLE
from tests.support.ends import end_of, is_open, stuck
from tests.support.ground import Ground
from tests.support.histories import markers, types
from tests.support.scripts import Call, returned
from tests.support.waiting import until

# The SDK never awaits the run of a workflow whose __init__ raises.
_INIT_RAISES = pytest.mark.filterwarnings(
    "ignore:coroutine '_WorkflowInstanceImpl:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


async def test_a_stranger_signalling_a_key_changes_nothing(real: Ground) -> None:
    """Signals that no claim sent, and messages that cannot be read, are dropped."""
    async with real.worker():
        await real.call(Call(argument="first"))
        strange: list[tuple[str, list[Any]]] = [
            ("nothing", []),
            ("attach", ["no message"]),
            ("attach", []),
            ("rerun", [{}, {}]),
            (FORGET, ["no message", 2]),
        ]
        for signal, arguments in strange:
            await real.key_workflow().signal(signal, args=arguments)
        assert await real.call(Call(argument="second")) == returned("first")
        history = await real.key_workflow().fetch_history()
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in types(history)
    assert markers(history) == [SETTLE]


@_INIT_RAISES
async def test_a_key_workflow_with_a_strange_input_fails_and_holds_nothing(real: Ground) -> None:
    """A key's workflow that somebody else starts fails at once, and the key is unknown."""
    async with real.worker():
        handle = await real.client.start_workflow(
            KEY_WORKFLOW, "no message", id=real.key_id(), task_queue=real.key_queue
        )

        async def failed() -> bool:
            return (await handle.describe()).status == WorkflowExecutionStatus.FAILED

        await until(failed)
        assert await real.call() == returned("argument")
    gc.collect()


async def test_messages_by_hand_that_are_almost_right_do_no_harm(real: Ground) -> None:
    """A time without a zone, or arguments that are none, are dropped as any other junk."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call(Call())
        record = await real.keys.get("key")
        assert record is not None
        question = {
            "key_id": real.key_id(),
            "key": "key",
            "activity": "effect",
            "called_at": "2026-01-01T00:00:00",
        }
        waiter = {"workflow_id": "w", "run_id": "r", "activity_id": "a"}
        attach = {"question": question, "waiter": waiter, "asked_at": "2026-01-01T00:00:00"}
        await real.key_workflow().signal(ATTACH, attach)
        rerun = {
            "generation": 1,
            "idempotency_key": record.idempotency_key,
            "plan": {"task_queue": real.task_queue, "start_to_close_timeout": "PT5S"},
        }
        packed = Payload(metadata={"encoding": b"binary/plain", "dedupe": b"arguments"}, data=b"\xff junk")
        await real.key_workflow().signal(RERUN, args=[rerun, RawValue(packed)])
        assert await real.call(Call()) == returned("argument")
    history = await real.key_workflow().fetch_history()
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in types(history)


@_INIT_RAISES
async def test_a_start_that_cannot_be_carried_out_holds_nothing(real: Ground) -> None:
    """A plan without time-outs, which the SDK refuses to schedule, fails the run and not task after task."""
    start = {"key": "key", "activity": "effect", "plan": {"task_queue": real.task_queue}}
    async with real.worker():
        handle: WorkflowHandle[Any, Any] = await real.client.start_workflow(
            KEY_WORKFLOW, args=[start, "argument"], id=real.key_id(), task_queue=real.key_queue
        )

        async def failed() -> bool:
            return (await handle.describe()).status == WorkflowExecutionStatus.FAILED

        await until(failed)
        assert await real.call() == returned("argument")
    gc.collect()


async def test_a_request_that_cannot_be_carried_out_is_dropped(real: Ground) -> None:
    """The same plan, as a request to execute again what failed."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call()
        record = await real.keys.get("key")
        assert record is not None
        rerun = {"generation": 1, "idempotency_key": record.idempotency_key, "plan": {"task_queue": "q"}}
        await real.key_workflow().signal(RERUN, args=[rerun, "argument"])
        async with asyncio.timeout(20):
            assert await real.call() == returned("argument")


@_INIT_RAISES
async def test_junk_by_hand_does_no_harm(real: Ground) -> None:
    """Signals and starts by hand, with input that no claim makes, hold up no key and change no record."""
    junk: list[list[object]] = [[], ["junk"], [{"generation": "x"}, None], [1, 2, 3]]
    starts: list[list[object]] = [[], ["junk"], [{"key": "k"}, "junk"], [None, None]]
    keys = [f"by-hand-{number}" for number in range(len(starts))]
    async with real.worker():
        assert await real.call(Call(argument="before")) == returned("before")
        for name in (ATTACH, RERUN, FORGET, "nonsense"):
            for arguments in junk:
                await real.key_workflow().signal(name, args=arguments)
        by_hand = [
            await real.client.start_workflow(
                KEY_WORKFLOW, args=arguments, id=real.key_id(key), task_queue=real.key_queue
            )
            for key, arguments in zip(keys, starts, strict=True)
        ]
        ends = [await end_of(handle) for handle in by_hand]
        assert all("is started by deduplicated calls only" in ended for ended in ends)
        assert await stuck(real.client, [real.key_id(), *map(real.key_id, keys)]) == []
        assert await real.call(Call(argument="after")) == returned("before")
        assert await real.script([Call(key=key) for key in keys]) == [[returned("argument")] * len(keys)]
        assert await is_open(real.client, real.key_id())
    gc.collect()

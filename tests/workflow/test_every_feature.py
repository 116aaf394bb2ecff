"""Every feature of an activity, plain beside keyed: one table, each row of which is run in both ways.

A row is a small job on a real server. Compared are the result or the error with its whole chain of causes,
what each attempt of the activity saw, and what an operator did meanwhile. Where the two differ by design, the
row says in what, and why.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
    UpdateActivityOptionsRequest,
)
from temporalio.client import AsyncActivityHandle, Client, WorkflowHandle
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    CancelledError,
    FailureError,
)
from temporalio.exceptions import TimeoutError as ActivityTimeoutError
from temporalio.worker import SharedStateManager, Worker

import dedupe
from tests.support.ground import Ground
from tests.support.waiting import until

SECOND = timedelta(seconds=1)
MOMENT = timedelta(milliseconds=50)
ONCE = RetryPolicy(maximum_attempts=1)
TWICE = RetryPolicy(initial_interval=MOMENT, maximum_attempts=2)

seen: list[Any] = []
"""What the attempts of the activity saw, in this process."""
gate = threading.Event()
"""Opened by a row's operator."""


# ------------------------------------------------------------------------------------------------ activities


@activity.defn
async def echo(*values: Any) -> Any:
    """Return the only argument, or all of them."""
    seen.append(activity.info().attempt)
    return values[0] if len(values) == 1 else list(values)


@activity.defn
async def nothing() -> None:
    """Return nothing."""


@activity.defn
def in_a_thread(value: int) -> str:
    """Say what kind of thread this is, and heartbeat from it."""
    activity.heartbeat("from a thread")
    return f"{value} in {threading.current_thread().name.rsplit('_', 1)[0]}"


@activity.defn
def in_a_process(value: int) -> str:
    """Say that this is another process."""
    activity.heartbeat("from a process")
    return f"{value}, daemon: {threading.current_thread().daemon}"


class Mailer:
    """Has an activity as its method."""

    @activity.defn
    async def mail(self, to: str) -> str:
        """Return the address."""
        return f"mailed {to} by {type(self).__name__}"


@activity.defn
async def informs() -> None:
    """Note what an activity can know of itself."""
    info = activity.info()
    seen.append(
        (
            info.activity_type,
            info.attempt,
            info.workflow_type,
            info.workflow_namespace,
            info.is_local,
            info.heartbeat_timeout,
            info.schedule_to_close_timeout,
            info.start_to_close_timeout,
            info.task_queue,
            info.priority,
            info.retry_policy,
        )
    )


@activity.defn
async def progresses() -> list[Any]:
    """Fail once with heartbeat details, and return those that the second attempt finds."""
    details = list(activity.info().heartbeat_details)
    if activity.info().attempt == 1:
        activity.heartbeat("half", {"done": 50})
        raise ApplicationError("once more")
    return details


@activity.defn
async def fails(kind: str) -> None:
    """Fail in one of many ways."""
    seen.append(activity.info().attempt)
    error = FAILURES[kind]()
    raise error


def _caused() -> Exception:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    return error


FAILURES: dict[str, Callable[[], Exception]] = {
    "a plain exception": lambda: ValueError("no"),
    "a chain of causes": _caused,
    "details": lambda: ApplicationError("refused", {"code": 7}, [1, "two"], type="Refused"),
    "no retry": lambda: ApplicationError("never", type="Never", non_retryable=True),
    "a delay of its own": lambda: ApplicationError("later", next_retry_delay=MOMENT),
    "benign": lambda: ApplicationError("no alarm", category=ApplicationErrorCategory.BENIGN),
    "no message": lambda: ApplicationError(""),
}


@activity.defn
async def waits(step: float = 0.02) -> str:
    """Heartbeat until the gate opens, or until it is cancelled."""
    seen.append(activity.info().attempt)
    try:
        while not gate.is_set():
            activity.heartbeat("alive")
            await asyncio.sleep(step)
    except asyncio.CancelledError:
        why = activity.cancellation_details()
        seen.append(f"cancelled {[name for name, so in vars(why).items() if so is True] if why else ''}")
        raise
    return f"attempt {activity.info().attempt}"


@activity.defn
async def sleeps() -> None:
    """Outlast its time-outs, without a sign of life."""
    seen.append(activity.info().attempt)
    activity.heartbeat("the last sign")
    await asyncio.sleep(20)


@activity.defn
async def later() -> str:
    """Leave the end to somebody else."""
    seen.append(activity.info().attempt)
    activity.raise_complete_async()


ACTIVITIES: list[Callable[..., Any]] = [
    echo,
    nothing,
    in_a_thread,
    Mailer().mail,
    informs,
    progresses,
    fails,
    waits,
    sleeps,
    later,
]


# ------------------------------------------------------------------------------------------------- operators


@dataclass(frozen=True)
class Pending:
    """The activity of a job, while it is pending."""

    client: Client
    job: WorkflowHandle[Any, Any]
    activity_id: str
    is_told: bool
    """Whether the activity hears of what is done to its call."""

    async def reaction(self) -> None:
        """Wait until the activity was cancelled. Where it is not told, give it the time it would take."""
        if self.is_told:
            await until(_cancelled, what="the activity's cancellation")
        else:
            await asyncio.sleep(0.3)

    @property
    def execution(self) -> WorkflowExecution:
        """The job's run."""
        return WorkflowExecution(workflow_id=self.job.id, run_id=self.job.result_run_id or "")

    @property
    def handle(self) -> AsyncActivityHandle:
        """For its completion from elsewhere."""
        return self.client.get_async_activity_handle(
            workflow_id=self.job.id, run_id=self.job.result_run_id, activity_id=self.activity_id
        )

    @property
    def names(self) -> dict[str, Any]:
        """What requests address it by."""
        return {"namespace": self.client.namespace, "execution": self.execution, "id": self.activity_id}


async def _complete(pending: Pending) -> None:
    await pending.handle.complete({"by": "hand"})


async def _complete_early(pending: Pending) -> None:
    await _complete(pending)
    await pending.reaction()


async def _fail(pending: Pending) -> None:
    await pending.handle.fail(ApplicationError("by hand", 1, type="ByHand", non_retryable=True))


async def _pause(pending: Pending) -> None:
    service = pending.client.workflow_service
    await service.pause_activity(PauseActivityRequest(**pending.names))
    await until(lambda: _paused(pending), what="the pause")
    await pending.reaction()
    gate.set()
    await service.unpause_activity(UnpauseActivityRequest(**pending.names))


async def _paused(pending: Pending) -> bool:
    found = (await pending.job.describe()).raw_description.pending_activities
    return any(each.paused for each in found)


async def _reset(pending: Pending) -> None:
    await pending.client.workflow_service.reset_activity(ResetActivityRequest(**pending.names))
    await pending.reaction()
    gate.set()


async def _cancelled() -> bool:
    return any(str(each).startswith("cancelled") for each in seen)


async def _shorten(pending: Pending) -> None:
    options = ActivityOptions()
    options.start_to_close_timeout.FromTimedelta(SECOND)
    request = UpdateActivityOptionsRequest(**pending.names, activity_options=options)
    request.update_mask.paths.append("start_to_close_timeout")
    await pending.client.workflow_service.update_activity_options(request)
    gate.set()


async def _cancel_call(pending: Pending) -> None:
    await pending.job.signal("cancel")
    await pending.reaction()
    gate.set()


async def _cancel_job(pending: Pending) -> None:
    await pending.job.cancel()
    await pending.reaction()
    gate.set()


# ----------------------------------------------------------------------------------------------------- table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One feature: a call, and what is done to it."""

    activity: str
    arguments: Sequence[Any] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    operator: Callable[[Pending], Awaitable[None]] | None = None
    """What somebody does while the activity is pending."""
    again: bool = True
    """Whether a second call with the key gets the same without another attempt, if this one succeeded."""
    differs: str = ""
    """In what the keyed call differs by design, and why: what the activity has "seen", or it is "refused"."""


_IDLE = {"start_to_close_timeout": 0.5 * SECOND, "retry_policy": ONCE}

ROWS: dict[str, Row] = {
    "no arguments, no result": Row(activity="nothing"),
    "several arguments": Row(activity="echo", arguments=[1, "two", {"three": [3.5, None]}]),
    "bytes": Row(activity="echo", arguments=[b"\x00\xff"]),
    "a result of 1.9 MB": Row(activity="echo", arguments=["x" * 1_900_000]),
    "a function in a thread": Row(activity="in_a_thread", arguments=[7]),
    "a function in a process": Row(activity="in_a_process", arguments=[7]),
    "a method": Row(activity="mail", arguments=["a@example.com"]),
    "the information of an activity": Row(
        activity="informs",
        options={
            "start_to_close_timeout": 9 * SECOND,
            "schedule_to_close_timeout": 19 * SECOND,
            "heartbeat_timeout": 5 * SECOND,
            "priority": Priority(priority_key=3),
            "retry_policy": RetryPolicy(maximum_attempts=4, non_retryable_error_types=["Refused"]),
        },
    ),
    "heartbeat details of the last attempt": Row(activity="progresses"),
    **{f"failure: {kind}": Row(activity="fails", arguments=[kind]) for kind in FAILURES},
    "a failure that the policy does not retry": Row(
        activity="fails",
        arguments=["details"],
        options={"retry_policy": RetryPolicy(maximum_attempts=5, non_retryable_error_types=["Refused"])},
    ),
    "attempts that do not fit into the whole time": Row(
        activity="fails",
        arguments=["details"],
        options={
            "schedule_to_close_timeout": SECOND,
            "retry_policy": RetryPolicy(initial_interval=0.4 * SECOND, backoff_coefficient=4),
        },
    ),
    "an attempt that takes too long": Row(activity="sleeps", options=_IDLE),
    "a heartbeat that stays out": Row(
        activity="sleeps", options={"heartbeat_timeout": 0.5 * SECOND, "retry_policy": ONCE}
    ),
    "the whole time is over": Row(activity="sleeps", options={"schedule_to_close_timeout": 0.7 * SECOND}),
    "too many arguments": Row(activity="mail", arguments=[1, 2, 3], options={"retry_policy": ONCE}),
    "completed from elsewhere": Row(activity="later", operator=_complete),
    "failed from elsewhere": Row(activity="later", operator=_fail),
    "a cancellation that is to be waited for": Row(
        activity="waits",
        options={"cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED},
        operator=_cancel_call,
        differs="refused: a cancelled call ends at once, and the execution goes on for the others",
    ),
    "completed by an operator while it runs": Row(activity="waits", operator=_complete_early, again=False),
    "paused and let go": Row(activity="waits", options={"retry_policy": TWICE}, operator=_pause),
    "reset": Row(activity="waits", options={"retry_policy": TWICE}, operator=_reset),
    "options changed by an operator": Row(activity="waits", operator=_shorten),
    "the call is cancelled": Row(
        activity="waits",
        operator=_cancel_call,
        differs="seen: the execution is not the call's alone, so the activity is not told",
    ),
    "the call is abandoned": Row(
        activity="waits",
        options={"cancellation_type": workflow.ActivityCancellationType.ABANDON},
        operator=_cancel_call,
        differs="seen: the execution outlives the job, whose end is the first that a plain one hears of",
    ),
    "the job is cancelled": Row(
        activity="waits",
        operator=_cancel_job,
        differs="seen: the execution is not the call's alone, so the activity is not told",
    ),
}


@dataclass
class Told:
    """How the call ended, as its job sees it."""

    result: Any = None
    errors: list[list[Any]] = field(default_factory=list[list[Any]])
    """From the outermost to the first cause."""


@workflow.defn
class Feature:
    """Makes the call of one row, plain or with a key."""

    def __init__(self) -> None:
        """Not cancelled."""
        self._cancelled = False

    @workflow.signal
    def cancel(self) -> None:
        """Cancel the call."""
        self._cancelled = True

    @workflow.run
    async def run(self, name: str, key: str | None, on_unknown: str = "repeat") -> Told:
        """Return how the call ended."""
        row = ROWS[name]
        options: dict[str, Any] = {
            "args": row.arguments,
            "start_to_close_timeout": 15 * SECOND,
            "heartbeat_timeout": 5 * SECOND if row.activity == "waits" else None,
            "retry_policy": TWICE,
            **row.options,
        }
        try:
            if key is None:
                call = workflow.start_activity(row.activity, **options)
            else:
                options["on_unknown"] = on_unknown
                call = dedupe.start_activity(row.activity, deduplication_key=key, **options)
        except FailureError as error:
            return Told(errors=_chain(error))
        cancelling = asyncio.create_task(workflow.wait_condition(lambda: self._cancelled))
        try:
            await workflow.wait([call, cancelling], return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                call.cancel()
            result = await call
            return Told(result=result.hex() if isinstance(result, bytes) else result)
        except FailureError as error:
            return Told(errors=_chain(error))
        except asyncio.CancelledError:
            call.cancel()
            try:
                await call
            except FailureError as error:
                return Told(errors=_chain(error))
            raise


def _chain(error: BaseException | None) -> list[list[Any]]:
    chain: list[list[Any]] = []
    while error is not None:
        facts: list[Any] = [type(error).__name__, getattr(error, "message", str(error))]
        match error:
            case ActivityError():
                facts += [error.activity_type, str(error.retry_state)]
            case ApplicationError():
                facts += [error.type, list(error.details), error.non_retryable, str(error.category)]
            case ActivityTimeoutError():
                facts += [str(error.type), list(error.last_heartbeat_details)]
            case CancelledError():
                facts += [list(error.details)]
            case _:
                pass
        chain.append(facts)
        error = error.__cause__
    return chain


HELD = {
    "an attempt that takes too long",
    "a heartbeat that stays out",
    "the whole time is over",
    "attempts that do not fit into the whole time",
    "paused and let go",  # its attempt is cancelled
    "reset",  # attempts are counted anew, so nobody can tell how many there were
}
"""Rows in which an attempt ends without an answer: where that is held, the call waits."""

# ---------------------------------------------------------------------------------------------------- suite


@asynccontextmanager
async def worker(ground: Ground, name: str) -> AsyncGenerator[None]:
    """Run a worker for a row: one with a process pool where the row needs it."""
    is_process = ROWS[name].activity == "in_a_process"
    pool: Any = (
        ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        if is_process
        else ThreadPoolExecutor(4, thread_name_prefix="pool")
    )
    with pool:
        async with Worker(
            ground.client,
            task_queue=ground.task_queue,
            workflows=[Feature],
            activities=[in_a_process] if is_process else ACTIVITIES,
            activity_executor=pool,
            shared_state_manager=SharedStateManager.create_from_multiprocessing(
                get_context("spawn").Manager()
            )
            if is_process
            else None,
            max_heartbeat_throttle_interval=MOMENT,
            default_heartbeat_throttle_interval=MOMENT,
        ):
            yield


async def carry_out(
    ground: Ground, name: str, key: str | None, *, on_unknown: str = "repeat"
) -> tuple[Told, list[Any], float]:
    """Run a row's job. Return how its call ended, what the activity saw, and how many seconds it took."""
    seen.clear()
    gate.clear()
    began = time.monotonic()
    job = await ground.start(Feature.run, args=[name, key, on_unknown])
    operator = ROWS[name].operator
    if operator is not None and not (key and ROWS[name].differs.startswith("refused")):

        async def pending() -> str:
            found = (await job.describe()).raw_description.pending_activities
            return next((each.activity_id for each in found if seen), "")

        activity_id = await until(pending, what="the activity")
        is_told = key is None or not ROWS[name].differs
        await operator(Pending(ground.server, job, activity_id, is_told))
    async with asyncio.timeout(30):
        told = await job.result()
    took = time.monotonic() - began
    gate.set()
    await asyncio.sleep(0.1 if operator is not None else 0)  # for what the activity sees after its call
    return told, list(seen), took


@pytest.mark.parametrize("name", ROWS)
async def test_a_keyed_call_is_as_a_plain_one(real: Ground, name: str) -> None:
    """The row, plain and with a new key, and once more with that key."""
    row, key = ROWS[name], f"key-{uuid4()}"
    real.workflows.append(Feature)  # to be replayed
    async with worker(real, name):
        plain, seen_by_plain, plain_took = await carry_out(real, name, None)
        keyed, seen_by_keyed, keyed_took = await carry_out(real, name, key)
        if row.differs.startswith("refused:"):
            assert [error[0] for error in keyed.errors] == ["InvalidCallError"]
            assert seen_by_keyed == []
            return
        assert keyed == plain
        if row.differs.startswith("seen:"):
            assert seen_by_keyed != seen_by_plain
        else:
            assert seen_by_keyed == seen_by_plain
        assert keyed_took < plain_took + 5
        if row.again and not keyed.errors:
            assert await real.run(Feature.run, args=[name, key]) == keyed
            assert seen == seen_by_keyed


@pytest.mark.torture
@pytest.mark.parametrize("name", [name for name in ROWS if name not in HELD])
async def test_a_call_that_may_be_held_is_as_a_plain_one(real: Ground, name: str) -> None:
    """As long as each attempt ends with an answer."""
    row, key = ROWS[name], f"key-{uuid4()}"
    if row.differs.startswith("refused:"):
        return
    real.workflows.append(Feature)  # to be replayed
    async with worker(real, name):
        plain, seen_by_plain, _ = await carry_out(real, name, None)
        held, seen_by_held, _ = await carry_out(real, name, key, on_unknown="hold")
        assert held == plain
        assert (seen_by_held != seen_by_plain) == row.differs.startswith("seen:")


def test_the_table_says_what_differs() -> None:
    """Each difference has a reason."""
    reasons = [row.differs for row in ROWS.values() if row.differs]
    assert all(reason.split(": ", 1)[0] in {"seen", "refused"} and len(reason) > 20 for reason in reasons)

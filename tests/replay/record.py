"""Record the corpus: `python -m tests.replay.record`, by hand, from the project's directory.

Run it when a shape is added below, or when the protocol of jobs or keys changes for good. Histories that are
recorded already stay as they are: those of every version that ever ran must replay. `histories/` gets what
jobs and keys of every shape went through on real servers; `diverged/` gets copies that somebody else's code
might have written, which replay must refuse.
"""

import asyncio
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError

from tests.support.faults import break_peeks
from tests.support.ground import Ground
from tests.support.messages import join, told
from tests.support.scripts import Call
from tests.support.servers import ROLL_OVER_SOON, dev_server, time_skipping_server

HERE = Path(__file__).parent
HISTORIES = HERE / "histories"
DIVERGED = HERE / "diverged"
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)

Shape = Callable[[Ground], Awaitable[None]]


async def succeeded(ground: Ground) -> None:
    """A miss, then a hit."""
    await ground.call(Call(argument="first"))
    await ground.call(Call(argument="second"))


async def executing(ground: Ground) -> None:
    """A job that waits, and a key that executes."""
    ground.effects.close()
    await ground.start_script(Call())
    await ground.effects.seen(1)


async def shared(ground: Ground) -> None:
    """Calls that attach late, and one execution for them all."""
    gate = ground.effects.close()
    await ground.start_script([Call(argument=number) for number in range(3)])
    await ground.effects.seen(1)
    other = await ground.start_script(Call(argument="other"))
    await ground.claiming(3, 0)
    await ground.claiming(1)
    if not ground.skips_time:
        await ground.signalled(3)
    gate.set()
    for job in (*ground.jobs[:1], other):
        await job.result()


async def failed_and_executed_again(ground: Ground) -> None:
    """Three generations: a definite failure, attempts that ran out, and a success."""
    ground.effects.then(
        ApplicationError("no", "detail", type="Refused", non_retryable=True),
        ApplicationError("no"),
        ApplicationError("no"),
    )
    await ground.call(Call(argument="first"))
    await ground.call(Call(argument="second", attempts=2))
    await ground.call(Call(argument="third"))
    await ground.call(Call(argument="fourth"))


async def failed_and_skipped(ground: Ground) -> None:
    """A failure returned fresh, and reused."""
    ground.effects.then(ApplicationError("no", type="Refused"))
    await ground.call(Call(skip_failure=True))
    await ground.call(Call(skip_failure=True))


async def timed_out(ground: Ground) -> None:
    """An execution that timed out, and the next one."""
    gate = ground.effects.close()
    await ground.call(Call(start_to_close_timeout=SECOND))
    gate.set()
    await ground.call()


async def expired(ground: Ground) -> None:
    """A key whose time is over, and the next life of it."""
    ttl = HOUR if ground.skips_time else SECOND
    await ground.script(
        Call(argument="first", ttl=ttl), Call(ttl=ttl), Call(argument="second", after=1.5 * ttl, ttl=HOUR)
    )


async def run_out(ground: Ground) -> None:
    """A key whose time is over, and that nobody has asked for since."""
    await ground.call(Call(ttl=SECOND))
    await ground.closed()


async def joined_late(ground: Ground) -> None:
    """Claims that join a settled key, several in one task.

    `joined_late_before` is what the version did that told each of them by itself.
    """
    await ground.call()
    await join(ground, 30, ago=HOUR)
    await told(ground)


async def forgotten(ground: Ground) -> None:
    """A key that was dropped."""
    await ground.call()
    await ground.keys.forget("key")


async def forgotten_by_force(ground: Ground) -> None:
    """A key that was dropped while it executed and calls waited for it."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(), Call()])
    await ground.effects.seen(1)
    await ground.signalled(1)
    run = (await ground.key_workflow().describe()).run_id
    await ground.keys.forget("key", force=True)
    await ground.effects.seen(2)
    gate.set()
    await job.result()
    ground.jobs.append(ground.server.get_workflow_handle(ground.key_id(), run_id=run))


async def cancelled_by_an_operator(ground: Ground) -> None:
    """A key whose workflow was cancelled while it executed."""
    ground.effects.close()
    job = await ground.start_script([Call(), Call()])
    await ground.effects.seen(1)
    await ground.signalled(1)
    await ground.key_workflow().cancel()
    await job.result()


async def caller_cancelled(ground: Ground) -> None:
    """A call that was cancelled, and another that went on."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(cancel_on="now"), Call(on="next")])
    await ground.effects.seen(1)
    await job.signal("signal", "next")
    await ground.claiming(2)
    await job.signal("signal", "now")
    await ground.ended(1, job)
    gate.set()
    await job.result()


async def refused(ground: Ground) -> None:
    """Conflicts: another activity, and other arguments."""
    await ground.call()
    await ground.call(Call(activity="other"))
    await ground.call(Call(argument="other", on_mismatch="raise"))


async def impatient(ground: Ground) -> None:
    """A call that ran out of time while it waited."""
    gate = ground.effects.close()
    job = await ground.start_script(
        [Call(), Call(on="next", schedule_to_close_timeout=SECOND, skip_failure=True)]
    )
    await ground.effects.seen(1)
    await job.signal("signal", "next")
    await ground.ended(1, job)
    gate.set()
    await job.result()


async def peek_failed(ground: Ground) -> None:
    """Calls whose peek could not read."""
    with pytest.MonkeyPatch.context() as patch:
        break_peeks(patch)
        await ground.call()
        await ground.call()


async def rolled_over(ground: Ground) -> None:
    """A key's workflow that continued as new, before and after, and was then executed again."""
    gate = ground.effects.close()
    ground.effects.then(ApplicationError("no", "detail", type="Refused"))
    job = await ground.start_script([Call(ttl=HOUR)] * 4)
    await ground.effects.seen(1)
    await ground.signalled(3)
    first = (await ground.key_workflow().describe()).run_id
    gate.set()
    await job.result()
    await ground.rolled_over(first)
    await ground.call(Call(skip_failure=True))
    await ground.call(Call(ttl=HOUR))
    ground.jobs.append(ground.server.get_workflow_handle(ground.key_id(), run_id=first))


BOTH: list[Shape] = [
    succeeded,
    shared,
    failed_and_executed_again,
    failed_and_skipped,
    timed_out,
    expired,
    forgotten,
    caller_cancelled,
    refused,
    impatient,
    peek_failed,
]
REAL: list[Shape] = [*BOTH, executing, run_out, joined_late, forgotten_by_force, cancelled_by_an_operator]
SHORT: list[Shape] = [rolled_over]


DIVERGING: list[Shape] = [
    succeeded,
    shared,
    failed_and_executed_again,
    expired,
    run_out,
    joined_late,
    forgotten,
    rolled_over,
]
"""Those that diverged copies are made of."""


class _Traceless(DefaultFailureConverter):
    """Leaves out stack traces, which name the directories of a machine."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """See base class."""
        super().to_failure(exception, payload_converter, failure)
        failure.stack_trace = ""


CONFIG: dict[str, Any] = {
    "data_converter": dataclasses.replace(pydantic_data_converter, failure_converter_class=_Traceless)
}


async def record() -> None:
    """Record what is not recorded yet, on each kind of server."""
    async with dev_server() as client:
        for shape in REAL:
            await _record(shape, Ground.on(client, skips_time=False, client_config=CONFIG), "real")
    async with dev_server(ROLL_OVER_SOON) as client:
        for shape in SHORT:
            await _record(shape, Ground.on(client, skips_time=False, client_config=CONFIG), "real")
    async with time_skipping_server() as client:
        for shape in BOTH:
            await _record(shape, Ground.on(client, skips_time=True, client_config=CONFIG), "skipping")


async def _record(shape: Shape, ground: Ground, server: str) -> None:
    name = f"{shape.__name__}.{server}"
    if any(HISTORIES.glob(f"{name}.*")):
        return
    async with ground.worker():
        await shape(ground)
        jobs = [job for job in ground.jobs if job.id != ground.key_id()]
        runs_before = [job for job in ground.jobs if job.id == ground.key_id()]
        histories = {f"job-{number}": await job.fetch_history() for number, job in enumerate(jobs)}
        histories |= {f"key-{number}": await run.fetch_history() for number, run in enumerate(runs_before)}
        histories["key"] = await ground.key_workflow().fetch_history()
        for kind, history in histories.items():
            _write(HISTORIES / f"{name}.{kind}.json", json.loads(history.to_json()))
        await ground.close()
        if shape is executing:
            await ground.key_workflow().terminate()


def _write(path: Path, history: dict[str, Any]) -> None:
    text = json.dumps(history, indent=1, sort_keys=True)
    # Processes and machines have names.
    text = re.sub(r'"\d+@[^"]*"', '"worker"', text)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")


# ------------------------------------------------------------------------------------------------- diverged


def diverge() -> None:
    """Write copies of the histories that other code might have written."""
    names = [f"{shape.__name__}.real.{kind}.json" for shape in DIVERGING for kind in ("job-0", "key")]
    for path in (HISTORIES / name for name in names):
        history = json.loads(path.read_text())
        for alteration, events in _alterations(history["events"]):
            _write(DIVERGED / f"{path.stem}.{alteration}.json", {**history, "events": events})


def _alterations(events: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a history with another type of its first activity, with another id of it, and without it."""
    for number, event in enumerate(events):
        attributes = event.get("activityTaskScheduledEventAttributes")
        if attributes is not None:
            other_type = {**attributes, "activityType": {"name": "somebody-elses"}}
            yield "type", _with(events, number, {**event, "activityTaskScheduledEventAttributes": other_type})
            other_id = {**attributes, "activityId": "somebody-elses"}
            yield "id", _with(events, number, {**event, "activityTaskScheduledEventAttributes": other_id})
            break
    markers = [number for number, event in enumerate(events) if "markerRecordedEventAttributes" in event]
    if markers and any("workflowTaskCompletedEventAttributes" in event for event in events[markers[0] :]):
        timer = {
            **events[markers[0]],
            "eventType": "EVENT_TYPE_TIMER_STARTED",
            "timerStartedEventAttributes": {
                "timerId": "1",
                "startToFireTimeout": "60s",
                "workflowTaskCompletedEventId": events[markers[0]]["markerRecordedEventAttributes"][
                    "workflowTaskCompletedEventId"
                ],
            },
        }
        del timer["markerRecordedEventAttributes"]
        yield "timer-for-marker", _with(events, markers[0], timer)


def _with(events: list[dict[str, Any]], number: int, event: dict[str, Any]) -> list[dict[str, Any]]:
    return [*events[:number], event, *events[number + 1 :]]


def load(path: Path) -> WorkflowHistory:
    """Return a recorded history."""
    return WorkflowHistory.from_json(path.stem, path.read_text())


if __name__ == "__main__":
    asyncio.run(record())
    diverge()

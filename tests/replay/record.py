"""Record the corpus: `python -m tests.replay.record`, by hand, from the project's directory.

Run it when a shape is added, or when the protocol of jobs or keys changes for good. Histories that are
recorded already stay as they are: those of every version that ever ran must replay. `histories/` gets what
jobs and keys of every shape went through on real servers; `diverged/` gets copies that somebody else's code
might have written, which replay must refuse.
"""

import asyncio
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter

from dedupe.record.search import NAMES, register
from tests.replay.corpus import DIVERGED, HISTORIES
from tests.replay.shapes import BOTH, DIVERGING, REAL, SEARCHED, Shape, executing
from tests.support.ground import Ground
from tests.support.histories import has_run
from tests.support.servers import dev_server, time_skipping_server


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
        await register(client, NAMES)
        for shape in SEARCHED:
            settings: dict[str, Any] = {"client_config": CONFIG, "search_attributes": True}
            await _record(shape, Ground.on(client, skips_time=False, **settings), "real")
            delegated = Ground.on(client, skips_time=False, in_place=False, **settings)
            await _record(shape, delegated, "delegated")
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
            if not has_run(history):  # a key that is executed in place: there is nothing to replay
                continue
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
    names = [
        f"{shape.__name__}.{server}.{kind}.json"
        for shape in DIVERGING
        for server, kind in (("real", "job-0"), ("skipping", "job-0"), ("skipping", "key"))
    ]
    names += [f"{shape.__name__}.{server}.key.json" for shape in SEARCHED for server in ("real", "delegated")]
    for path in (HISTORIES / name for name in names if (HISTORIES / name).exists()):
        history = json.loads(path.read_text())
        for alteration, events in _alterations(history["events"]):
            _write(DIVERGED / f"{path.stem}.{alteration}.json", {**history, "events": events})


def _alterations(events: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a history with another type of its first activity, with another id of it, and with a timer in
    place of a marker and of a search attribute.
    """
    for number, event in enumerate(events):
        attributes = event.get("activityTaskScheduledEventAttributes")
        if attributes is not None:
            other_type = {**attributes, "activityType": {"name": "somebody-elses"}}
            yield "type", _with(events, number, {**event, "activityTaskScheduledEventAttributes": other_type})
            other_id = {**attributes, "activityId": "somebody-elses"}
            yield "id", _with(events, number, {**event, "activityTaskScheduledEventAttributes": other_id})
            break
    for name in ("marker", "search-attribute"):
        attributes_of = _COMMANDS[name]
        made = [number for number, event in enumerate(events) if attributes_of in event]
        if made and any("workflowTaskCompletedEventAttributes" in event for event in events[made[0] :]):
            yield f"timer-for-{name}", _with(events, made[0], _timer(events[made[0]], attributes_of))


_COMMANDS = {
    "marker": "markerRecordedEventAttributes",
    "search-attribute": "upsertWorkflowSearchAttributesEventAttributes",
}


def _timer(event: dict[str, Any], attributes_of: str) -> dict[str, Any]:
    """Return an event of the same workflow task that says that a timer was started."""
    completed = event[attributes_of]["workflowTaskCompletedEventId"]
    started = {"timerId": "1", "startToFireTimeout": "60s", "workflowTaskCompletedEventId": completed}
    rest = {name: value for name, value in event.items() if name != attributes_of}
    return {**rest, "eventType": "EVENT_TYPE_TIMER_STARTED", "timerStartedEventAttributes": started}


def _with(events: list[dict[str, Any]], number: int, event: dict[str, Any]) -> list[dict[str, Any]]:
    return [*events[:number], event, *events[number + 1 :]]


if __name__ == "__main__":
    asyncio.run(record())
    diverge()

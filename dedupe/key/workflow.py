"""The workflows of keys. One run is one execution: the lock from its first event on, and then the record.

In place, a call of some job executes, and records by a signal; the workflow lies dormant, and runs only to
end itself when its record has expired. Delegated, the workflow schedules the activity itself, and then rests.
Neither is asked anything: those who want to know read its history.

Any change to the commands below is gated with `workflow.patched` and adds a history to the replay corpus.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import timedelta
from types import MappingProxyType

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from dedupe.execution.current import format_activity_id
from dedupe.key.retries import is_answer, next_delay, policy_of, retries_itself
from dedupe.model.messages import Plan, Start
from dedupe.model.names import DELEGATED, IN_PLACE, OUTCOME
from dedupe.model.payloads import unpack, unpack_with

_NOTHING = RawValue(Payload())

CALLER_HEADERS: ContextVar[Mapping[str, bytes]] = ContextVar(
    "dedupe-caller-headers", default=MappingProxyType({})
)
"""Serialized headers of the call that is executed; `dedupe.key.server` puts them on its activity."""


@workflow.defn(name=IN_PLACE)
class InPlaceKey:
    """Holds a key for the call that executes it."""

    def __init__(self) -> None:
        """Take up the key."""
        self._is_recorded = False

    @workflow.run
    async def run(self, start: RawValue = _NOTHING) -> None:
        """Hold the key until its record has expired."""
        message, _ = _start(start)
        ttl = message.ttl
        await workflow.wait_condition(lambda: self._is_recorded and ttl is not None)
        await _rest(ttl)

    @workflow.signal(dynamic=True)
    def receive(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take notice of the outcome. Readers find it in the history."""
        del arguments
        self._is_recorded = self._is_recorded or name == OUTCOME


@workflow.defn(name=DELEGATED)
class DelegatedKey:
    """Executes a key where its activity does not belong to the worker of the job."""

    def __init__(self) -> None:
        """Take up the key."""
        self._is_resolved = False

    @workflow.run
    async def run(self, start: RawValue = _NOTHING) -> None:
        """Execute the activity, and hold the key until its record has expired."""
        message, arguments = _start(start)
        plan = message.plan
        if plan is None:
            return  # it was started to forget the key, and records nothing
        if (plan.start_to_close_timeout or plan.schedule_to_close_timeout) is None:
            raise _unreadable()
        CALLER_HEADERS.set(plan.headers)
        if message.unknown is not None or not await _execute(message, plan, arguments):
            await workflow.wait_condition(lambda: self._is_resolved)
        if not message.closes_when_settled:
            await _rest(message.ttl)

    @workflow.signal(dynamic=True)
    def receive(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take any signal: without a handler, one sent by hand would be kept for ever."""
        del arguments
        self._is_resolved = self._is_resolved or name == OUTCOME


async def _execute(start: Start, plan: Plan, arguments: Sequence[RawValue]) -> bool:
    """Execute the activity. Return whether it is known how that ended, or nobody asked to hold it.

    Raises:
        ActivityError: It was cancelled.
    """
    began, number = workflow.now(), 0
    while True:
        number += 1
        try:
            await workflow.execute_activity(
                start.activity,
                args=arguments,
                activity_id=format_activity_id(start.generation, start.idempotency_key),
                task_queue=plan.task_queue,
                result_type=RawValue,
                schedule_to_close_timeout=plan.schedule_to_close_timeout,
                schedule_to_start_timeout=plan.schedule_to_start_timeout,
                start_to_close_timeout=plan.start_to_close_timeout,
                heartbeat_timeout=plan.heartbeat_timeout,
                retry_policy=policy_of(start, plan),
                summary=plan.summary,
                priority=plan.priority,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            delay = None
            if retries_itself(start):
                delay = next_delay(error, plan, number=number, elapsed=workflow.now() - began)
            if delay is None:
                return not start.hold or is_answer(error)
            await workflow.sleep(delay)
        else:
            return True


async def _rest(ttl: timedelta | None) -> None:
    """Stay open for as long as the record is kept."""
    with suppress(asyncio.TimeoutError):
        await workflow.wait_condition(lambda: False, timeout=ttl)


def _start(start: RawValue) -> tuple[Start, list[RawValue]]:
    """Return the input of a key's workflow, and the arguments of what it is to execute.

    Raises:
        ApplicationError: It was not made by this package. The run fails, and holds nothing.
    """
    try:
        message, arguments = unpack_with(Start, start.payload)
        return message, [RawValue(argument) for argument in unpack(arguments)]
    except (ValueError, AttributeError) as error:  # not a message; not even a raw value
        raise _unreadable() from error


def _unreadable() -> ApplicationError:
    message = "the workflows of keys are started by deduplicated calls only; this input cannot be read"
    return ApplicationError(message, non_retryable=True)

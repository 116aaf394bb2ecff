"""The workflows of keys. One run is one execution: the lock from its first event on, and then the record.

In place, a call of some job executes, and records by a signal; the workflow lies dormant, and runs only to
end itself when its record has expired, and to show in the service's visibility that it failed or is held.
Delegated, the workflow schedules the activity itself, and then rests. Neither is asked anything: those who
want to know read its history.

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
from dedupe.model.names import DELEGATED, IN_PLACE, OUTCOME, UNKNOWN, WAKE
from dedupe.model.outcome import Failed, decode_outcome
from dedupe.model.payloads import unpack, unpack_with
from dedupe.record.search import STATE, SearchState

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
        self._state = _State()

    @workflow.run
    async def run(self, start: RawValue = _NOTHING) -> None:
        """Hold the key until its record has expired."""
        message, _ = _start(start)
        ttl = message.ttl
        self._state.begin(message)
        await workflow.wait_condition(lambda: self._state.is_settled and ttl is not None)
        await _rest(ttl)

    @workflow.signal(dynamic=True)
    def receive(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take notice of the outcome. Readers find it in the history."""
        self._state.notice(name, arguments)

    @workflow.update(name=WAKE)
    def wake(self) -> None:
        """Run: that is all."""


@workflow.defn(name=DELEGATED)
class DelegatedKey:
    """Executes a key where its activity does not belong to the worker of the job."""

    def __init__(self) -> None:
        """Take up the key."""
        self._state = _State()

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
        self._state.begin(message)
        if message.unknown is None:
            await _execute(message, plan, arguments, self._state)
        await workflow.wait_condition(lambda: self._state.is_settled)
        if not message.closes_when_settled:
            await _rest(message.ttl)

    @workflow.signal(dynamic=True)
    def receive(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take any signal: without a handler, one sent by hand would be kept for ever."""
        self._state.notice(name, arguments)


class _State:
    """Where a key stands, and what of it the service's visibility shows."""

    def __init__(self) -> None:
        """Begin as a key that executes, of which nothing is shown."""
        self.is_settled = False
        self._state: SearchState | None = None
        self._shown: SearchState | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, start: Start) -> None:
        """Take notice of what its run was started with, and show what is wanted from now on."""
        if start.unknown is not None:
            self.hold()
            self._shown = SearchState.HELD
        if start.searchable:
            self._task = asyncio.create_task(self._show())

    def notice(self, signal: str, arguments: Sequence[RawValue]) -> None:
        """Take notice of a signal."""
        if signal == UNKNOWN:
            self.hold()
        elif signal == OUTCOME:
            self.settle(failed=_is_failed(arguments))

    def hold(self) -> None:
        """Take notice that nobody knows how its execution ended."""
        if not self.is_settled:
            self._state = SearchState.HELD

    def settle(self, *, failed: bool) -> None:
        """Take notice of an outcome. The first one counts."""
        if not self.is_settled:
            self._state = SearchState.FAILED if failed else None
        self.is_settled = True

    async def _show(self) -> None:
        while True:
            await workflow.wait_condition(lambda: self._shown is not self._state)
            state = self._shown = self._state
            update = STATE.value_unset() if state is None else STATE.value_set(state.value)
            workflow.upsert_search_attributes([update])


def _is_failed(arguments: Sequence[RawValue]) -> bool:
    try:
        return isinstance(decode_outcome(arguments[0].payload), Failed)
    except (IndexError, ValueError):  # it was signalled by hand
        return False


async def _execute(start: Start, plan: Plan, arguments: Sequence[RawValue], state: _State) -> None:
    """Execute the activity, until it is known how that ended, or the key is held because nobody knows.

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
                if start.hold and not is_answer(error):
                    state.hold()
                else:
                    state.settle(failed=True)
                return
            await workflow.sleep(delay)
        else:
            state.settle(failed=False)
            return


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

"""The handle: the one door to a key's record. Read it, acquire the key, record an outcome, end a run.

Each method is one request (`after_signal`: the same one until it shows), built by hand: requests that go
through the user's client pass the client's interceptors, and one that renames workflows or gives them a
time-out breaks records. The payload codec applies. Invariant: nothing but acquiring and reading addresses a
key without the id of a run.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    UpdateWorkflowExecutionLifecycleStage,
    WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Input, Meta, WaitPolicy
from temporalio.api.update.v1 import Request as Update
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from dedupe.model.messages import Message, Start, UnknownOutcome
from dedupe.model.names import ANSWERED, DELEGATED, IN_PLACE, OUTCOME, UNKNOWN, WAKE
from dedupe.model.outcome import Outcome, encode_outcome, timed
from dedupe.model.payloads import cut, encode, pack_with
from dedupe.model.record import Absent, Record, Run, record_of
from dedupe.record.history import fetch, follow, is_missing
from dedupe.record.reader import Reader
from dedupe.record.search import attributes_of

_FOR_EVER = timedelta(days=36_500)
"""Start delay of a key that is kept for ever."""
_LONGER = timedelta(minutes=1)
"""By which the start delay of a key with a TTL is longer than what it needs at the most."""
_SHOWS = timedelta(seconds=12)
"""How long an outcome may take to show: a little longer than a workflow task that its worker has lost."""
_WAKES = timedelta(seconds=1)
"""How long a worker may take to wake a key."""
LARGEST_OUTCOME = 2 * 1024 * 1024
"""Bytes of an encoded outcome that the service takes in a signal, as of any result, unless it is set to take
fewer."""


class OutcomeTooLargeError(Exception):
    """An outcome is larger than what the service takes in a signal."""


@dataclass(frozen=True, kw_only=True)
class KeyHandle:
    """One key in one namespace."""

    client: Client
    key_id: str

    async def read(self, *, now: datetime) -> Record:
        """Return what is recorded under the key at `now`.

        Raises:
            RPCError: The service could not be asked.
            Exception: See `Reader.run`.
        """
        run = await self.run()
        return Absent() if run is None else record_of(run, now=now)

    async def run(self, run_id: str = "", *, although_forgotten: bool = False) -> Run | None:
        """Return the key's current run, or one run; None where the service knows none.

        Args:
            run_id: Of the run; "": of the current one.
            although_forgotten: Whether it says how a run ended that was forgotten since.

        Raises:
            RPCError: The service could not be asked.
            Exception: See `Reader.run`.
        """
        events = await fetch(self.client, self.key_id, run_id=run_id)
        if events is None:
            return None
        return await self._reader.run(events, although_forgotten=although_forgotten)

    async def after_signal(self, run_id: str, *, was_held: bool = False) -> Run | None:
        """Return a run that has taken an outcome or is held, once it shows that.

        While a worker has the workflow task of the run, the service keeps what is signalled back: until that
        is completed, or has timed out.

        Args:
            run_id: Of the run.
            was_held: Whether it was held before, so that an outcome is waited for.

        Raises:
            RPCError: The service could not be asked.
            Exception: See `Reader.run`.
        """
        until = time.monotonic() + _SHOWS.total_seconds()
        while True:
            run = await self.run(run_id)
            if run is None or run.end is not None or run.closed is not None:
                return run
            if (run.unknown is not None and not was_held) or time.monotonic() > until:
                return run
            await asyncio.sleep(_SHOWS.total_seconds() / 100)

    async def wait(self, run_id: str, *, after: int = 0) -> None:
        """Wait until a run has an outcome, or an unknown one, or is closed, after one of its events.

        Raises:
            RPCError: The service could not be asked, or knows no such run.
        """
        await follow(self.client, self.key_id, run_id=run_id, after=after)

    async def acquire(
        self, start: Start, *, task_queue: str, arguments: Payload | None = None, again: bool
    ) -> str | None:
        """Begin an execution: start a run of the key's workflow.

        Args:
            start: Its input.
            task_queue: Where the workflows of keys live.
            arguments: The packed arguments, where the execution is delegated.
            again: Whether a closed run was read, over which this one is to begin.

        Returns:
            The id of the run; None where somebody holds the key, or, without `again`, a run has been closed.

        Raises:
            RPCError: The service did not take the request.
        """
        reuse = WorkflowIdReusePolicy
        request = StartWorkflowExecutionRequest(
            namespace=self.client.namespace,
            identity=self.client.identity,
            request_id=str(uuid4()),
            workflow_id=self.key_id,
            workflow_type=WorkflowType(name=DELEGATED if start.owner is None else IN_PLACE),
            task_queue=TaskQueue(name=task_queue),
            workflow_id_reuse_policy=reuse.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
            if again
            else reuse.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
            workflow_id_conflict_policy=WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
        )
        if start.owner is not None:
            request.workflow_start_delay.FromTimedelta(_delay(start))
        if start.searchable:
            request.search_attributes.CopyFrom(attributes_of(start))
        value = encode(start) if arguments is None else pack_with(start, arguments)
        request.input.payloads.extend(await self._encode([value]))
        [summary] = await self._encode([cut(f"{start.activity} · {start.key}")])
        request.user_metadata.summary.CopyFrom(summary)
        try:
            response = await self.client.workflow_service.start_workflow_execution(request, retry=True)
        except RPCError as error:
            if error.status == RPCStatusCode.ALREADY_EXISTS:
                return None
            raise
        return response.run_id

    async def record(
        self, run_id: str, outcome: Outcome, *, at: datetime | None = None, note: Message | None = None
    ) -> bool:
        """Record how the execution of a run ended. The first outcome of a run counts.

        Args:
            run_id: Of the key's workflow.
            outcome: How it ended.
            at: When, by the clock of the job that executes: from then on a TTL counts. It is another one than
                the service's where each workflow has a clock of its own (time skipping V2).
            note: What an operator wants to be seen beside it. Nothing reads it.

        Returns:
            Whether that run is open.

        Raises:
            OutcomeTooLargeError: The service does not take so much.
            RPCError: The service did not take the request.
        """
        values = [RawValue(timed(encode_outcome(outcome), at)), *([] if note is None else [encode(note)])]
        payloads = Payloads(payloads=await self._encode(values))
        size = payloads.ByteSize()
        if size > LARGEST_OUTCOME:
            raise OutcomeTooLargeError(
                f"the result takes {size:,} bytes, which is over the limit of {LARGEST_OUTCOME:,}"
            )
        try:
            return await self._signal(run_id, OUTCOME, payloads)
        except RPCError as error:
            if error.status == RPCStatusCode.INVALID_ARGUMENT:
                raise OutcomeTooLargeError(
                    f"the result takes {size:,} bytes, which is over the service's limit: {error.message}"
                ) from error
            raise

    async def hold(self, run_id: str, unknown: UnknownOutcome) -> bool:
        """Hold the key: the outcome of a run is unknown. Returns whether that run is open.

        Raises:
            RPCError: The service did not take the request.
        """
        return await self._signal(run_id, UNKNOWN, Payloads(payloads=await self._encode([encode(unknown)])))

    async def answered(self, run_id: str) -> bool:
        """Note that an attempt of a run has failed and said so. Returns whether that run is open.

        Raises:
            RPCError: The service did not take the request.
        """
        return await self._signal(run_id, ANSWERED, None)

    async def _signal(self, run_id: str, name: str, payloads: Payloads | None) -> bool:
        request = SignalWorkflowExecutionRequest(
            namespace=self.client.namespace,
            identity=self.client.identity,
            request_id=str(uuid4()),
            workflow_execution=WorkflowExecution(workflow_id=self.key_id, run_id=run_id),
            signal_name=name,
            input=payloads,
        )
        try:
            await self.client.workflow_service.signal_workflow_execution(request, retry=True)
        except RPCError as error:
            if is_missing(error):
                return False
            raise
        return True

    async def wake(self, run_id: str) -> None:
        """Have a dormant run take notice of what it was signalled, as soon as a worker serves it.

        Raises:
            RPCError: The service did not take the request, or no worker has served it within a second.
        """
        request = UpdateWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=self.key_id, run_id=run_id),
            wait_policy=WaitPolicy(
                lifecycle_stage=UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
            ),
            request=Update(
                meta=Meta(update_id=str(uuid4()), identity=self.client.identity), input=Input(name=WAKE)
            ),
        )
        await self.client.workflow_service.update_workflow_execution(request, timeout=_WAKES)

    async def end(self, run_id: str, *, details: str, reason: str) -> bool:
        """End one run. Returns whether it was open.

        Raises:
            RPCError: The service did not take the request.
        """
        request = TerminateWorkflowExecutionRequest(
            namespace=self.client.namespace,
            identity=self.client.identity,
            workflow_execution=WorkflowExecution(workflow_id=self.key_id, run_id=run_id),
            reason=reason,
            details=Payloads(
                payloads=[Payload(metadata={"encoding": b"binary/plain"}, data=details.encode())]
            ),
        )
        try:
            await self.client.workflow_service.terminate_workflow_execution(request, retry=True)
        except RPCError as error:
            if is_missing(error):
                return False
            raise
        return True

    async def task_queue(self) -> str:
        """Return the task queue of the key's workflow.

        Raises:
            RPCError: The service could not be asked, or knows no run of the key.
        """
        request = DescribeWorkflowExecutionRequest(
            namespace=self.client.namespace, execution=WorkflowExecution(workflow_id=self.key_id)
        )
        response = await self.client.workflow_service.describe_workflow_execution(request, retry=True)
        return response.execution_config.task_queue.name

    @property
    def _reader(self) -> Reader:
        return Reader(client=self.client, key_id=self.key_id)

    @property
    def converter(self) -> DataConverter:
        """The client's data converter, in the context of the key's workflow."""
        return self.client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self.client.namespace, workflow_id=self.key_id)
        )

    def encode_result(self, result: object) -> Payload:
        """Return what an activity returned as it is recorded.

        Raises:
            Exception: The payload converter does not take it.
        """
        [payload] = self.converter.payload_converter.to_payloads([result])
        return payload

    async def _encode(self, values: Sequence[object]) -> list[Payload]:
        return await self.converter.encode(values)


def _delay(start: Start) -> timedelta:
    """Return for how long a key lies dormant: until its record has expired, however long the effect takes."""
    if start.ttl is None:
        return _FOR_EVER
    longest = start.owner.longest_attempt if start.owner is not None else None
    return min(start.ttl + (longest or timedelta(0)) + _LONGER, _FOR_EVER)

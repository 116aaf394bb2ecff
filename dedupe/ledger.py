"""The ledger: reading a key's record out of its workflow's history.

The history is the record, so a reader needs no worker's help and no cache: the last close event of the real
activity says how it ended, unless a later schedule event says that it executes again. A success counts from
its event on. A failure counts from the first workflow task that was completed after it, since that is the
moment at which the key's workflow itself knows of it; so reader and workflow judge by the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, timedelta

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext

from dedupe.decision import Executing, ExecutionRecord, Record, Settled, Unknown
from dedupe.errors import UnreadableRecordError
from dedupe.execution.current import new_idempotency_key, parse_activity_id
from dedupe.history import fetch_enough, fetch_whole
from dedupe.keys import fingerprint
from dedupe.messages import KEY_WORKFLOW, Rerun, Start, decode, unpack
from dedupe.outcome import NO_RESULT, Failed, Outcome, Succeeded, rolled_over
from dedupe.pages import Pages, failure_of, is_cancellation, is_definite, time_of


async def read(client: Client, key_id: str, *, with_fingerprint: bool = False) -> Record:
    """Return what is recorded under a key; see `Ledger`.

    Raises:
        RPCError: The service could not be asked.
        Exception: See `Ledger.record`.
    """
    pages = await fetch_enough(client, key_id)
    if pages is None:
        return Unknown()
    if with_fingerprint and not pages.knows_arguments:
        pages = await fetch_whole(client, key_id) or pages
    return await Ledger(client=client, key_id=key_id, pages=pages, with_fingerprint=with_fingerprint).record()


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The history of a key's current run, and how to decode it."""

    client: Client
    """Whose namespace, and whose payload codec, the key is read with."""
    key_id: str
    """Id of the key's workflow."""
    pages: Pages
    with_fingerprint: bool = False
    """Whether to fingerprint the recorded arguments."""

    @classmethod
    async def open(cls, client: Client, key_id: str) -> "Ledger | None":
        """Read the whole history of a key's current run; None where the service knows no run.

        Raises:
            RPCError: The service could not be asked.
        """
        pages = await fetch_whole(client, key_id)
        return None if pages is None else cls(client=client, key_id=key_id, pages=pages)

    async def origin(self) -> "Start | Rerun":
        """Return the message that asked for the last execution: the first to ask for its generation."""
        start = await self.start()
        scheduled = self.pages.scheduled
        if scheduled is None:
            return start
        generation, _ = _execution_in(scheduled)
        for request in self.pages.reruns:
            try:
                [message, *_] = await _raw(self._workflow_converter(), request.payloads)
                rerun = decode(Rerun, message)
            except ValueError:  # sent by hand
                continue
            settled = (
                (start.generation, start.idempotency_key)
                if request.settled is None
                else _execution_in(request.settled)
            )
            if settled == (rerun.generation, rerun.idempotency_key) and rerun.generation + 1 == generation:
                return rerun
        return start

    async def start(self) -> Start:
        """Return the message that began this run."""
        start, _ = await self._start()
        return start

    async def record(self) -> Record:
        """Return what is recorded.

        Raises:
            UnreadableRecordError: The id is taken by something that is no record.
            Exception: Whatever the payload codec raises for payloads that it cannot decode.
        """
        pages = self.pages
        if pages.workflow_type != KEY_WORKFLOW:
            raise UnreadableRecordError(
                key=self.key_id, reason=f"its id is taken by a workflow of type {pages.workflow_type!r}"
            )
        if pages.closed_by is None and pages.pending is not None:
            return await self._record_of_pending(pages.pending)
        if pages.closed_by is None and pages.has_expired:
            return Unknown()
        if pages.closed_by is None and pages.scheduled is not None:
            return await self._record_of(pages.scheduled, ttl=None)
        if pages.closed_by == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED and pages.scheduled is None:
            return Unknown()  # its input was not made by a claim, and need not be readable
        start, content = await self._start()
        if start.forgotten:
            return Unknown()
        if pages.closed_by is not None:
            return await self._closed(start, content)
        return self._not_yet_scheduled(start, content)

    async def _closed(self, start: Start, content: Payload) -> Record:
        pages = self.pages
        if start.closes_when_settled and pages.scheduled is not None:
            record = await self._record_of(pages.scheduled, ttl=start.plan.ttl)
            if isinstance(record, Settled):
                return record
        if pages.closed_by == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            return Unknown()
        # Ended from outside: the last effect may have happened, unless the activity said that it did not.
        if pages.scheduled is None:
            match self._not_yet_scheduled(start, content):
                case Settled(outcome=Failed(is_definite=True)):
                    return Unknown()
                case _:
                    return Unknown(idempotency_key=start.idempotency_key)
        if pages.ended is not None and is_definite(pages.ended):
            return Unknown()
        _, idempotency_key = _execution_in(pages.scheduled)
        return Unknown(idempotency_key=idempotency_key)

    def _not_yet_scheduled(self, start: Start, content: Payload) -> Record:
        rollover = start.rollover
        execution = ExecutionRecord(
            life=self.pages.first_run_id,
            activity=start.activity,
            generation=start.generation,
            idempotency_key=start.idempotency_key
            or new_idempotency_key(self.pages.first_run_id, start.generation),
            fingerprint=None,
            started_at=self.pages.started_at,
        )
        if rollover is None:
            if self.with_fingerprint:
                execution = replace(execution, fingerprint=fingerprint(unpack(content)))
            return Executing(execution=execution)
        return Settled(
            execution=replace(execution, fingerprint=rollover.fingerprint, started_at=rollover.started_at),
            outcome=rolled_over(rollover, content),
            settled_at=rollover.settled_at,
            expires_at=rollover.expires_at,
        )

    async def _record_of_pending(self, pending: PendingActivityInfo) -> Record:
        if self.pages.scheduled is not None and self.pages.knows_arguments:
            return await self._record_of(self.pages.scheduled, ttl=None)
        generation, idempotency_key = parse_activity_id(pending.activity_id)
        return Executing(
            execution=ExecutionRecord(
                life=self.pages.first_run_id,
                activity=pending.activity_type.name,
                generation=generation,
                idempotency_key=idempotency_key,
                fingerprint=None,
                started_at=pending.scheduled_time.ToDatetime(tzinfo=UTC),
            )
        )

    async def _record_of(self, scheduled: HistoryEvent, *, ttl: timedelta | None) -> Record:
        pages = self.pages
        attributes = scheduled.activity_task_scheduled_event_attributes
        generation, idempotency_key = _execution_in(scheduled)
        execution = ExecutionRecord(
            life=pages.first_run_id,
            activity=attributes.activity_type.name,
            generation=generation,
            idempotency_key=idempotency_key,
            fingerprint=await self._fingerprint_of(attributes),
            started_at=pages.scheduled_at,
        )
        if pages.ended is None or is_cancellation(pages.ended):
            return Executing(execution=execution)
        outcome = await self._outcome(pages.ended, scheduled)
        settled_at = pages.noticed_at
        if settled_at is None:
            if isinstance(outcome, Failed):
                return Executing(execution=execution)
            settled_at = time_of(pages.ended)
        return Settled(
            execution=execution,
            outcome=outcome,
            settled_at=settled_at,
            expires_at=None if ttl is None else settled_at + ttl,
        )

    async def _outcome(self, ended: HistoryEvent, scheduled: HistoryEvent) -> Outcome:
        converter = self._activity_converter(scheduled.activity_task_scheduled_event_attributes)
        if ended.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            results = ended.activity_task_completed_event_attributes.result.payloads
            decoded = await _raw(converter, results)
            return Succeeded(decoded[0] if decoded else NO_RESULT)
        failure = failure_of(ended, scheduled)
        await converter.decode_failure(failure)  # out of the codec, in place
        return Failed(failure)

    async def _start(self) -> tuple[Start, Payload]:
        start, content = await _raw(self._workflow_converter(), self.pages.input)
        return decode(Start, start), content

    async def _fingerprint_of(self, scheduled: ActivityTaskScheduledEventAttributes) -> str | None:
        if not self.with_fingerprint:
            return None
        return fingerprint(await _raw(self._activity_converter(scheduled), scheduled.input.payloads))

    def _workflow_converter(self) -> DataConverter:
        return self.client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self.client.namespace, workflow_id=self.key_id)
        )

    def _activity_converter(self, scheduled: ActivityTaskScheduledEventAttributes) -> DataConverter:
        return self.client.data_converter.with_context(
            ActivitySerializationContext(
                namespace=self.client.namespace,
                workflow_id=self.key_id,
                workflow_type=KEY_WORKFLOW,
                activity_id=scheduled.activity_id,
                activity_type=scheduled.activity_type.name,
                activity_task_queue=scheduled.task_queue.name,
                is_local=False,
            )
        )


def _execution_in(scheduled: HistoryEvent) -> tuple[int, str]:
    """Return the generation and the idempotency key of an execution."""
    return parse_activity_id(scheduled.activity_task_scheduled_event_attributes.activity_id)


async def _raw(converter: DataConverter, payloads: Sequence[Payload]) -> list[Payload]:
    """Return payloads out of the codec, unconverted."""
    values = await converter.decode(payloads, [RawValue] * len(payloads))
    return [value.payload for value in values]

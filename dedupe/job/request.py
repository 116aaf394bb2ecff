"""The request: a call as a job wrote it becomes one that can be sent.

What would otherwise fail a workflow task for ever (options the service refuses, arguments that cannot be
encoded) fails the call here, before anything is scheduled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import Priority, RawValue
from temporalio.exceptions import FailureError
from temporalio.worker import StartActivityInput

from dedupe.errors import InvalidCallError
from dedupe.job.calls import Deduplication
from dedupe.job.limits import reason_against
from dedupe.model.fingerprint import fingerprint, with_sets_marked
from dedupe.model.messages import Plan, Question
from dedupe.model.payloads import cut, decode_within, is_bound, pack
from dedupe.sdk import name_of, traceparent_in


@dataclass(frozen=True, kw_only=True)
class Call:
    """One deduplicated call, ready to go."""

    key: str
    """As the job gave it."""
    question: Question
    input: StartActivityInput
    """The call as other interceptors have left it."""
    payloads: Sequence[Payload]
    """The encoded arguments."""
    ttl: timedelta | None
    reconcile: str | None
    """Name of the activity that finds out what became of an execution; None: there is none."""
    summary: str
    """What the Web UI shows beside its activities."""

    @property
    def is_here(self) -> bool:
        """Whether the activity belongs on the job's own task queue."""
        return self.input.task_queue in {None, workflow.info().task_queue}

    @property
    def arguments(self) -> Sequence[Any]:
        """The arguments, encoded already where that comes to the same."""
        if is_bound(workflow.payload_converter()):
            return self.input.args
        return [RawValue(payload) for payload in self.payloads]

    @property
    def packed(self) -> RawValue:
        """The encoded arguments as one value."""
        return pack(self.payloads)

    @property
    def plan(self) -> Plan:
        """How the key's own workflow executes the activity, where it is delegated."""
        given, info = self.input, workflow.info()
        return Plan(
            task_queue=given.task_queue or info.task_queue,
            schedule_to_close_timeout=given.schedule_to_close_timeout,
            schedule_to_start_timeout=given.schedule_to_start_timeout,
            start_to_close_timeout=given.start_to_close_timeout,
            heartbeat_timeout=given.heartbeat_timeout,
            retry_policy=given.retry_policy,
            priority=_inherited(given.priority, info.priority),
            summary=None if given.summary is None else cut(given.summary),
            headers={name: payload.SerializeToString() for name, payload in given.headers.items()},
        )


def prepare(
    deduplication: Deduplication, input: StartActivityInput, *, on_mismatch: str, searchable: bool
) -> Call:
    """Return the call that an activity input and its deduplication make.

    Args:
        deduplication: What the job said of the call, beyond a plain one.
        input: The call, as the SDK has it.
        on_mismatch: What other arguments mean, where the job does not say.
        searchable: Whether its execution has search attributes.

    Raises:
        InvalidCallError: It cannot be carried out.
        FailureError: The payload converter refuses the arguments.
    """
    key = deduplication.scoped.key
    invalid = reason_against(deduplication, input)
    if invalid is not None:
        raise InvalidCallError(activity=input.activity, key=key, reason=invalid)
    try:
        payloads = workflow.payload_converter().to_payloads(input.args) if input.args else []
    except FailureError:
        raise  # the converter's own word to the job
    except Exception as error:
        reason = f"its arguments cannot be encoded ({type(error).__name__})"
        raise InvalidCallError(activity=input.activity, key=key, reason=reason) from error
    return Call(
        key=deduplication.key,
        question=Question(
            key_id=deduplication.scoped.format(),
            key=key,
            activity=input.activity,
            skip_failure=deduplication.skip_failure,
            fingerprint=_fingerprint(input.args, payloads)
            if (deduplication.on_mismatch or on_mismatch) == "raise"
            else None,
            called_at=workflow.now(),
            hold=deduplication.on_unknown == "hold" or deduplication.reconcile is not None,
            reconciles=deduplication.reconcile is not None,
            within=decode_within(workflow.info().headers),
            traceparent=traceparent_in(input.headers),
            searchable=searchable,
        ),
        input=input,
        payloads=payloads,
        ttl=deduplication.ttl,
        reconcile=None if deduplication.reconcile is None else name_of(deduplication.reconcile),
        summary=cut(input.summary or f"{input.activity} · {key}"),
    )


def _fingerprint(arguments: Sequence[Any], payloads: Sequence[Payload]) -> str:
    marked = [with_sets_marked(argument) for argument in arguments]
    if all(one is other for one, other in zip(marked, arguments, strict=True)):
        return fingerprint(payloads)
    try:
        return fingerprint(workflow.payload_converter().to_payloads(marked))
    except Exception:  # noqa: BLE001 - a converter that takes the sets, but not what stands for them
        return fingerprint(payloads)


def _inherited(priority: Priority, job: Priority) -> Priority:
    """Return the call's priority, its gaps filled from the job's, as the service does it for activities."""
    return Priority(
        priority_key=priority.priority_key or job.priority_key,
        fairness_key=priority.fairness_key or job.fairness_key,
        fairness_weight=priority.fairness_weight or job.fairness_weight,
    )

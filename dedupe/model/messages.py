"""Messages: what travels between a job, the activities that read and execute for it, and the workflow of a
key.

New fields get defaults and unknown ones are ignored: workers of different versions read each other. How they
travel is in `dedupe.model.payloads`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, field_validator
from temporalio.common import Priority, RetryPolicy

from dedupe.model.keys import Scope, ScopedKey


class Message(BaseModel):
    """A model that crosses the wire."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class Question(Message):
    """What a call wants to know of its key."""

    key_id: str
    """Id of the key's workflow."""
    key: str
    """The key itself, or its HMAC where the project hides its keys."""
    activity: str
    skip_failure: bool = False
    fingerprint: str | None = None
    """Of the call's arguments, where others under the same key are an error."""
    called_at: AwareDatetime
    """The job's own time when it made the call: the clock by which a record expires for it."""
    hold: bool = False
    """Whether the call's execution is held, and not repeated, once its outcome is unknown."""
    reconciles: bool = False
    """Whether the call's job has an activity that finds out what became of such an execution."""
    within: frozenset[str] = frozenset()
    """The idempotency keys of the executions that have started the call's job: see `WITHIN`."""
    traceparent: str | None = None
    """Where the spans of the call belong, in the W3C's format; None: nothing of the SDK's traces it."""
    searchable: bool = False
    """Whether its execution has search attributes: see `dedupe.record.search`."""


class Plan(Message):
    """How a delegated activity is to be executed: the caller's own options."""

    task_queue: str
    schedule_to_close_timeout: timedelta | None = None
    schedule_to_start_timeout: timedelta | None = None
    start_to_close_timeout: timedelta | None = None
    heartbeat_timeout: timedelta | None = None
    retry_policy: RetryPolicy | None = None
    priority: Priority = Priority.default
    summary: str | None = None
    headers: Mapping[str, bytes] = {}
    """Serialized payloads by name."""


class CallOrder(Message):
    """Input of `ORDERED`, beside the packed arguments: the call to make."""

    activity: str
    key: str
    scope: Scope = Scope.PROJECT
    skip_failure: bool = False
    ttl: timedelta | None = None
    on_mismatch: str | None = None
    on_unknown: str | None = None
    reconcile: str | None = None
    """Name of the activity that finds out what became of an execution."""
    plan: Plan

    @field_validator("scope")
    @classmethod
    def _reaches_beyond_a_job(cls, scope: Scope) -> Scope:
        if scope is Scope.JOB:
            message = "Scope.JOB is that of jobs of one type: give Scope.PROJECT or Scope.ORGANIZATION"
            raise ValueError(message)
        return scope


class Order(Message):
    """What the twin of an activity has to know of the call it executes, beside the activity's own input.

    It travels as a header, which a payload codec need not cover: beyond what the workflow id of the key shows
    it holds a fingerprint, where the call asked for one, and ids and times, but nothing of the user's data.
    """

    key_id: str
    key: str | None = None
    """Where the id does not show it whole."""
    skip_failure: bool = False
    fingerprint: str | None = None
    hold: bool = False
    traceparent: str | None = None
    """See `Question`."""
    searchable: bool = False
    """See `Question`."""
    ttl: timedelta | None = None
    """How long the outcome is kept, from when it is recorded; None: for ever."""
    asked_at: AwareDatetime | None = None
    """Server time at which the call was first seen; None: now."""
    waited_for: str | None = None
    """The run of the key whose end this call has waited for."""

    @classmethod
    def to_execute(cls, question: Question, execute: "Execute", *, ttl: timedelta | None) -> "Order":
        """Return the order of a call that is to execute."""
        return cls(
            key_id=question.key_id,
            key=None if ScopedKey.parse(question.key_id).key == question.key else question.key,
            skip_failure=question.skip_failure,
            fingerprint=question.fingerprint,
            hold=question.hold,
            traceparent=question.traceparent,
            searchable=question.searchable,
            ttl=ttl,
            asked_at=execute.asked_at,
            waited_for=execute.waited_for,
        )

    def question(
        self, activity: str, *, called_at: datetime, within: frozenset[str] = frozenset()
    ) -> Question:
        """Return what the call wants to know of its key."""
        return Question(
            key_id=self.key_id,
            key=ScopedKey.parse(self.key_id).key if self.key is None else self.key,
            activity=activity,
            skip_failure=self.skip_failure,
            fingerprint=self.fingerprint,
            hold=self.hold,
            traceparent=self.traceparent,
            searchable=self.searchable,
            called_at=called_at,
            within=within,
        )


class Peeked(Message):
    """One question of a `Peek`."""

    question: Question
    here: bool = True
    """Whether the activity may be executed in place, as far as the job knows."""


class Peek(Message):
    """Input of a peek: the questions of calls that a job made together."""

    questions: tuple[Peeked, ...]
    task: int
    """Which of the job's workflow tasks it is: the length of the history at its start."""


class Claim(Message):
    """Input of a claim. What is delegated brings a plan, and the packed arguments beside it."""

    question: Question
    plan: Plan | None = None
    """None: the activity is executed in place, by the call that may."""
    ttl: timedelta | None = None
    asked_at: AwareDatetime | None = None
    """Server time at which the call was first seen; None: now."""
    waited_for: str | None = None
    """The run of the key whose end this call waits for."""
    reconcile_at: AwareDatetime | None = None
    """Server time from which on the job is to ask again what became of a held execution; None: at once."""


class Settle(Message):
    """Input of `RECORD`, beside the outcome: which call it is the end of."""

    question: Question
    activity_id: str = ""
    """Of the twin."""
    held_run: str | None = None
    """The held run of the key whose outcome it is, whoever's call that was; None: the call's own."""


class Inquiry(Message):
    """What an activity that reconciles has to know of the execution it asks about. A header, as `Order`."""

    key_id: str
    idempotency_key: str
    generation: int


class Execute(Message):
    """Answer to a call: nobody executes the key. Execute it in place."""

    kind: Literal["execute"] = "execute"
    asked_at: AwareDatetime | None = None
    waited_for: str | None = None


class Wait(Message):
    """Answer to a call: somebody executes the key, or a claim has to find out. Claim it."""

    kind: Literal["wait"] = "wait"
    asked_at: AwareDatetime | None = None
    run_id: str | None = None
    """The run that executes; None: not known."""
    held: str | None = None
    """Why that run is held; None: it is not, as far as is known."""
    reconcile_at: AwareDatetime | None = None
    """Server time from which on the job is to ask again what became of it; None: at once."""
    delegated: bool = False
    """Whether the activity cannot be executed in place, so that the key's own workflow is to schedule it."""


class Refused(Message):
    """Answer to a call: it cannot be carried out."""

    kind: Literal["refused"] = "refused"
    type: str
    """Of a `DedupeError`."""
    message: str


class NotHeld(Message):
    """Answer to `RECORD`: the call never held the key."""

    kind: Literal["not held"] = "not held"


class Reconcile(Message):
    """Answer to a call: the key is held. Ask what became of its execution."""

    kind: Literal["reconcile"] = "reconcile"
    asked_at: AwareDatetime | None = None
    run_id: str
    idempotency_key: str
    generation: int


Referral = Execute | Wait | Refused | NotHeld | Reconcile


class Executor(Message):
    """The call whose execution an outcome is."""

    job_id: str
    """Workflow id of its job."""
    traceparent: str | None = None
    """Where its spans belong: see `Question`."""


class FailureMessage(Message):
    """A failed outcome, on its way to the record or to a call."""

    failure: Mapping[str, Any]
    """The failure as protobuf JSON."""
    failed_at: AwareDatetime | None = None
    """On its way to a call: when it was recorded."""
    reused: bool = False
    executor: Executor | None = None
    """On its way to a call: who executed; None: the call itself."""


class Owner(Message):
    """The call that executes a key in place."""

    workflow_id: str
    run_id: str
    activity_id: str
    workflow_type: str = ""
    task_queue: str = ""
    longest_attempt: timedelta | None = None
    """The activity's start-to-close time-out, or what bounds an attempt in its place."""

    def is_same_call(self, other: "Owner") -> bool:
        """Return whether both are attempts of one call. A job that was reset makes another call."""
        mine = (self.workflow_id, self.run_id, self.activity_id)
        return mine == (other.workflow_id, other.run_id, other.activity_id)


class UnknownOutcome(Message):
    """Input of `UNKNOWN`."""

    why: str
    """For a person to read."""
    over_at: AwareDatetime
    """Server time at which the attempt must be over that may still have its effect."""


class Resolution(Message):
    """What an operator says beside an outcome."""

    reason: str = ""


class Start(Message):
    """Input of a key's workflow: one execution."""

    key: str
    activity: str
    generation: int = 1
    """1 for the key's first execution, one more for each that follows a failure."""
    idempotency_key: str
    fingerprint: str | None = None
    """Of the arguments; None where the call did not ask for it."""
    ttl: timedelta | None = None
    caller: str = ""
    """Workflow id of the job whose call is executed."""
    call: str = ""
    """What names that call, where its execution is delegated."""
    traceparent: str | None = None
    """Of that call: see `Question`."""
    owner: Owner | None = None
    """Who executes in place; None: the key's own workflow does, by `plan`."""
    plan: Plan | None = None
    hold: bool = False
    """Whether it is held, and not repeated, once its outcome is unknown."""
    unknown: UnknownOutcome | None = None
    """Why nothing is executed: it takes the place of a run whose outcome is unknown."""
    searchable: bool = False
    """Whether it has search attributes: see `dedupe.record.search`."""
    closes_when_settled: bool = False
    """Whether a delegated key's workflow ends with its activity: see `dedupe.record.timeskipping`."""


def earliest(asked_at: datetime | None, scheduled_at: datetime) -> datetime:
    """Return the server time at which a call was first seen."""
    return scheduled_at if asked_at is None else min(asked_at, scheduled_at)

"""Messages: what both sides of the wire agree on.

The registered names, and the models that travel between a job, the activities that read and execute for it,
and the workflow of a key. They are encoded here and not by the user's payload converter, so any converter
will do; they travel as ordinary payloads, so a payload codec covers them (but for `Order`, which is a
header). New fields get defaults and unknown ones are ignored: workers of different versions read each other.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from google.protobuf.message import DecodeError
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.common import Priority, RawValue, RetryPolicy
from temporalio.converter import PayloadConverter, WithSerializationContext, WorkflowSerializationContext

from dedupe.errors import CANNOT_TELL
from dedupe.model.keys import Scope, ScopedKey

IN_PLACE = "dedupe.in-place"
"""Workflow: a key that an activity of a job holds. It is started to lie dormant, and need never run."""
DELEGATED = "dedupe.delegated"
"""Workflow: a key that schedules the activity itself, on a task queue that is not the job's own."""
ORDERED = "dedupe.call"
"""Workflow: a job that makes one call, for somebody who has none."""
PEEK = "dedupe.peek"
"""Local activity of a job: read the records of the keys that its calls name."""
CLAIM = "dedupe.claim"
"""Activity of a job: wait for the outcome of a key that somebody else executes."""
RECORD = "dedupe.record"
"""Local activity of a job: record an end that the job learned of, and its activity could not record."""
TWIN = "dedupe:"
"""Prefix: `dedupe:send_email` is the activity `send_email`, executed under a key."""
OUTCOME = "outcome"
"""Signal to one run of a key's workflow: how its execution ended. The first one counts."""
ANSWERED = "answered"
"""Signal to the same: an attempt has failed, and said so. Sent where an unknown outcome is held."""
UNKNOWN = "unknown"
"""Signal to the same: an attempt has ended without an answer, so the key is held."""

MARK = "dedupe"
"""Key in a payload's metadata that tells what is ours from anything else; and the header of a twin."""

WITHIN = "dedupe-within"
"""Header of a job, and of its activities: the idempotency keys of the executions that have started it."""

WAITING = "dedupe.waiting"
"""Type of the benign error with which the attempt of a claim ends that has to come back."""

INTERRUPTED = "dedupe.interrupted"
"""Type of the error with which an attempt ends that was interrupted, where an unknown outcome is held."""
NO_ANSWERS = ("TemporalTimeout:StartToClose", "TemporalTimeout:Heartbeat", CANNOT_TELL)
"""Error types by which the service knows attempts without an answer, in what a policy does not retry."""

TOO_LARGE = "PayloadsTooLarge"
"""Type of the error with which workers of the SDK report a result that the service would not take.

They let it be retried; the service itself, to which other SDKs leave the judgement, does not."""

FORGOTTEN = "forgotten"
"""Details of a termination: the record was dropped on purpose, and the next execution begins anew."""
REPLACED = "replaced"
"""Details of a termination: another run follows, and until it does the record is as it was."""

_ANY = WorkflowSerializationContext(namespace="", workflow_id="")
_PACKED = b"packed"


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

    It travels as a header, which a payload codec need not cover: it holds nothing that the workflow id of the
    key does not show, but for a fingerprint, where the call asked for one.
    """

    key_id: str
    key: str | None = None
    """Where the id does not show it whole."""
    skip_failure: bool = False
    fingerprint: str | None = None
    hold: bool = False
    traceparent: str | None = None
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
_REFERRALS: TypeAdapter[Referral] = TypeAdapter(Annotated[Referral, Field(discriminator="kind")])
_REFERRAL = b"referral"


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
    closes_when_settled: bool = False
    """Whether a delegated key's workflow ends with its activity: see `dedupe.record.timeskipping`."""


_LONGEST_SUMMARY = 400
"""Bytes."""

MessageT = TypeVar("MessageT", bound=Message)


def cut(summary: str) -> str:
    """Return as much of a summary as the service takes."""
    return summary.encode()[:_LONGEST_SUMMARY].decode(errors="ignore")


def said_in(error: Exception) -> str:
    """Return what is wrong with the fields of a message, in a line and without their values."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def encode(message: Message) -> RawValue:
    """Return the message as a value that every payload converter passes through."""
    data = message.model_dump_json(exclude_defaults=True).encode()
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data))


def decode(model: type[MessageT], payload: Payload) -> MessageT:
    """Return the message in a payload.

    Raises:
        ValueError: The payload holds no such message.
    """
    return model.model_validate_json(payload.data)


_WITHIN = TypeAdapter(frozenset[str])


def encode_within(within: frozenset[str]) -> Payload:
    """Return a header that `decode_within` reads."""
    return Payload(metadata={"encoding": b"json/plain"}, data=_WITHIN.dump_json(within))


def decode_within(headers: Mapping[str, Payload]) -> frozenset[str]:
    """Return the executions that a job was started within, as headers say."""
    header = headers.get(WITHIN)
    try:
        return frozenset() if header is None else _WITHIN.validate_json(header.data)
    except ValueError:  # somebody else's
        return frozenset()


def encode_referral(referral: Referral) -> Payload:
    """Return a payload that `decode_referral` reads."""
    data = referral.model_dump_json(exclude_none=True).encode()
    return Payload(metadata={"encoding": b"json/plain", MARK: _REFERRAL}, data=data)


def is_referral(payload: Payload) -> bool:
    """Return whether a payload says where a call is to go on."""
    return payload.metadata.get(MARK) == _REFERRAL


def decode_referral(payload: Payload) -> Referral | None:
    """Return the referral in a payload; None where it holds none.

    Raises:
        ValueError: It is of a kind that this version does not know.
    """
    if not is_referral(payload):
        return None
    return _REFERRALS.validate_json(payload.data)


def pack(payloads: Sequence[Payload]) -> RawValue:
    """Return several payloads as one value: a single one as it is, others wrapped."""
    if len(payloads) == 1 and payloads[0].metadata.get(MARK) != _PACKED:
        return RawValue(payloads[0])
    return _wrapped(payloads)


def carry(payloads: Sequence[Payload], converter: PayloadConverter) -> RawValue:
    """Return what `pack` does, as the result of an activity of ours.

    A payload converter that is bound to a context reads payloads of that context only, raw ones too. What is
    recorded has the key's context and not the job's, so there it is always wrapped.
    """
    return _wrapped(payloads) if is_bound(converter) else pack(payloads)


def is_bound(converter: PayloadConverter) -> bool:
    """Return whether a payload converter does anything with a serialization context."""
    return isinstance(converter, WithSerializationContext) and converter.with_context(_ANY) is not converter


def _wrapped(payloads: Sequence[Payload]) -> RawValue:
    data = Payloads(payloads=payloads).SerializeToString()
    return RawValue(Payload(metadata={"encoding": b"binary/plain", MARK: _PACKED}, data=data))


def unpack(packed: Payload) -> list[Payload]:
    """Return the payloads in what `pack` made: `unpack(pack(a)) == a`.

    Raises:
        ValueError: It did not make this.
    """
    if packed.metadata.get(MARK) != _PACKED:
        return [packed]
    try:
        return list(Payloads.FromString(packed.data).payloads)
    except DecodeError as error:
        message = "these are not packed payloads"
        raise ValueError(message) from error


def pack_with(message: Message, content: Payload) -> RawValue:
    """Return a message and what it is about as one value. Codecs may change the number of several."""
    return pack([encode(message).payload, content])


def unpack_with(model: type[MessageT], packed: Payload) -> tuple[MessageT, Payload]:
    """Return the message and what it is about: what `pack_with` was given; an empty payload for a bare
    message.

    Raises:
        ValueError: It did not make this.
    """
    message, *content = unpack(packed)
    return decode(model, message), content[0] if content else Payload()


def earliest(asked_at: datetime | None, scheduled_at: datetime) -> datetime:
    """Return the server time at which a call was first seen."""
    return scheduled_at if asked_at is None else min(asked_at, scheduled_at)

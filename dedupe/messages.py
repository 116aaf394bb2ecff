"""Messages: what both sides of the wire agree on.

The registered names, and the models that travel between a job's interceptor, the claim and the key's
workflow. They are encoded here and not by the user's payload converter, so any converter will do; they
travel as ordinary payloads, so a payload codec covers them. New fields get defaults and unknown ones are
ignored: workers of different versions read each other.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from pydantic import AwareDatetime, BaseModel, ConfigDict
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.common import Priority, RawValue, RetryPolicy

KEY_WORKFLOW = "dedupe.key"
"""Workflow: one per key; executes the activity, is the lock, is the record."""
PEEK = "dedupe.peek"
"""Local activity of a job: read the record, if there is one."""
CLAIM = "dedupe.claim"
"""Activity of a job: start or join the key's execution."""
SETTLE = "dedupe.settle"
"""Local activity of the key's workflow: complete the claims that wait."""
ATTACH = "attach"
"""Signal: this claim waits for the key."""
RERUN = "rerun"
"""Signal: execute again what failed."""
FORGET = "forget"
"""Signal: drop the record."""

MARK = "dedupe"
"""Key in a payload's metadata that tells an answer, or packed arguments, from anything else."""

WAITING = "dedupe.waiting"
"""Type of the benign error with which the attempt of a claim ends that has to come back."""

TOO_LARGE = "PayloadsTooLarge"
"""Type of the error with which workers of the SDK report a result that the service would not take.

They let it be retried; the service itself, to which other SDKs leave the judgement, does not."""

_ARGUMENTS = b"arguments"


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
    """The job's own time when it made the call."""

    def within_key(self) -> "Question":
        """Return what the key's workflow has to know of it, which is not the key itself.

        Ten thousand of these may stand in its history, which the service ends at 50 MB.
        """
        return self.model_copy(update={"key": "", "key_id": ""})


class Peek(Message):
    """Input of a peek."""

    question: Question
    task: int
    """Which of the job's workflow tasks it is: the length of the history at its start."""


class Plan(Message):
    """How the activity is to be executed: the caller's own options, and how long the outcome is kept."""

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
    ttl: timedelta | None = None
    """How long the outcome is kept, from settlement; None: for ever."""


class Waiter(Message):
    """A claim that is open until the key is settled."""

    workflow_id: str
    run_id: str
    activity_id: str
    workflow_type: str = ""
    task_queue: str = ""


class Sighting(Message):
    """What the peek saw of a key that did not answer the call; it spares the claim a look of its own."""

    executing: bool = False
    turn: str = ""
    """Which execution it is; with `executing`."""
    unknown: bool = False
    """Nothing was ever recorded, as far as the service knew."""


class ClaimInput(Message):
    """Input of a claim, beside the packed arguments of the real activity."""

    question: Question
    plan: Plan
    sighting: Sighting


class FailureMessage(Message):
    """A failed outcome, on its way to a call."""

    failure: Mapping[str, Any]
    """The failure as protobuf JSON."""
    failed_at: AwareDatetime
    reused: bool


class Rollover(Message):
    """A settled record, on its way into the next run of its workflow."""

    settled_at: AwareDatetime
    started_at: AwareDatetime
    expires_at: AwareDatetime | None
    fingerprint: str
    failed: bool


class Start(Message):
    """Input of a key's workflow."""

    key: str
    activity: str
    plan: Plan
    caller: str = ""
    """Workflow id of the job whose call is executed."""
    waiters: tuple[Waiter, ...] = ()
    generation: int = 1
    """1 for the key's first execution, one more for each that follows a failure."""
    idempotency_key: str | None = None
    """The one to go on with, where the last execution may have had its effect."""
    closes_when_settled: bool = False
    """Whether a closed run is a record: see `dedupe.timeskipping`."""
    forgotten: bool = False
    """Whether this run only says that there is no record; with `closes_when_settled`."""
    rollover: Rollover | None = None
    """The record that the run before this one carried over."""


class Attach(Message):
    """A claim joins the key."""

    question: Question
    waiter: Waiter
    asked_at: AwareDatetime
    """Server time at which the call was made."""


class Rerun(Message):
    """A claim wants another execution of what failed, with its own arguments and options."""

    generation: int
    """The one that failed. If it is no longer the last, the request is void."""
    idempotency_key: str
    """Of the execution that failed; it tells one life of the key from another."""
    caller: str = ""
    """Workflow id of the job whose call is executed."""
    plan: Plan


class Forget(Message):
    """The record is to be dropped."""

    force: bool = False
    """Also while the key is executing."""
    life: str | None = None
    """The life of the key whose record is meant: the id of its first run. None: whichever."""


class Settlement(Message):
    """The claims to be completed with one answer."""

    waiters: tuple[Waiter, ...]


_LONGEST_SUMMARY = 400
"""Bytes."""

MessageT = TypeVar("MessageT", bound=Message)


def cut(summary: str) -> str:
    """Return as much of a summary as the service takes."""
    return summary.encode()[:_LONGEST_SUMMARY].decode(errors="ignore")


def encode(message: Message) -> RawValue:
    """Return the message as a value that every payload converter passes through."""
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=message.model_dump_json().encode()))


def decode(model: type[MessageT], payload: Payload) -> MessageT:
    """Return the message in a payload.

    Raises:
        ValueError: The payload holds no such message.
    """
    return model.model_validate_json(payload.data)


def pack(arguments: Sequence[Payload]) -> RawValue:
    """Return a call's encoded arguments as one value: a single argument as it is, others wrapped."""
    if len(arguments) == 1 and MARK not in arguments[0].metadata:
        return RawValue(arguments[0])
    data = Payloads(payloads=arguments).SerializeToString()
    return RawValue(Payload(metadata={"encoding": b"binary/plain", MARK: _ARGUMENTS}, data=data))


def unpack(packed: Payload) -> list[Payload]:
    """Return the arguments in what `pack` made: `unpack(pack(a)) == a`.

    Raises:
        ValueError: It did not make this.
    """
    if packed.metadata.get(MARK) != _ARGUMENTS:
        return [packed]
    try:
        return list(Payloads.FromString(packed.data).payloads)
    except DecodeError as error:
        message = "these are no packed arguments"
        raise ValueError(message) from error

"""Names: what is registered with the service, and the marks by which this package knows its own."""

from dedupe.errors import CANNOT_TELL

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
WAKE = "wake"
"""Update of the same: run, to show the key's state in the service's visibility. It wakes a dormant key."""

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

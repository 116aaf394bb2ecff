"""Activities that take effect once per key, on Temporal.

The way of one call, as a list of files to read:

- `job.calls`: what a job writes: `execute_activity`, with a key.
- `job.interceptor`: where the call enters and leaves; `job.request` is how it goes in, `job.answer` how it
  comes out.
- `job.steps`: its way through the job, from one activity to the next; `job.scheduled` is what those are.
- `job.peeking`, `claims.peek`: one reading of the records that a job asks for.
- `execution.interceptor`, `execution.attempt`: acquire the key, have the effect, record how it ended.
- `claims.claim`: wait for whoever executes, and take the place of one that is gone (`key.owner`);
  `claims.crowd` is what those who wait share.
- `claims.settle`: record an end that only the job knows.
- `key.unknown`, `model.findings`: what is held where nobody knows what happened, and what somebody found out.

All of them agree on what is in `model`: keys, messages, outcomes, what a key is, which call gets what.
`record` is the door to the service (`record.search`: what its visibility finds); `key` begins executions, and
serves the task queue of the keys.
`reach` makes calls for those who have no job, `telemetry` reports what comes of calls, `operate` is for
operators, `testing` for users' own tests. `plugin` wires, `process` runs workers, `sdk` holds what is relied
on inside the SDK, `errors` is everything that can be wrong.
"""

from dedupe.errors import (
    DedupeError,
    DeduplicationConflictError,
    InvalidCallError,
    InvalidDeduplicationKeyError,
    InvalidKeyspaceError,
    KeyChangedError,
    KeyExecutingError,
    KeyHeldError,
    KeyNotResolvedError,
    KeyNotRetriedError,
    PluginMissingError,
    ReconcileError,
    UnknownOutcomeError,
    UnprotectedExecutionError,
    UnreadableRecordError,
)
from dedupe.execution.current import Execution, current_execution
from dedupe.job.calls import execute_activity, start_activity
from dedupe.key.attempts import Attempts
from dedupe.model.declared import keyed
from dedupe.model.failed_result import FailedResult
from dedupe.model.findings import DidNotHappen, Happened, StillUnknown
from dedupe.model.keys import Scope
from dedupe.operate.forget import Forgotten
from dedupe.operate.job import JobCall, calls_of
from dedupe.operate.keys import DedupeKeys
from dedupe.operate.view import KeyRecord, KeyState
from dedupe.plugin import DedupePlugin
from dedupe.process import run, serve, serve_keys
from dedupe.reach.client import CallHandle, DedupeClient
from dedupe.telemetry.answers import AnsweredCall, CallAnswer

__all__ = [
    "AnsweredCall",
    "Attempts",
    "CallAnswer",
    "CallHandle",
    "DedupeClient",
    "DedupeError",
    "DedupeKeys",
    "DedupePlugin",
    "DeduplicationConflictError",
    "DidNotHappen",
    "Execution",
    "FailedResult",
    "Forgotten",
    "Happened",
    "InvalidCallError",
    "InvalidDeduplicationKeyError",
    "InvalidKeyspaceError",
    "JobCall",
    "KeyChangedError",
    "KeyExecutingError",
    "KeyHeldError",
    "KeyNotResolvedError",
    "KeyNotRetriedError",
    "KeyRecord",
    "KeyState",
    "PluginMissingError",
    "ReconcileError",
    "Scope",
    "StillUnknown",
    "UnknownOutcomeError",
    "UnprotectedExecutionError",
    "UnreadableRecordError",
    "calls_of",
    "current_execution",
    "execute_activity",
    "keyed",
    "run",
    "serve",
    "serve_keys",
    "start_activity",
]

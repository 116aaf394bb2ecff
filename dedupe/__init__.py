"""Activities that take effect once per key, on Temporal.

The way of one call, as a list of files to read:

- `calls`: what a job writes: `execute_activity`, with a key.
- `interceptor`: where the call leaves the road (`preparation`), and where it comes back (`opening`).
- `keys`: what makes two calls the same call.
- `messages`: what both sides of the wire agree on.
- `decision`: which call gets what.
- `peek`: one look at the record, and what it leaves in the job's history.
- `claim`: the round trip to the key's workflow; `key_handle` is that workflow as seen from outside.
- `ledger`: reading a record out of a key's `history`; `pages` are the events of it that matter.
- `key_workflow`: one per key: executes, locks, records.
- `settle`: answering all that wait.
- `outcome`: how an execution ended, and what a call gets of it.

Beside the road: `errors`, `execution` (for activities), `plugin` and `key_server` (wiring), `takeover` (after
a lost attempt), `farewell` (of a process that drains), `timeskipping` (the test server), `admin` and
`__main__` (for operators).

Executing in place is being built beside this way, and will replace it: `in_place` is its plugin; its folders
are `model` (what a key is), `job` (in the caller's workflow), `execution` (around the activity), `claims`
(reading for a job), `key` (owners and replacements), `record` (the door to the service) and `operate`. See
docs/decisions/0014-in-place-in-parts.md.
"""

from dedupe.admin import DedupeKeys, KeyRecord, KeyState
from dedupe.calls import execute_activity, start_activity
from dedupe.errors import (
    DedupeError,
    DeduplicationConflictError,
    InvalidCallError,
    InvalidDeduplicationKeyError,
    InvalidKeyspaceError,
    KeyExecutingError,
    KeyNotForgottenError,
    PluginMissingError,
    UnprotectedExecutionError,
    UnreadableRecordError,
)
from dedupe.execution.current import Execution, current_execution
from dedupe.keys import Scope
from dedupe.outcome import FailedResult
from dedupe.plugin import DedupePlugin

__all__ = [
    "DedupeError",
    "DedupeKeys",
    "DedupePlugin",
    "DeduplicationConflictError",
    "Execution",
    "FailedResult",
    "InvalidCallError",
    "InvalidDeduplicationKeyError",
    "InvalidKeyspaceError",
    "KeyExecutingError",
    "KeyNotForgottenError",
    "KeyRecord",
    "KeyState",
    "PluginMissingError",
    "Scope",
    "UnprotectedExecutionError",
    "UnreadableRecordError",
    "current_execution",
    "execute_activity",
    "start_activity",
]

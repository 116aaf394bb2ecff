"""The execution an activity belongs to, seen from inside the activity.

In place it is handed to the activity in a context variable. Otherwise it is read from the ids that Temporal
gives every activity: the workflow id is the scoped key, and the activity id holds the generation and the
idempotency key. So a worker that runs the real activities needs no plugin, and a worker in another language
can read them too.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from temporalio import activity

from dedupe.model.keys import ScopedKey
from dedupe.model.names import DELEGATED

_SEPARATOR = ":"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What a deduplicated activity knows of its own execution."""

    key: str
    """The deduplication key: its HMAC where the project hides its keys; of a key too long for a workflow
    id, the head with the digest."""
    generation: int
    """1 for the key's first execution, one more for each that follows a failure."""
    idempotency_key: str
    """To be handed to the provider of the side effect: 38 characters or a few more, letters, digits, `-`.

    The same for all attempts, callers and workers. It moves on when the key is executed again after a
    non-retryable error, and stays where the last end left open whether the effect happened.
    """


CURRENT: ContextVar[Execution | None] = ContextVar("dedupe-execution", default=None)
"""The execution that is under way in place."""
OUTSIDE: ContextVar[frozenset[str]] = ContextVar("dedupe-outside", default=frozenset())
"""The idempotency keys of the executions within which the activity's job was started."""


def current_execution() -> Execution | None:
    """Return the deduplicated execution that the running activity belongs to; None where it has no key.

    Raises:
        RuntimeError: Called outside of an activity.
    """
    info = activity.info()
    if info.workflow_type != DELEGATED or info.workflow_id is None:
        return CURRENT.get()
    generation, idempotency_key = parse_activity_id(info.activity_id)
    return Execution(
        key=ScopedKey.parse(info.workflow_id).key, generation=generation, idempotency_key=idempotency_key
    )


def format_activity_id(generation: int, idempotency_key: str) -> str:
    """Return the id of the activity that executes a key."""
    return f"{generation}{_SEPARATOR}{idempotency_key}"


def parse_activity_id(activity_id: str) -> tuple[int, str]:
    """Return generation and idempotency key: what `format_activity_id` was given."""
    generation, _, idempotency_key = activity_id.partition(_SEPARATOR)
    return int(generation), idempotency_key

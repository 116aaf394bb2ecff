"""Jobs and activities that ask for what cannot work, or only just does."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any, Literal, cast

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ApplicationError

from dedupe import execute_activity

ODD_KEYS: dict[str, Any] = {
    "none": None,
    "bytes": b"key",
    "number": 7,
    "empty": "",
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b",
    "one too long": "k" * 2_049,
}
"""What is no key."""

ODD_OPTIONS: dict[str, dict[str, Any]] = {
    "priority out of range": {"priority": Priority(priority_key=100)},
    "fairness key too long": {"priority": Priority(fairness_key="f" * 65)},
    "fairness key that is no text": {"priority": Priority(fairness_key="f\ud800")},
    "negative fairness weight": {"priority": Priority(fairness_weight=-1.0)},
    "task queue too long": {"task_queue": "q" * 1_001},
    "reserved task queue": {"task_queue": "/_sys/queue"},
    "task queue that is no text": {"task_queue": "q\ud800"},
    "summary that is no text": {"summary": "s\ud800"},
    "summary too long": {"summary": "s" * 100_000},
    "heartbeat longer than the attempt": {"heartbeat_timeout": timedelta(days=400)},
    "endless timeout": {"start_to_close_timeout": timedelta(days=400_000)},
    "backoff below one": {"retry_policy": RetryPolicy(backoff_coefficient=0.5)},
    "negative interval": {"retry_policy": RetryPolicy(initial_interval=timedelta(seconds=-1))},
    "no activity name": {"activity": ""},
    "activity name too long": {"activity": "a" * 1_001},
    "activity name that is no text": {"activity": "a\ud800"},
}
"""Options that a service may refuse."""

TAKEN = {
    "priority out of range",
    "summary too long",
    "heartbeat longer than the attempt",
}
"""Those of them that it takes after all."""


class Ask(BaseModel, frozen=True):
    """What to call."""

    key: str
    odd_key: str | None = None
    odd_options: str | None = None
    activity: str = "measure"
    text: str = ""
    grow_to: int = 0
    """Bytes to which the job itself fills up the argument."""
    number: int = 0


@workflow.defn
class AwkwardJob:
    """Makes a call, and returns the digest of what it got."""

    @workflow.run
    async def run(self, ask: Ask) -> str:
        """Return the length and digest of the answer."""
        options: dict[str, Any] = {
            "start_to_close_timeout": timedelta(seconds=20),
            "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2),
            "activity": ask.activity,
            **ODD_OPTIONS.get(ask.odd_options or "", {}),
        }
        name = options.pop("activity")
        argument: Any = ask.number or ask.text.ljust(ask.grow_to, "x")
        answer: Any = await execute_activity(
            name,
            argument,
            deduplication_key=ODD_KEYS[ask.odd_key] if ask.odd_key else ask.key,
            **options,
        )
        return digest(str(answer))


@workflow.defn
class TypedJob:
    """Calls an activity that does not return what it says."""

    @workflow.run
    async def run(self, key: str) -> int:
        """Return the number."""
        return await execute_activity(
            no_number,
            deduplication_key=key,
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


HIDDEN = "ada.lovelace@example.com"


@workflow.defn
class HiddenJob:
    """Uses a key that nobody is to see."""

    @workflow.run
    async def run(self, kind: Literal["works", "fails", "conflicts", "is too long"]) -> str:
        """Make a call that ends in one of these ways."""
        key = HIDDEN * 100 if kind == "is too long" else f"{HIDDEN} {kind}"
        options: dict[str, Any] = {
            "start_to_close_timeout": timedelta(seconds=20),
            "retry_policy": RetryPolicy(maximum_attempts=1),
        }
        if kind == "conflicts":
            await execute_activity("measure", "abc", deduplication_key=key, **options)
        name = "end" if kind in {"fails", "conflicts"} else "measure"
        return str(await execute_activity(name, "cancelled", deduplication_key=key, **options))


def digest(text: str) -> str:
    """Return what tells one long text from another."""
    return f"{len(text)}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Silent(BaseException):
    """Not an `Exception`."""


Ending = Literal["unserialisable", "no exception", "cancelled", "surrogate", "long"]


@activity.defn
async def measure(text: str) -> int:
    """Return how long a text is."""
    return len(text)


@activity.defn
async def grow(size: str) -> str:
    """Return a text of that length."""
    return "x" * int(size)


@activity.defn
async def end(ending: Ending) -> None:
    """End in a way that no activity should."""
    match ending:
        case "unserialisable":
            raise ApplicationError("details that cannot be encoded", object())
        case "no exception":
            raise Silent("nothing catches this")
        case "cancelled":
            raise asyncio.CancelledError("by itself")
        case "surrogate":
            raise ValueError("a\ud800b")
        case "long":
            raise ValueError("e" * 3_000_000)


@activity.defn
def leave(_: str) -> None:
    """End the thread as `sys.exit` does."""
    raise SystemExit(3)


@activity.defn
async def no_number() -> int:
    """Return something else."""
    return cast("int", cast("object", "not a number"))

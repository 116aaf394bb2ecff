"""Calls that cannot be carried out."""

import math
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

import dedupe

BAD: dict[str, dict[str, Any]] = {
    "empty key": {"deduplication_key": ""},
    "no key": {"deduplication_key": None},
    "key that is a number": {"deduplication_key": 7},
    "key that is bytes": {"deduplication_key": b"key"},
    "NUL": {"deduplication_key": "marked\0key"},
    "one character too long": {"deduplication_key": "marked" + "x" * 2043},
    "lone surrogate": {"deduplication_key": "marked\ud800"},
    "no scope": {"deduplication_scope": "galaxy"},
    "no time-out": {"start_to_close_timeout": None},
    "negative time-out": {"start_to_close_timeout": timedelta(seconds=-1)},
    "zero heartbeat": {"heartbeat_timeout": timedelta(0)},
    "cancellation that waits": {
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
    },
    "zero TTL": {"deduplication_ttl": timedelta(0)},
    "negative TTL": {"deduplication_ttl": timedelta(days=-1)},
    "TTL that is a number": {"deduplication_ttl": 60},
    "skipping that is no answer": {"skip_failure": None},
    "unknown mismatch": {"on_mismatch": "ignore"},
    "bad retry policy": {"retry_policy": RetryPolicy(maximum_attempts=-1)},
    "unknown option": {"deduplicaton_ttl": timedelta(1)},
    "arguments that cannot be encoded": {"args": [object()]},
    "argument twice": {"arg": 1, "args": [1]},
    "time-out that is a number": {"start_to_close_timeout": 5},
    "TTL beyond all time": {"deduplication_ttl": timedelta.max},
    "time-out beyond all time": {"start_to_close_timeout": timedelta.max},
    "retry policy that is a number": {"retry_policy": 3},
    "task queue too long": {"task_queue": "q" * 1001},
    "reserved task queue": {"task_queue": "/_sys/queue"},
    "activity name too long": {"activity": "a" * 1001},
    "empty activity name": {"activity": ""},
    "retry back-off below one": {"retry_policy": RetryPolicy(backoff_coefficient=0.5)},
    "retry back-off without end": {"retry_policy": RetryPolicy(backoff_coefficient=math.inf)},
    "retry back-off that is no number": {"retry_policy": RetryPolicy(backoff_coefficient=math.nan)},
    "retry interval beyond all time": {"retry_policy": RetryPolicy(initial_interval=timedelta.max)},
    "priority beyond all numbers": {"priority": Priority(priority_key=2**40)},
    "fairness without end": {"priority": Priority(fairness_weight=math.inf)},
    "fairness key too long": {"priority": Priority(fairness_key="f" * 100)},
    "activity id too long": {"activity_id": "i" * 1001},
    "task queue that is a number": {"task_queue": 3},
    "summary that is a number": {"summary": 3},
}
KEY_TROUBLE = {
    "empty key",
    "no key",
    "key that is a number",
    "key that is bytes",
    "NUL",
    "one character too long",
    "lone surrogate",
    "no scope",
}


@workflow.defn
class Bad:
    """Makes one call that cannot be carried out."""

    @workflow.run
    async def run(self, name: str) -> Any:
        """See the class."""
        options: dict[str, Any] = {
            "deduplication_key": "marked-key",
            "start_to_close_timeout": timedelta(seconds=5),
            **BAD[name],
        }
        if "args" not in options:
            options["arg"] = "argument"
        return await dedupe.execute_activity(options.pop("activity", "effect"), **options)

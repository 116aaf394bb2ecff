"""The job that makes one call for somebody outside: it runs in a worker of the user's, beside their jobs."""

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

from dedupe.job.calls import execute_activity
from dedupe.model.failed_result import FailedResult, encode_failed_result
from dedupe.model.messages import CallOrder
from dedupe.model.names import ORDERED
from dedupe.model.payloads import unpack, unpack_with

_OF_PLAN = (
    "schedule_to_close_timeout",
    "schedule_to_start_timeout",
    "start_to_close_timeout",
    "heartbeat_timeout",
    "retry_policy",
    "summary",
    "priority",
)


@workflow.defn(name=ORDERED)
class OrderedCall:
    """Makes one deduplicated call, and returns its result."""

    @workflow.run
    async def run(self, order: RawValue) -> RawValue:
        """Make the call. Its arguments and its result pass as they are."""
        message, packed = unpack_with(CallOrder, order.payload)
        result: RawValue | FailedResult = await execute_activity(
            message.activity,
            args=[RawValue(argument) for argument in unpack(packed)],
            result_type=RawValue,
            **_options(message),
        )
        return RawValue(encode_failed_result(result)) if isinstance(result, FailedResult) else result


def _options(order: CallOrder) -> dict[str, Any]:
    given = {
        **{name: getattr(order.plan, name) for name in _OF_PLAN},
        "deduplication_key": order.key,
        "deduplication_scope": order.scope,
        "deduplication_ttl": order.ttl,
        "skip_failure": order.skip_failure,
        "on_mismatch": order.on_mismatch,
        "on_unknown": order.on_unknown,
        "reconcile": order.reconcile,
    }
    return {name: value for name, value in given.items() if value is not None}

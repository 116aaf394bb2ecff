"""Failed results: what a call that skips failures returns."""

from datetime import UTC, datetime

import pytest
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from dedupe.model.failed_result import failed_result

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        (ApplicationError("no", type="Refused"), "Refused", "no"),
        (ApplicationError("no"), "ApplicationError", "no"),
        (ActivityTimeoutError("late", type=None, last_heartbeat_details=[]), "TimeoutError", "late"),
        (None, "ActivityError", "Activity task failed"),
    ],
)
def test_a_failed_result_is_named_after_its_cause(
    cause: BaseException | None, kind: str, message: str
) -> None:
    """Type and message of a failed result are the cause's; of an error without one its own."""
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="effect",
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause
    result = failed_result(error, key="key", activity="effect", failed_at=NOW, reused=True)
    assert (result.type, result.message) == (kind, message)
    assert (result.key, result.activity, result.failed_at, result.reused) == ("key", "effect", NOW, True)
    assert result.error is error

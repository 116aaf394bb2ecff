"""Values that activities return, and failures that they end with, as they travel."""

from typing import Any

from hypothesis import strategies as st
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ActivityError, ApplicationError

FALSY: list[Any] = [None, False, True, 0, "", [], {}, b"", 0.5, "text"]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(FALSY),
    st.binary(max_size=50),
    st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3)),
)


def failure(cause: BaseException) -> Failure:
    """Return the failure of an activity."""
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="worker",
        activity_type="effect",
        activity_id="1:i-1",
        retry_state=None,
    )
    error.__cause__ = cause
    encoded = Failure()
    DefaultFailureConverter().to_failure(error, DefaultPayloadConverter(), encoded)
    return encoded


LONG = ApplicationError("no", "d" * 1_600_000, type="No")

"""The execution that an activity belongs to, as the activity sees it."""

import pytest
from temporalio.testing import ActivityEnvironment

from dedupe import Execution, current_execution
from dedupe.execution.current import CURRENT, format_activity_id, parse_activity_id
from dedupe.model.names import DELEGATED
from tests.unit.test_email import environment


def test_outside_of_an_activity_there_is_none() -> None:
    """It is an error of the program, as with `activity.info()`."""
    with pytest.raises(RuntimeError):
        current_execution()


async def test_a_plain_call_has_none() -> None:
    """An activity that was called without a key."""
    assert await ActivityEnvironment().run(_current) is None


async def test_in_place_it_is_handed_over() -> None:
    """The activity belongs to its job, and a context variable holds the execution."""
    execution = Execution(key="key", generation=2, idempotency_key="i-2")
    token = CURRENT.set(execution)
    try:
        assert await ActivityEnvironment().run(_current) == execution
    finally:
        CURRENT.reset(token)


async def test_delegated_it_is_read_from_the_ids() -> None:
    """A worker without the plugin, or in another language, has all that it needs."""
    place = environment(
        workflow_type=DELEGATED,
        workflow_id="proj:acme/web:order%201",
        activity_id=format_activity_id(3, "0a1b2c-3"),
    )
    assert await place.run(_current) == Execution(key="order 1", generation=3, idempotency_key="0a1b2c-3")


def test_an_activity_id_is_read_as_it_was_written() -> None:
    """`parse_activity_id(format_activity_id(g, k)) == (g, k)`."""
    assert parse_activity_id(format_activity_id(12, "a:b-12")) == (12, "a:b-12")


async def _current() -> Execution | None:
    return current_execution()

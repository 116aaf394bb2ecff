"""Results come back whole, from activities of every kind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.exceptions import ActivityError, ApplicationError

from dedupe import KeyState
from dedupe.model.names import CLAIM, MARK, PEEK
from tests.support.ground import Ground, Grounds
from tests.support.histories import markers
from tests.workflow.values import (
    KINDS,
    KINDS_RESULTS,
    PLAIN,
    PYDANTIC,
    Kinds,
    Large,
    Mistyped,
    Results,
    Service,
    give_large,
    give_zero,
)


@pytest.mark.parametrize(
    ("converter", "giving"),
    [(DataConverter.default, PLAIN), (pydantic_data_converter, PLAIN | PYDANTIC)],
    ids=["default", "pydantic"],
)
async def test_a_result_is_the_same_fresh_and_recorded(
    grounds: Grounds, converter: DataConverter, giving: dict[Callable[..., Any], Any]
) -> None:
    """Every result, falsy or not, has its value and its type, for the first call and for later ones."""
    ground = grounds(client_config={"data_converter": converter})
    expected = [repr(value) for value in giving.values()]
    names = [give.__name__ for give in giving]
    async with ground.worker(workflows=[Results], activities=[*giving]):
        assert await ground.run(Results.run, names) == expected
        assert await ground.scheduled() == [ground.miss_of(name) for name in names]
        assert await ground.run(Results.run, names) == expected
        history = await ground.history()
    assert markers(history) == [PEEK]
    assert await ground.scheduled() == []


async def test_activities_of_every_kind_are_deduplicated(ground: Ground) -> None:
    """Functions and methods, async and threaded, by name and renamed, with no to many arguments."""
    service = Service("Hello")
    with ThreadPoolExecutor(4) as threads:
        async with ground.worker(
            workflows=[Kinds],
            activities=[*KINDS, service.greet, service.greet_in_a_thread],
            activity_executor=threads,
        ):
            assert await ground.run(Kinds.run) == KINDS_RESULTS
            assert await ground.run(Kinds.run) == KINDS_RESULTS
            assert await ground.scheduled() == []


async def test_a_result_too_large_for_a_marker_comes_through_the_claim(ground: Ground) -> None:
    """A large result is reused as any other; it does not swell the job's history twice."""
    size = 1_000_000
    async with ground.worker(workflows=[Large], activities=[give_large]):
        assert await ground.run(Large.run, size) == size
        assert await ground.run(Large.run, size) == size
        assert await ground.scheduled() == [CLAIM]


async def test_a_result_as_large_as_the_service_takes_is_recorded(real_grounds: Grounds) -> None:
    """The largest result that fits is told and recorded: the mark of a record takes twenty bytes of it."""
    recorded = Payload(metadata={"encoding": b"binary/plain", MARK: b"succeeded"}, data=b"x" * 2_000_000)
    largest = 2 * 1024 * 1024 - Payloads(payloads=[recorded]).ByteSize() + len(recorded.data)
    ground, other = real_grounds(), real_grounds()
    async with ground.worker(workflows=[Large], activities=[give_large]):
        assert await ground.run(Large.run, largest) == largest
        assert await ground.run(Large.run, largest) == largest
    async with other.worker(workflows=[Large], activities=[give_large]):
        with pytest.raises(WorkflowFailureError) as caught:
            await other.run(Large.run, largest + 1)
    error = caught.value.cause
    assert isinstance(error, ActivityError)
    assert "over the limit" in str(error.cause)
    assert await other.state("large") is KeyState.FAILED


async def test_a_result_too_large_to_record_fails_the_call(real: Ground) -> None:
    """A result over the service's limit is a clear error, and settles the key as failed."""
    async with real.worker(workflows=[Large], activities=[give_large]):
        with pytest.raises(WorkflowFailureError) as caught:
            await real.run(Large.run, 3_000_000)
        error = caught.value.cause
        assert isinstance(error, ActivityError)
        assert error.activity_type == "give_large"
        record = await real.keys.get("large")
        assert record is not None
        assert record.state.value == "failed"


async def test_a_result_of_another_type_is_a_clear_error(ground: Ground) -> None:
    """A record that does not decode to the call's type fails the job and names the key; the record stays."""
    async with ground.worker(workflows=[Mistyped], activities=[give_zero]):
        with pytest.raises(WorkflowFailureError) as caught:
            await ground.run(Mistyped.run)
        error = caught.value.cause
        assert isinstance(error, ApplicationError)
        assert error.type == "UnreadableRecordError"
        assert "'key'" in error.message
        assert await ground.keys.get("key") is not None

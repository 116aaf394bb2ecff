"""The core against a model of a key over time: calls, failures and expiries, months of them in seconds.

The model is a fold over the steps. One job makes them all on the server that skips time; each of its calls
must end as the model says, and the activity must have executed for just the calls that the model says.
"""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from dedupe import Scope
from tests.support.ground import Ground
from tests.support.scripts import Call, Ended, PacedScript

TTL = timedelta(hours=10)


@dataclass(frozen=True)
class Step:
    """Some time passes; then the job makes a call, or the same call twice at once."""

    key: str
    scope: Scope
    fails: bool
    """How the activity ends, should it execute."""
    skip_failure: bool
    ttl: timedelta | None
    callers: int
    after: timedelta | None

    def call(self, number: int) -> Call:
        """Return the call that the job makes."""
        return Call(
            argument=[number, self.fails],
            key=self.key,
            scope=self.scope,
            skip_failure=self.skip_failure,
            ttl=self.ttl,
            after=self.after,
        )


# No sum of the pauses comes near a multiple of the TTL: what a call itself takes decides nothing.
PAUSES = [None, timedelta(hours=4), timedelta(hours=11)]
STEPS = st.lists(
    st.builds(
        Step,
        key=st.sampled_from(["a", "b"]),
        scope=st.sampled_from([Scope.PROJECT, Scope.ORGANIZATION]),
        fails=st.booleans(),
        skip_failure=st.booleans(),
        ttl=st.sampled_from([None, TTL]),
        callers=st.integers(1, 2),
        after=st.sampled_from(PAUSES),
    ),
    min_size=3,
    max_size=12,
)


@dataclass(frozen=True)
class Record:
    """What the model knows of a key."""

    number: int
    failed: bool
    expires_at: timedelta | None


def model(steps: list[Step]) -> tuple[list[list[Ended]], list[int]]:
    """Return how the calls of each step end, and for which of them the activity executes."""
    ends: list[list[Ended]] = []
    executed: list[int] = []
    records: dict[tuple[str, Scope], Record] = {}
    now = timedelta(0)
    for number, step in enumerate(steps):
        now += step.after or timedelta(0)
        record = records.get((step.key, step.scope))
        if record is not None and record.expires_at is not None and record.expires_at <= now:
            record = None
        reused = record is not None and (step.skip_failure or not record.failed)
        if record is None or not reused:
            executed.append(number)
            expires_at = None if step.ttl is None else now + step.ttl
            record = Record(number=number, failed=step.fails, expires_at=expires_at)
        records[step.key, step.scope] = record
        ends.append([_end(step, record, reused=reused)] * step.callers)
    return ends, executed


def _end(step: Step, record: Record, *, reused: bool) -> Ended:
    if not record.failed:
        return Ended(value=[record.number, False])
    if not step.skip_failure:
        return Ended(error="ActivityError", type="Refused", message=str(record.number), activity="effect")
    return Ended(
        failed="Refused",
        type="ApplicationError",
        message=str(record.number),
        activity="effect",
        reused=reused,
        key=step.key,
    )


async def play(client: Client, steps: list[Step]) -> None:
    """Make the steps on the server and on the model, and compare."""
    executed: list[int] = []

    @activity.defn
    async def effect(argument: tuple[int, bool]) -> tuple[int, bool]:
        number, fails = argument
        executed.append(number)
        if fails:
            raise ApplicationError(str(number), type="Refused", non_retryable=True)
        return argument

    ground = Ground.on(client, skips_time=True)
    ground.effects.effect = effect  # type: ignore[method-assign]
    async with ground.worker(workflows=[PacedScript]):
        ends = await ground.script(
            *([step.call(number)] * step.callers for number, step in enumerate(steps)), job=PacedScript.run
        )
    assert (ends, executed) == model(steps)
    await ground.replay()


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(STEPS)
async def test_a_key_over_time_does_what_its_model_does(skipping_client: Client, steps: list[Step]) -> None:
    """Whatever is called, fails and expires, in whatever order, each call gets the model's answer."""
    await play(skipping_client, steps)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
async def test_a_key_over_time_does_what_its_model_does_for_long(
    skipping_client: Client, steps: list[Step]
) -> None:
    """The same, with many more sequences."""
    await play(skipping_client, steps)

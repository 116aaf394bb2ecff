"""The shapes of the corpus: what a job and its key may go through."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from dedupe import DidNotHappen, Happened, KeyState, StillUnknown, UnknownOutcomeError
from dedupe.model.outcome import Outcome
from dedupe.record.handle import KeyHandle
from tests.support.faults import break_peeks
from tests.support.ground import Ground
from tests.support.histories import types
from tests.support.scripts import Call
from tests.support.waiting import until

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)

Shape = Callable[[Ground], Awaitable[None]]


async def succeeded(ground: Ground) -> None:
    """A miss, then a hit."""
    await ground.call(Call(argument="first"))
    await ground.call(Call(argument="second"))


async def executing(ground: Ground) -> None:
    """A job that waits, and a key that executes."""
    ground.effects.close()
    await ground.start_script(Call())
    await ground.effects.seen(1)


async def shared(ground: Ground) -> None:
    """Calls that wait, in one job and in another, and one execution for them all."""
    gate = ground.effects.close()
    await ground.start_script([Call(argument=number) for number in range(3)])
    await ground.effects.seen(1)
    other = await ground.start_script(Call(argument="other"))
    await ground.claiming(3, 0, owner=True)
    await ground.claiming(1)
    gate.set()
    for job in (*ground.jobs[:1], other):
        await job.result()


async def failed_and_executed_again(ground: Ground) -> None:
    """Three generations: a definite failure, attempts that ran out, and a success."""
    ground.effects.then(
        ApplicationError("no", "detail", type="Refused", non_retryable=True),
        ApplicationError("no"),
        ApplicationError("no"),
    )
    await ground.call(Call(argument="first"))
    await ground.call(Call(argument="second", attempts=2))
    await ground.call(Call(argument="third"))
    await ground.call(Call(argument="fourth"))


async def failed_and_skipped(ground: Ground) -> None:
    """A failure returned fresh, and reused."""
    ground.effects.then(ApplicationError("no", type="Refused"))
    await ground.call(Call(skip_failure=True))
    await ground.call(Call(skip_failure=True))


async def timed_out(ground: Ground) -> None:
    """An execution that timed out, and the next one."""
    gate = ground.effects.close()
    await ground.call(Call(start_to_close_timeout=SECOND))
    gate.set()
    await ground.call()


async def held_and_reconciled(ground: Ground) -> None:
    """An execution of which nobody knew, until an activity of the job found out."""
    ground.effects.then("lost", StillUnknown(), Happened("found"))
    ground.effects.close()
    job = await ground.start_script(Call(reconcile="other", start_to_close_timeout=SECOND))
    await ground.effects.seen(1)
    ground.effects.gate = None
    await job.result()


async def held_and_resolved(ground: Ground) -> None:
    """The same, until a person said that it did not happen: a retry first, and then the next execution."""
    ground.effects.then(ApplicationError("busy"))
    job = await ground.start_script(Call(on_unknown="hold", attempts=3, start_to_close_timeout=SECOND))
    await ground.effects.seen(1)
    ground.effects.close()
    await ground.reached(KeyState.HELD)
    ground.effects.gate = None
    await ground.keys.resolve("key", DidNotHappen(), force=True)
    await job.result()


async def expired(ground: Ground) -> None:
    """A key whose time is over, and the next life of it."""
    ttl = HOUR if ground.skips_time else SECOND
    await ground.script(
        Call(argument="first", ttl=ttl), Call(ttl=ttl), Call(argument="second", after=1.5 * ttl, ttl=HOUR)
    )


async def run_out(ground: Ground) -> None:
    """A key whose time is over, and that nobody has asked for since."""
    await ground.call(Call(ttl=SECOND, start_to_close_timeout=SECOND))
    await ground.closed(
        within=timedelta(minutes=3)
    )  # it sleeps for a minute longer than it needs at the most


async def forgotten(ground: Ground) -> None:
    """A key that was dropped."""
    await ground.call()
    await ground.keys.forget("key")


async def forgotten_by_force(ground: Ground) -> None:
    """A key that was dropped while it executed and calls waited for it."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(), Call()])
    await ground.effects.seen(1)
    await ground.claiming(1)
    run = (await ground.key_workflow().describe()).run_id
    await ground.keys.forget("key", force=True)
    await ground.effects.seen(2)
    gate.set()
    await job.result()
    ground.jobs.append(ground.server.get_workflow_handle(ground.key_id(), run_id=run))


async def cancelled_by_an_operator(ground: Ground) -> None:
    """A key whose workflow was cancelled while it executed."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(), Call()])
    await ground.effects.seen(1)
    await ground.claiming(1)
    await ground.key_workflow().cancel()
    gate.set()
    await job.result()


async def caller_cancelled(ground: Ground) -> None:
    """A call that was cancelled, and another that went on."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(cancel_on="now"), Call(on="next")])
    await ground.effects.seen(1)
    await job.signal("signal", "next")
    await ground.claiming(2, owner=True)
    await job.signal("signal", "now")
    await ground.ended(1, job)
    gate.set()
    await job.result()


async def refused(ground: Ground) -> None:
    """Conflicts: another activity, and other arguments."""
    await ground.call(Call(on_mismatch="raise"))
    await ground.call(Call(activity="other"))
    await ground.call(Call(argument="other", on_mismatch="raise"))


async def impatient(ground: Ground) -> None:
    """A call that ran out of time while it waited."""
    gate = ground.effects.close()
    job = await ground.start_script(
        [Call(), Call(on="next", schedule_to_close_timeout=SECOND, skip_failure=True)]
    )
    await ground.effects.seen(1)
    await job.signal("signal", "next")
    await ground.ended(1, job)
    gate.set()
    await job.result()


async def peek_failed(ground: Ground) -> None:
    """Calls whose peek could not read."""
    with pytest.MonkeyPatch.context() as patch:
        break_peeks(patch)
        await ground.call()
        await ground.call()


async def in_a_row(ground: Ground) -> None:
    """Calls of new keys one after the other, all but the first without a peek; then a known one."""
    await ground.script(*(Call(key=key) for key in ("a", "b", "a", "key", "key")))


async def gathered(ground: Ground) -> None:
    """More new keys at once than one peek takes."""
    await ground.script([Call(key=f"key-{number}") for number in range(51)] + [Call()])


async def taken_over(ground: Ground) -> None:
    """A key whose job was terminated, and whose effect was lost then: another call executes."""
    gate = ground.effects.close()
    ground.effects.then(ApplicationError("lost with its job"))
    owner = await ground.start_script(Call(argument="owner"))
    await ground.effects.seen(1)
    await owner.terminate()
    other = await ground.start_script(Call())
    await ground.claiming(1)
    gate.set()
    await other.result()


async def not_recorded(ground: Ground) -> None:
    """An activity that could not record its result, so that its job did."""
    record = KeyHandle.record
    outcomes: list[Outcome] = []

    async def fail(key: KeyHandle, run_id: str, outcome: Outcome, **options: Any) -> bool:
        outcomes.append(outcome)
        if len(outcomes) == 1:
            raise RPCError("the service cannot be reached", RPCStatusCode.UNAVAILABLE, b"")
        return await record(key, run_id, outcome, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyHandle, "record", fail)
        await ground.call()
    assert len(outcomes) == 2


async def failed_and_found(ground: Ground) -> None:
    """A key that shows by a search attribute that it failed."""
    ground.effects.then(ApplicationError("no funds", type="Declined", non_retryable=True))
    await ground.call()
    await _shown(ground, times=1)


async def held_and_found(ground: Ground) -> None:
    """A key that shows that it is held, until a person says what happened."""
    ground.effects.then(UnknownOutcomeError("no answer from the provider"))
    job = await ground.start_script(Call(on_unknown="hold"))
    await _shown(ground, times=1)
    await ground.keys.resolve("key", Happened("found"), force=True)
    await job.result()
    await _shown(ground, times=2)


async def _shown(ground: Ground, *, times: int) -> None:
    upsert = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES

    async def is_shown() -> bool:
        try:
            return types(await ground.key_workflow().fetch_history()).count(upsert) == times
        except RPCError:
            return False

    await until(is_shown, what="the search attribute")


BOTH: list[Shape] = [
    succeeded,
    shared,
    failed_and_executed_again,
    failed_and_skipped,
    timed_out,
    held_and_reconciled,
    held_and_resolved,
    expired,
    forgotten,
    caller_cancelled,
    refused,
    impatient,
    peek_failed,
    in_a_row,
]
"""Those that both kinds of server can see. On the one that skips time everything is delegated."""
REAL: list[Shape] = [
    *BOTH,
    executing,
    run_out,
    gathered,
    taken_over,
    not_recorded,
    forgotten_by_force,
    cancelled_by_an_operator,
]
"""Those that a server can see which does not skip time."""
SEARCHED: list[Shape] = [failed_and_found, held_and_found]
"""Those of keys that have search attributes, executed in place and delegated."""
DIVERGING: list[Shape] = [
    succeeded,
    shared,
    failed_and_executed_again,
    expired,
    forgotten,
    gathered,
    taken_over,
    not_recorded,
]
"""Those that diverged copies are made of."""

"""The shapes of the corpus: what a job and its key may go through."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from tests.support.faults import break_peeks
from tests.support.ground import Ground
from tests.support.messages import join, told
from tests.support.scripts import Call

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
    """Calls that attach late, and one execution for them all."""
    gate = ground.effects.close()
    await ground.start_script([Call(argument=number) for number in range(3)])
    await ground.effects.seen(1)
    other = await ground.start_script(Call(argument="other"))
    await ground.claiming(3, 0)
    await ground.claiming(1)
    if not ground.skips_time:
        await ground.signalled(3)
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


async def expired(ground: Ground) -> None:
    """A key whose time is over, and the next life of it."""
    ttl = HOUR if ground.skips_time else SECOND
    await ground.script(
        Call(argument="first", ttl=ttl), Call(ttl=ttl), Call(argument="second", after=1.5 * ttl, ttl=HOUR)
    )


async def run_out(ground: Ground) -> None:
    """A key whose time is over, and that nobody has asked for since."""
    await ground.call(Call(ttl=SECOND))
    await ground.closed()


async def joined_late(ground: Ground) -> None:
    """Claims that join a settled key, several in one task.

    `joined_late_before` was recorded by a version that told each of them by itself.
    """
    await ground.call()
    await join(ground, 30, ago=HOUR)
    await told(ground)


async def forgotten(ground: Ground) -> None:
    """A key that was dropped."""
    await ground.call()
    await ground.keys.forget("key")


async def forgotten_by_force(ground: Ground) -> None:
    """A key that was dropped while it executed and calls waited for it."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(), Call()])
    await ground.effects.seen(1)
    await ground.signalled(1)
    run = (await ground.key_workflow().describe()).run_id
    await ground.keys.forget("key", force=True)
    await ground.effects.seen(2)
    gate.set()
    await job.result()
    ground.jobs.append(ground.server.get_workflow_handle(ground.key_id(), run_id=run))


async def cancelled_by_an_operator(ground: Ground) -> None:
    """A key whose workflow was cancelled while it executed."""
    ground.effects.close()
    job = await ground.start_script([Call(), Call()])
    await ground.effects.seen(1)
    await ground.signalled(1)
    await ground.key_workflow().cancel()
    await job.result()


async def caller_cancelled(ground: Ground) -> None:
    """A call that was cancelled, and another that went on."""
    gate = ground.effects.close()
    job = await ground.start_script([Call(cancel_on="now"), Call(on="next")])
    await ground.effects.seen(1)
    await job.signal("signal", "next")
    await ground.claiming(2)
    await job.signal("signal", "now")
    await ground.ended(1, job)
    gate.set()
    await job.result()


async def refused(ground: Ground) -> None:
    """Conflicts: another activity, and other arguments."""
    await ground.call()
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


async def rolled_over(ground: Ground) -> None:
    """A key's workflow that continued as new, before and after, and was then executed again."""
    gate = ground.effects.close()
    ground.effects.then(ApplicationError("no", "detail", type="Refused"))
    job = await ground.start_script([Call(ttl=HOUR)] * 4)
    await ground.effects.seen(1)
    await ground.signalled(3)
    first = (await ground.key_workflow().describe()).run_id
    gate.set()
    await job.result()
    await ground.rolled_over(first)
    await ground.call(Call(skip_failure=True))
    await ground.call(Call(ttl=HOUR))
    ground.jobs.append(ground.server.get_workflow_handle(ground.key_id(), run_id=first))


BOTH: list[Shape] = [
    succeeded,
    shared,
    failed_and_executed_again,
    failed_and_skipped,
    timed_out,
    expired,
    forgotten,
    caller_cancelled,
    refused,
    impatient,
    peek_failed,
]
"""Those that both kinds of server can see."""
REAL: list[Shape] = [*BOTH, executing, run_out, joined_late, forgotten_by_force, cancelled_by_an_operator]
"""Those that a server can see which does not skip time."""
SHORT: list[Shape] = [rolled_over]
"""Those that need a server on which keys roll over soon."""
DIVERGING: list[Shape] = [
    succeeded,
    shared,
    failed_and_executed_again,
    expired,
    run_out,
    joined_late,
    forgotten,
    rolled_over,
]
"""Those that diverged copies are made of."""

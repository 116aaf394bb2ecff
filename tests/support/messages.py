"""Messages to a key from claims that nobody waits for."""

import asyncio
from datetime import UTC, datetime, timedelta

from dedupe.messages import Attach, Question, Waiter
from tests.support.ground import Ground
from tests.support.histories import markers
from tests.support.waiting import until


async def join(ground: Ground, claims: int, *, ago: timedelta = timedelta(0), **question: object) -> None:
    """Join the key as so many claims, made some time ago."""
    key = ground.key_handle()
    now = datetime.now(UTC)
    asked = Question.model_validate(
        {"key_id": "", "key": "", "activity": "effect", "called_at": now, **question}
    )
    await asyncio.gather(
        *(
            key.attach(
                Attach(
                    question=asked,
                    waiter=Waiter(workflow_id=f"nobody-{claim}", run_id="", activity_id="1"),
                    asked_at=now - ago,
                ),
                turn="",
            )
            for claim in range(claims)
        )
    )


async def told(ground: Ground) -> None:
    """Wait until those who joined a settled key were told, and its workflow has nothing more to do."""

    async def is_idle() -> bool:
        description = await ground.key_workflow().describe()
        history = await ground.key_workflow().fetch_history()
        return len(markers(history)) > 1 and not description.raw_description.HasField("pending_workflow_task")

    await until(is_idle, what="the telling of those who joined late")

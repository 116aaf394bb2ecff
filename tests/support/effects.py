"""Activities whose effects outlive every worker, and say how each attempt ends."""

import asyncio
from collections import Counter, deque
from typing import Any, NamedTuple

from temporalio import activity

from dedupe import current_execution
from tests.support.waiting import LONG


class Attempt(NamedTuple):
    """One attempt of an activity."""

    activity: str
    argument: Any
    key: str | None
    generation: int | None
    idempotency_key: str | None
    attempt: int


class Effects:
    """What the activities did. It outlives every worker, and says how each attempt ends."""

    def __init__(self) -> None:
        """Begin with nothing done; every attempt returns its argument."""
        self.attempts: list[Attempt] = []
        self.gate: asyncio.Event | None = None
        """Where set, attempts pause here, in the midst of their effect."""
        self.executing: Counter[str | None] = Counter()
        self.most_at_once: Counter[str | None] = Counter()
        self._ends: deque[Any] = deque()
        self._news = asyncio.Condition()

    def then(self, *ends: Any) -> None:
        """Say how the next attempts end: what they return, or raise."""
        self._ends.extend(ends)

    def close(self) -> asyncio.Event:
        """Make attempts pause until the returned event is set."""
        self.gate = asyncio.Event()
        return self.gate

    @property
    def arguments(self) -> list[Any]:
        """The argument of each attempt."""
        return [attempt.argument for attempt in self.attempts]

    @property
    def generations(self) -> list[int | None]:
        """The generation of each attempt."""
        return [attempt.generation for attempt in self.attempts]

    @property
    def idempotency_keys(self) -> list[str | None]:
        """The idempotency key of each attempt."""
        return [attempt.idempotency_key for attempt in self.attempts]

    async def seen(self, attempts: int) -> None:
        """Wait until so many attempts have begun."""
        async with asyncio.timeout(LONG.total_seconds()), self._news:
            await self._news.wait_for(lambda: len(self.attempts) >= attempts)

    @activity.defn
    async def effect(self, argument: Any) -> Any:
        """Take effect."""
        return await self._happen(argument)

    @activity.defn
    async def other(self, argument: Any) -> Any:
        """Take another effect."""
        return await self._happen(argument)

    async def _happen(self, argument: Any) -> Any:
        info = activity.info()
        execution = current_execution()
        key = None if execution is None else execution.key
        end = self._ends.popleft() if self._ends else argument
        async with self._news:
            self.attempts.append(
                Attempt(
                    activity=info.activity_type,
                    argument=argument,
                    key=key,
                    generation=None if execution is None else execution.generation,
                    idempotency_key=None if execution is None else execution.idempotency_key,
                    attempt=info.attempt,
                )
            )
            self._news.notify_all()
        self.executing[key] += 1
        self.most_at_once[key] = max(self.most_at_once[key], self.executing[key])
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.executing[key] -= 1
        if isinstance(end, BaseException):
            raise end
        return end

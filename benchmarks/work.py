"""What a job is to do, and what its activity is to do. Data only: it passes through the workflow sandbox."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

PLAIN_QUEUE = "bench-plain"
"""A worker without the plugin."""
DEDUPED_QUEUE = "bench-deduped"
"""A worker with the plugin, and the SDK's default of 100 activity slots."""
BY_HAND_QUEUE = "bench-by-hand"
"""A worker without the plugin, with an activity slot for every wrapper that waits."""

_LOOK = 0.005
_BEAT = 0.2


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What the activity is to do before it returns its payload."""

    payload: str = ""
    gate: str = ""
    """File for whose appearance it waits; none if empty."""
    pause: float = 0.0
    """Seconds for which it waits."""

    async def wait(self, heartbeat: Callable[[], None]) -> None:
        """Wait as told."""
        if self.pause:
            await asyncio.sleep(self.pause)
        beaten = -_BEAT
        while self.gate and not self._is_open():
            if time.monotonic() - beaten >= _BEAT:
                beaten = time.monotonic()
                heartbeat()
            await asyncio.sleep(_LOOK)

    def _is_open(self) -> bool:
        return Path(self.gate).exists()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a job is to do."""

    key: str = ""
    calls: int = 1
    fresh: bool = False
    """Whether each call has a key of its own, made from `key`; otherwise all have the same."""
    at_once: bool = False
    """Whether the calls are made all at once, not one after the other."""
    size: int = 0
    """Bytes of the activity's argument, and of its result."""
    gate: str = ""
    pause: float = 0.0
    heartbeat: float = 0.0
    """Heartbeat time-out in seconds; none if 0."""

    def key_of(self, call: int) -> str:
        """Return the key of one call."""
        return f"{self.key}-{call}" if self.fresh else self.key

    def effect(self) -> Effect:
        """Return what the activity is to do."""
        return Effect(payload="x" * self.size, gate=self.gate, pause=self.pause)

    @property
    def heartbeat_timeout(self) -> timedelta | None:
        """The heartbeat time-out, as options take it."""
        return timedelta(seconds=self.heartbeat) if self.heartbeat else None

"""What activities did, in a file that outlives their processes: each moment a line of JSON."""

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from temporalio import activity

from dedupe import current_execution


class Moment(StrEnum):
    """How far an attempt has come."""

    STARTED = "started"
    PAUSED = "paused"
    DONE = "done"
    """The effect has happened."""


class Entry(BaseModel, frozen=True):
    """One moment of one attempt."""

    at: float
    pid: int
    moment: Moment
    name: str
    """What the effect is about: in most tests the deduplication key."""
    idempotency_key: str
    generation: int
    attempt: int


class EffectFile:
    """The file. Any number of processes append to it, a line in one write."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; it need not be there yet."""
        self._path = path

    def write(self, moment: Moment, name: str) -> None:
        """Append a moment of the running activity."""
        execution = current_execution()
        entry = Entry(
            at=time.time(),
            pid=os.getpid(),
            moment=moment,
            name=name,
            idempotency_key="" if execution is None else execution.idempotency_key,
            generation=0 if execution is None else execution.generation,
            attempt=activity.info().attempt,
        )
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, entry.model_dump_json().encode() + b"\n")
        finally:
            os.close(file)

    def entries(self, moment: Moment | None = None, *, name: str | None = None) -> Sequence[Entry]:
        """Return what was appended, in order: all of it, or what is asked for."""
        if not self._path.exists():
            return []
        entries = map(Entry.model_validate_json, self._path.read_text().splitlines())
        return [entry for entry in entries if moment in {None, entry.moment} and name in {None, entry.name}]


class Gate:
    """What paused activities wait for: a file that a test makes."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`."""
        self._path = path

    def open(self) -> None:
        """Let everything that waits go on."""
        self._path.touch()

    async def passed(self) -> None:
        """Return when the gate is open."""
        while not self._path.exists():
            await asyncio.sleep(0.02)


class Task(BaseModel, frozen=True):
    """What an activity is to do."""

    name: str
    """What the effect is about; it stands in the effect file."""
    work: float = 0
    """Seconds that the attempt takes before its effect."""
    pause: Literal["before the effect", "after the effect"] | None = None
    """Where the first attempt waits for `Gate.open`."""
    failures: int = 0
    """How many attempts fail before one succeeds."""


class Done(BaseModel, frozen=True):
    """What an activity returns: all that tells one execution's answer from another's."""

    name: str
    idempotency_key: str
    generation: int
    attempt: int


class FileEffects:
    """The activities, over one effect file."""

    def __init__(self, file: EffectFile, gate: Gate) -> None:
        """Write effects to `file`, and pause at `gate`."""
        self._file = file
        self._gate = gate

    @activity.defn
    async def effect(self, task: Task) -> Done:
        """Have one effect."""
        info = activity.info()
        self._file.write(Moment.STARTED, task.name)
        beating = asyncio.create_task(_beat(info.heartbeat_timeout))
        try:
            await asyncio.sleep(task.work)
            if info.attempt <= task.failures:
                raise EffectError(task.name)
            await self._pause("before the effect", task)
            self._file.write(Moment.DONE, task.name)
            await self._pause("after the effect", task)
        finally:
            beating.cancel()
        execution = current_execution()
        assert execution is not None
        return Done(
            name=task.name,
            idempotency_key=execution.idempotency_key,
            generation=execution.generation,
            attempt=info.attempt,
        )

    async def _pause(self, point: str, task: Task) -> None:
        if task.pause == point and activity.info().attempt == 1:
            self._file.write(Moment.PAUSED, task.name)
            await self._gate.passed()


class EffectError(Exception):
    """The activity did not work this time."""


async def _beat(missed_after: timedelta | None) -> None:
    while missed_after:
        activity.heartbeat()
        await asyncio.sleep(missed_after.total_seconds() / 6)

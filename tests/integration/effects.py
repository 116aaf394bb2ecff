"""Effects: what activities did, in a file that outlives them: a line of JSON each, appended in one write."""

import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

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
    """The file. Any number of processes append to it."""

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

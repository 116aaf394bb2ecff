"""The table at the end of a run: faults, calls, executions, what was recorded, how long recovery took."""

import dataclasses
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dedupe.operate.view import KeyState
from tests.integration.effect_file import Moment
from tests.integration.fleet import Fleet


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one kind of fault."""

    fault: str
    faults: int
    """How many were injected."""
    calls: int
    executions: int
    """How many executions were begun. All attempts of one call are one execution."""
    attempts: int
    effects: int
    """How often the effect happened: attempts that died before their report included."""
    successes: int
    """How many executions were recorded as succeeded."""
    duplicates: int
    """Recorded successes beyond one for each key."""
    lost: int
    """Calls without an answer, or with another one than the recorded."""
    recoveries: Sequence[float] = field(default=())
    """Seconds from the fault, or from its end, until all that waited had their answers."""

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        times = sorted(self.recoveries)
        recovery = f"{times[0]:.1f} / {statistics.median(times):.1f} / {times[-1]:.1f}" if times else "-"
        counts = (
            self.faults,
            self.calls,
            self.executions,
            self.attempts,
            self.effects,
            self.successes,
            self.duplicates,
            self.lost,
        )
        return (self.fault, *(f"{count:,}" for count in counts), recovery)


_HEADER = (
    "fault",
    "faults",
    "calls",
    "executions",
    "attempts",
    "effects",
    "successes",
    "duplicates",
    "lost",
    "recovery s (min/median/max)",
)


class Table:
    """The rows of one test run."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add a row; rows of the same fault become one."""
        for index, other in enumerate(self._rows):
            if other.fault == row.fault:
                self._rows[index] = _together(other, row)
                return
        self._rows.append(row)

    def dump(self) -> list[dict[str, Any]]:
        """Return the rows as they can be sent to another process."""
        return [dataclasses.asdict(row) for row in self._rows]

    def load(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add the rows of another process."""
        for row in rows:
            self.add(Row(**row))

    def lines(self) -> list[str]:
        """Return the table as text; nothing where no faults were injected."""
        if not self._rows:
            return []
        rows = [_HEADER, *(row.cells() for row in self._rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _together(one: Row, other: Row) -> Row:
    return Row(
        fault=one.fault,
        faults=one.faults + other.faults,
        calls=one.calls + other.calls,
        executions=one.executions + other.executions,
        attempts=one.attempts + other.attempts,
        effects=one.effects + other.effects,
        successes=one.successes + other.successes,
        duplicates=one.duplicates + other.duplicates,
        lost=one.lost + other.lost,
        recoveries=(*one.recoveries, *other.recoveries),
    )


TABLE = pytest.StashKey[Table]()


class Stopwatch:
    """Measures from its start."""

    def __init__(self) -> None:
        """Start."""
        self._since = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._since


async def tally(
    workers: Fleet,
    answers: Mapping[str, Sequence[object]],
    *,
    fault: str,
    faults: int,
    recoveries: Sequence[float] = (),
) -> Row:
    """Compare what calls got, by key, with what the service recorded, and count what activities wrote."""
    executions = successes = duplicates = lost = 0
    for key, given in answers.items():
        record = await workers.keys.get(key)
        history = await workers.history(key)
        executions += history.executions
        successes += history.successes
        duplicates += max(history.successes - 1, 0)
        if record is None or record.state is not KeyState.SUCCEEDED or record.result_json is None:
            lost += len(given)
        else:
            lost += sum(answer != json.loads(record.result_json) for answer in given)
    written = [entry for entry in workers.effects.entries() if entry.name in answers]
    return Row(
        fault=fault,
        faults=faults,
        calls=sum(map(len, answers.values())),
        executions=executions,
        attempts=sum(entry.moment is Moment.STARTED for entry in written),
        effects=sum(entry.moment is Moment.DONE for entry in written),
        successes=successes,
        duplicates=duplicates,
        lost=lost,
        recoveries=recoveries,
    )


def expect_sound(row: Row, *, keys: int) -> None:
    """Each key has one recorded success, and every call got it."""
    assert row.lost == 0, f"lost answers: {row}"
    assert row.duplicates == 0, f"a second success: {row}"
    assert row.successes == keys, f"not every key succeeded: {row}"
    assert row.executions == keys, f"a key was executed again: {row}"

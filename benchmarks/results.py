"""Everything that one run found out, as it is written to the JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.counts import Count
from benchmarks.crowds import Callers, NewKeys
from benchmarks.faults import Recovery
from benchmarks.growth import KeysHeld, PastHits, Sized
from benchmarks.instructions import Instructions
from benchmarks.peers import Peer
from benchmarks.phases import Phase, Step, phases
from benchmarks.rounds import Table


@dataclass(kw_only=True)
class Results:
    """What a run found out. Parts that were not run are empty."""

    machine: str
    started: str
    """When, as ISO 8601."""
    tables: list[Table] = field(default_factory=list[Table])
    counts: list[Count] = field(default_factory=list[Count])
    instructions: list[Instructions] = field(default_factory=list[Instructions])
    timeline: list[Step] = field(default_factory=list[Step])
    past_hits: list[PastHits] = field(default_factory=list[PastHits])
    keys_held: KeysHeld | None = None
    callers: Callers | None = None
    sizes: list[Sized] = field(default_factory=list[Sized])
    recoveries: list[Recovery] = field(default_factory=list[Recovery])
    new_keys: list[NewKeys] = field(default_factory=list[NewKeys])
    peers: list[Peer] = field(default_factory=list[Peer])
    failed: list[str] = field(default_factory=list[str])
    """Parts that failed, and why."""

    @classmethod
    def read(cls, raw: Path) -> "Results":
        """Return what a run has written.

        Raises:
            ValueError: It is not what a run writes.
        """
        return TypeAdapter(cls).validate_json(raw.read_bytes())

    def write(self, raw: Path) -> None:
        """Write all of it to a file."""
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @property
    def phases(self) -> list[Phase]:
        """What a miss spends its time on."""
        return phases(self.timeline)

    def table(self, *, server: str, concurrency: int, calls: int) -> Table | None:
        """Return one table; None if it was not run."""
        return next(
            (
                table
                for table in self.tables
                if (table.server, table.concurrency, table.calls) == (server, concurrency, calls)
            ),
            None,
        )

    def count(self, name: str) -> Count | None:
        """Return what was counted for one way; None if nothing was."""
        return next((count for count in self.counts if count.name == name), None)

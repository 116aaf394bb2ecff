"""What a local provider did, on disk: it outlives the provider, and others read it while it runs.

An effect and the answer that is kept for its idempotency key are written in one transaction.
"""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS effects (number INTEGER PRIMARY KEY, at REAL, key TEXT, content TEXT);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, at REAL, fingerprint TEXT, status INTEGER, body TEXT, headers TEXT
);
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer. A body that is text goes out as HTML, as a broken proxy's does."""

    status: int
    body: Mapping[str, object] | Sequence[object] | str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer that was kept for an idempotency key, and the request it answered."""

    fingerprint: str
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something that a provider did."""

    key: str | None
    """The idempotency key it was asked for with, whether or not the provider honours keys."""
    content: Mapping[str, str]


class Ledger:
    """The file. Any number of processes may have it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as file:
            file.executescript(_SCHEMA)

    def effects(self) -> list[Effect]:
        """Return everything that was done, in order."""
        with closing(self._connect()) as file:
            rows = file.execute("SELECT key, content FROM effects ORDER BY number").fetchall()
        return [Effect(key=key, content=json.loads(content)) for key, content in rows]

    def kept(self, key: str, *, within: timedelta) -> Kept | None:
        """Return what was kept for the key, unless it is too old."""
        with closing(self._connect()) as file:
            row = file.execute(
                "SELECT fingerprint, status, body, headers FROM answers WHERE key = ? AND at > ?",
                (key, time.time() - within.total_seconds()),
            ).fetchone()
        if row is None:
            return None
        fingerprint, status, body, headers = row
        return Kept(
            fingerprint=fingerprint,
            answer=Answer(status=status, body=json.loads(body), headers=json.loads(headers)),
        )

    def write(self, key: str | None, *, effect: Mapping[str, str] | None, keep: Kept | None) -> None:
        """Write what was done, if anything, and the answer that the key gets from now on, if it is kept."""
        now = time.time()
        with closing(self._connect()) as file, file:
            file.execute("BEGIN IMMEDIATE")
            if effect is not None:
                row = (now, key, json.dumps(effect))
                file.execute("INSERT INTO effects (at, key, content) VALUES (?, ?, ?)", row)
            if keep is not None:
                answer = keep.answer
                kept = (
                    key,
                    now,
                    keep.fingerprint,
                    answer.status,
                    *map(json.dumps, (answer.body, answer.headers)),
                )
                file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", kept)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30, isolation_level=None)

"""A ledger of charges in a SQLite file: one charge per idempotency key, whoever makes it, and whatever dies.

Any number of processes may have it open. Making a charge is one statement, and so one transaction: of two
with one key the second finds the first, and after kill -9 at any point a charge is there or it is not.
"""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

_LOCK_TIMEOUT = timedelta(seconds=30)
_LOCK_POLL = timedelta(milliseconds=10)
_TABLES = {"charges": "ch", "refunds": "re"}
"""What the file holds, and how the ids of its rows begin."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS {table} (
    id TEXT PRIMARY KEY,
    idempotency_key TEXT UNIQUE,
    order_id TEXT NOT NULL,
    payment TEXT NOT NULL,
    charged_at TEXT NOT NULL
)
"""
_INSERT_OR_FIND = """
INSERT INTO {table} VALUES (?, ?, ?, ?, ?)
ON CONFLICT (idempotency_key) DO UPDATE SET id = id
RETURNING id, payment
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A charge, as the ledger has it."""

    charge_id: str
    payment: str
    """What was charged, as JSON."""
    is_new: bool
    """Whether it was made just now, and not found."""


class Ledger:
    """The file."""

    def __init__(self, path: Path) -> None:
        """Make the file, if it is not there yet.

        Raises:
            OSError: Its folder cannot be made.
            sqlite3.Error: The file cannot be made, or is no ledger.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(self._connect()) as file:
            _write_ahead(file)
            for table in _TABLES:
                file.execute(_SCHEMA.format(table=table))

    def charge(self, key: str | None, *, order_id: str, payment: str) -> Entry:
        """Make the charge, or find the one that was made with this key; without a key, make it every time.

        Raises:
            sqlite3.Error: Nothing was charged: the disk would not take it, or it was locked for too long.
        """
        return self._enter("charges", key, order_id=order_id, payment=payment)

    def refund(self, key: str | None, *, order_id: str, payment: str) -> Entry:
        """Make the refund, or find the one that was made with this key; without a key, make it every time.

        Raises:
            sqlite3.Error: Nothing was refunded: the disk would not take it, or it was locked for too long.
        """
        return self._enter("refunds", key, order_id=order_id, payment=payment)

    def _enter(self, table: str, key: str | None, *, order_id: str, payment: str) -> Entry:
        own_id = f"{_TABLES[table]}_{uuid4().hex}"
        row = (own_id, key, order_id, payment, datetime.now(UTC).isoformat())
        with closing(self._connect()) as file:
            ((charge_id, payment),) = file.execute(_INSERT_OR_FIND.format(table=table), row).fetchall()
        return Entry(charge_id=charge_id, payment=payment, is_new=charge_id == own_id)

    def find(self, key: str | None) -> str | None:
        """Return the id of the charge that was made with a key; None where there is none.

        Raises:
            sqlite3.Error: The file could not be read.
        """
        with closing(self._connect()) as file:
            rows = file.execute("SELECT id FROM charges WHERE idempotency_key = ?", (key,)).fetchall()
        return rows[0][0] if rows else None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT.total_seconds(), isolation_level=None)


def _write_ahead(file: sqlite3.Connection) -> None:
    # The one statement that does not wait its turn where several processes make a ledger at once.
    give_up = time.monotonic() + _LOCK_TIMEOUT.total_seconds()
    while True:
        try:
            file.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_LOCK_POLL.total_seconds())
        else:
            return

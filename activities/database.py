"""`execute_statement`: one SQL statement that takes effect once, in PostgreSQL or in a SQLite file.

The strongest guarantee there is: a row under the call's idempotency key is written in the same transaction as
the statement, with what it returned. So the statement has happened if and only if that row is there; an
attempt that finds it returns what it says, for as long as the row is kept. A connection that breaks in the
commit leaves nothing open: the next attempt looks.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, JsonValue, SecretStr, StringConstraints
from pydantic_core import to_jsonable_python
from sqlalchemy import Column, DateTime, Engine, MetaData, Table, Text, create_engine, event, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error

_LOCK_TIMEOUT: Final = 30.0
"""Seconds for which a SQLite file is waited for that somebody else writes to."""
_DEFINITE = ("22", "23", "42", "0A", "28", "3F", "SQLITE_CONSTRAINT", "SQLITE_ERROR", "SQLITE_MISMATCH")
"""What no further attempt changes: of PostgreSQL's SQLSTATE the classes of data, constraints, syntax and
access; of SQLite constraints, and what it cannot prepare."""

_INBOX = Table(
    "dedupe_inbox",
    MetaData(),
    Column("idempotency_key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("executed_at", DateTime(timezone=True), nullable=False),
)
"""One row for each statement that has happened. Rows may be dropped once nobody asks for their keys."""


class Statement(BaseModel):
    """One SQL statement, and what to put into it."""

    model_config = ConfigDict(frozen=True)

    sql: Annotated[str, StringConstraints(min_length=1)]
    """With parameters by name: `INSERT INTO orders (id) VALUES (:id)`. A colon of its own is `\\:`."""
    parameters: Mapping[str, JsonValue] = {}


class StatementResult(BaseModel):
    """What a statement did: the same however often it is asked for with one key."""

    model_config = ConfigDict(frozen=True)

    rows: list[dict[str, JsonValue]]
    """What it returned, as by RETURNING; numbers that JSON does not have, dates and the like as text."""
    count: int
    """Rows that it returned; of one that returns none, those that it changed (-1: nobody can say)."""
    replayed: bool = False
    """Whether an earlier attempt under the same idempotency key executed it."""


class DatabaseActivities:
    """The activities of one database."""

    def __init__(self, url: SecretStr) -> None:
        """Make the inbox, if it is not there yet.

        Args:
            url: `sqlite:///file.sqlite3`, or `postgresql+psycopg://user:password@host/database`.

        Raises:
            SQLAlchemyError: The URL cannot be used, or the database does not answer.
            OSError: The folder of a SQLite file cannot be made.
        """
        self._secret = url
        self._engine = _engine(url.get_secret_value())
        _INBOX.metadata.create_all(self._engine, checkfirst=True)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @activity.defn(name="execute_statement")
    async def execute_statement(self, statement: Statement) -> StatementResult:
        """Execute a statement, once for all attempts under the call's idempotency key."""
        async with heartbeating():
            return await self.execute(statement, idempotency_key())

    async def execute(self, statement: Statement, key: str) -> StatementResult:
        """Execute a statement, once for a key.

        Raises:
            ApplicationError: It was not executed, or nobody knows; the type is an `ErrorKind`.
        """
        return await asyncio.to_thread(self._execute, statement, key)

    def _execute(self, statement: Statement, key: str) -> StatementResult:
        try:
            with self._engine.begin() as connection:
                found = _enter(connection, statement, key)
                if found is None:
                    return _carry_out(connection, statement, key)
        except DBAPIError as error:
            raise self._refusal(error) from None
        except SQLAlchemyError as error:  # parameters that are missing, and the like
            raise provider_error(
                ErrorKind.INVALID_REQUEST, f"The statement cannot be executed: {error}", secret=self._secret
            ) from None
        fingerprint, result = found
        if fingerprint != _fingerprint(statement):
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The database has executed another statement under idempotency key {key!r}",
            )
        return StatementResult.model_validate_json(result).model_copy(update={"replayed": True})

    def _refusal(self, error: DBAPIError) -> ApplicationError:
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
        is_definite = str(state).startswith(_DEFINITE) and not error.connection_invalidated
        return provider_error(
            ErrorKind.INVALID_REQUEST if is_definite else ErrorKind.UNAVAILABLE,
            f"The database answered {state}: {error.orig}",
            code=None if state is None else str(state),
            secret=self._secret,
        )


def _engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)

        # The driver begins a transaction at the first change only, and after reading waits for nobody.
        @event.listens_for(engine, "connect")
        def _connected(connection: Any, _: object) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout = {int(_LOCK_TIMEOUT * 1_000)}")

        @event.listens_for(engine, "begin")
        def _begun(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _enter(connection: Connection, statement: Statement, key: str) -> tuple[str, str] | None:
    """Take the key, or return what was executed under it: its fingerprint and its result.

    Of two transactions with one key the second waits here for the end of the first.
    """
    row = {
        "idempotency_key": key,
        "fingerprint": _fingerprint(statement),
        "result": "",
        "executed_at": datetime.now(UTC),
    }
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    taking = insert(_INBOX).values(row).on_conflict_do_nothing().returning(_INBOX.c.idempotency_key)
    if connection.execute(taking).first() is not None:
        return None
    found = connection.execute(
        select(_INBOX.c.fingerprint, _INBOX.c.result).where(_INBOX.c.idempotency_key == key)
    ).one()
    return str(found.fingerprint), str(found.result)


def _carry_out(connection: Connection, statement: Statement, key: str) -> StatementResult:
    executed: CursorResult[Any] = connection.execute(text(statement.sql), dict(statement.parameters))
    rows = [dict(row) for row in executed.mappings()] if executed.returns_rows else []
    count = len(rows) if executed.returns_rows else executed.rowcount
    result = StatementResult(rows=to_jsonable_python(rows), count=count)
    connection.execute(
        _INBOX.update().where(_INBOX.c.idempotency_key == key).values(result=result.model_dump_json())
    )
    return result


def _fingerprint(statement: Statement) -> str:
    content = json.dumps([statement.sql, dict(statement.parameters)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()

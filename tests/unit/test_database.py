"""`execute_statement`: once under its key, whatever dies, on a real PostgreSQL and on a SQLite file."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError

from activities.database import DatabaseActivities, Statement
from activities.errors import ErrorKind
from tests.support.postgres import REQUIRED, binaries, postgres

PAY = "INSERT INTO payments (order_id, amount) VALUES (:order_id, :amount) RETURNING id, order_id"
ORDER = Statement(sql=PAY, parameters={"order_id": "order-1", "amount": 1_099})
_TABLES = {
    kind: f"CREATE TABLE payments (id {own_id}, order_id TEXT NOT NULL, amount INTEGER NOT NULL)"
    for kind, own_id in (("sqlite", "INTEGER PRIMARY KEY"), ("postgresql", "SERIAL PRIMARY KEY"))
}
_KEYS = 5


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of this session's own."""
    if binaries() is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/file.sqlite3"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def database(url: str) -> Iterator[DatabaseActivities]:
    """The activities of a database with an empty table of payments."""
    database = DatabaseActivities(SecretStr(url))

    async def prepare() -> None:
        for number, sql in enumerate(
            ("DROP TABLE IF EXISTS payments", _TABLES[url.partition(":")[0].partition("+")[0]])
        ):
            await database.execute(Statement(sql=sql), f"prepare-{time.time_ns()}-{number}")

    asyncio.run(prepare())
    yield database
    database.close()


async def paid(database: DatabaseActivities) -> dict[str, int]:
    """Return how often each order was paid."""
    counting = Statement(sql="SELECT order_id, count(*) AS times FROM payments GROUP BY order_id")
    found = await database.execute(counting, f"count-{time.time_ns()}")
    return {str(row["order_id"]): int(str(row["times"])) for row in found.rows}


def key() -> str:
    """Return a key that no other test has."""
    return f"key-{time.time_ns()}"


async def test_a_statement_happens_once(database: DatabaseActivities) -> None:
    """The second time it returns what the first one returned, and says so."""
    mine = key()
    first = await database.execute(ORDER, mine)
    again = await database.execute(ORDER, mine)
    assert (first.count, first.replayed) == (1, False)
    assert [row["order_id"] for row in first.rows] == ["order-1"]
    assert again == first.model_copy(update={"replayed": True})
    assert await paid(database) == {"order-1": 1}


async def test_many_at_once_are_one(database: DatabaseActivities) -> None:
    """They wait for the first one's end, and get its result."""
    mine = key()
    results = await asyncio.gather(*(database.execute(ORDER, mine) for _ in range(10)))
    assert sum(not result.replayed for result in results) == 1
    assert len({str(result.rows) for result in results}) == 1
    assert await paid(database) == {"order-1": 1}


async def test_another_statement_under_the_key_is_an_error(database: DatabaseActivities) -> None:
    """Nothing of it is executed."""
    mine = key()
    await database.execute(ORDER, mine)
    with pytest.raises(ApplicationError, match="another statement") as raised:
        await database.execute(
            ORDER.model_copy(update={"parameters": {"order_id": "order-2", "amount": 1}}), mine
        )
    assert raised.value.type == ErrorKind.IDEMPOTENCY_KEY_REUSED
    assert await paid(database) == {"order-1": 1}


@pytest.mark.parametrize(
    "statement",
    [
        Statement(sql="INSERT INTO nowhere VALUES (1)"),
        Statement(sql="INSERT INTO payments (amount) VALUES (1)"),
        Statement(sql="this is no SQL"),
        Statement(sql=PAY, parameters={"order_id": "order-1"}),
    ],
    ids=["no such table", "a constraint", "syntax", "a parameter is missing"],
)
async def test_what_can_never_work(database: DatabaseActivities, statement: Statement) -> None:
    """It fails for good, and its key is free for what is corrected."""
    mine = key()
    with pytest.raises(ApplicationError) as raised:
        await database.execute(statement, mine)
    assert (raised.value.type, raised.value.non_retryable) == (ErrorKind.INVALID_REQUEST, True)
    assert not (await database.execute(ORDER, mine)).replayed


async def test_values_that_json_does_not_have_come_as_text(database: DatabaseActivities) -> None:
    """Dates and decimals, as a job can take them."""
    result = await database.execute(Statement(sql="SELECT CURRENT_TIMESTAMP AS now, 1.5 AS number"), key())
    [row] = result.rows
    assert isinstance(row["now"], str)
    assert float(str(row["number"])) == 1.5


async def test_a_database_that_is_gone_is_tried_again(postgres_url: str) -> None:
    """Nobody knows what became of it, and the password is in no message."""
    with postgres() as url:
        database = DatabaseActivities(SecretStr(url.replace("tests@", "tests:hunter2@")))
    with pytest.raises(ApplicationError) as raised:
        await database.execute(ORDER, "k")
    assert (raised.value.type, raised.value.non_retryable) == (ErrorKind.UNAVAILABLE, False)
    assert "hunter2" not in str(raised.value)
    assert postgres_url


@pytest.mark.parametrize(
    "kills", [10, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(900)])]
)
async def test_killed_processes_pay_each_order_once(
    database: DatabaseActivities, url: str, kills: int
) -> None:
    """Workers die anywhere in a statement, and others repeat it: each key has one effect."""
    run = time.time_ns()
    for number in range(kills):
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.unit.test_database", url, f"{run}-{number // _KEYS}", str(_KEYS)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert worker.stdout is not None
        await worker.stdout.readline()
        await asyncio.sleep(number % 25 / 500)
        worker.kill()
        await worker.wait()
    orders = [f"{run}-{number // _KEYS}-{order}" for number in range(kills) for order in range(_KEYS)]
    for order in dict.fromkeys(orders):
        await database.execute(_order(order), order)
    assert await paid(database) == dict.fromkeys(orders, 1)


def _order(order: str) -> Statement:
    return Statement(sql=PAY, parameters={"order_id": order, "amount": 1})


def main(url: str, run: str, keys: str) -> None:
    """Pay orders until killed, each over and over under its key."""
    database = DatabaseActivities(SecretStr(url))

    async def pay() -> None:
        while True:
            for number in range(int(keys)):
                await database.execute(_order(f"{run}-{number}"), f"{run}-{number}")

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    asyncio.run(pay())


if __name__ == "__main__":
    arguments: list[Any] = sys.argv[1:]
    main(*arguments)

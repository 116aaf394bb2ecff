"""`charge`: the payment, the ledger, the activity and its settings."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.payments import (
    Charge,
    LedgerSettings,
    LedgerTransport,
    PaymentActivities,
    PaymentSettings,
    StripeSettings,
    StripeTransport,
)
from activities.payments.ledger import Ledger
from dedupe.execution.current import format_activity_id
from dedupe.model.names import DELEGATED

ROOT = Path(__file__).parents[2]
ORDER = Charge(order_id="order-1", customer="cus_ada", amount=1_099, currency="eur")


def charges(ledger: Path) -> list[tuple[str | None, str]]:
    """Return idempotency key and order of every charge in the ledger."""
    with closing(sqlite3.connect(ledger)) as file:
        return file.execute("SELECT idempotency_key, order_id FROM charges ORDER BY rowid").fetchall()


# ------------------------------------------------------------------------------------------------ payment


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 10.5},
        {"amount": "10"},
        {"amount": True},
        {"amount": 2**53},
        {"currency": ""},
        {"currency": "euro"},
        {"currency": "€€€"},
        {"order_id": ""},
        {"customer": ""},
        {"customer": "cus\n"},
        {"payment_method": ""},
    ],
    ids=repr,
)
def test_a_charge_that_is_no_amount_of_money_is_refused(change: dict[str, object]) -> None:
    """An amount is a positive whole number of the smallest unit; nothing is rounded or guessed."""
    with pytest.raises(ValidationError):
        Charge.model_validate({**ORDER.model_dump(), **change})


def test_a_currency_is_one_whatever_its_case() -> None:
    """EUR and eur are the same currency, and so the same charge."""
    assert Charge(order_id="order-1", customer="cus_ada", amount=1_099, currency="EUR") == ORDER


def test_a_charge_of_a_newer_worker_is_read() -> None:
    """A field this worker does not know is ignored, so that workers of two versions can run side by side."""
    assert Charge.model_validate({**ORDER.model_dump(), "tip": 1}) == ORDER


# ------------------------------------------------------------------------------------------------- ledger


async def test_a_charge_is_in_the_ledger(tmp_path: Path) -> None:
    """A charge is written down, and the receipt says what was charged."""
    receipt = await LedgerTransport(tmp_path / "new" / "ledger").charge(ORDER, "k")
    assert charges(tmp_path / "new" / "ledger") == [("k", "order-1")]
    assert (receipt.status, receipt.amount, receipt.currency) == ("succeeded", 1_099, "eur")
    assert not receipt.replayed


async def test_the_same_key_charges_once(tmp_path: Path) -> None:
    """A key that is sent again, also by another process, gets the first charge back."""
    first = await LedgerTransport(tmp_path / "ledger").charge(ORDER, "k")
    second = await LedgerTransport(tmp_path / "ledger").charge(ORDER, "k")
    assert second == first.model_copy(update={"replayed": True})
    assert charges(tmp_path / "ledger") == [("k", "order-1")]


async def test_a_charge_is_found_by_its_key(tmp_path: Path) -> None:
    """What became of it can be asked: it is there with its receipt, or it is not."""
    transport = LedgerTransport(tmp_path / "ledger.sqlite3")
    receipt = await transport.charge(ORDER, "k")
    assert await transport.find(ORDER, "k") == receipt.model_copy(update={"replayed": True})
    assert await transport.find(ORDER, "another key") is None


async def test_every_request_without_a_key_is_a_charge(tmp_path: Path) -> None:
    """No key, no deduplication."""
    ledger = LedgerTransport(tmp_path / "ledger")
    receipts = [await ledger.charge(ORDER, None) for _ in range(3)]
    assert len({receipt.charge_id for receipt in receipts}) == 3
    assert not any(receipt.replayed for receipt in receipts)
    assert charges(tmp_path / "ledger") == [(None, "order-1")] * 3


@pytest.mark.parametrize(
    "change", [{"amount": 1}, {"order_id": "order-2"}, {"payment_method": "pm_1"}], ids=repr
)
async def test_a_key_with_another_charge_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    """A key stands for one charge; another one under it is neither made nor taken for the first."""
    ledger = LedgerTransport(tmp_path / "ledger")
    await ledger.charge(ORDER, "k")
    with pytest.raises(ApplicationError, match="'k'") as raised:
        await ledger.charge(ORDER.model_copy(update=change), "k")
    assert (raised.value.type, raised.value.non_retryable) == ("IdempotencyKeyReused", False)
    assert charges(tmp_path / "ledger") == [("k", "order-1")]


async def test_concurrent_charges_with_one_key_are_one(tmp_path: Path) -> None:
    """Fifty requests at once make one charge; one of them made it, and the others say so."""
    ledger = LedgerTransport(tmp_path / "ledger")
    receipts = await asyncio.gather(*(ledger.charge(ORDER, "k") for _ in range(50)))
    assert len({receipt.charge_id for receipt in receipts}) == 1
    assert sum(not receipt.replayed for receipt in receipts) == 1
    assert charges(tmp_path / "ledger") == [("k", "order-1")]


def test_a_ledger_waits_for_others_that_are_making_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not wait for a lock when it changes its journal; the ledger does."""
    with closing(sqlite3.connect(tmp_path / "ledger", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def sleep(_seconds: float) -> None:
            # The first time that the ledger waits, the other one is done.
            other.execute("COMMIT")

        monkeypatch.setattr(time, "sleep", sleep)
        Ledger(tmp_path / "ledger").charge("k", order_id="order-1", payment="{}")
    assert charges(tmp_path / "ledger") == [("k", "order-1")]


# Waits for a line on its standard input, so that all processes begin at once.
_CHARGE = """
import sys
import time
from pathlib import Path
from activities.payments.ledger import Ledger

sys.stdin.readline()
ledger = Ledger(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(ledger.charge(f"key-{number}", order_id="order-1", payment="{}").charge_id, flush=True)
"""


def start(ledger: Path, count: int) -> "subprocess.Popen[str]":
    """Return a process that is about to make a ledger and to charge."""
    return subprocess.Popen(
        [sys.executable, "-c", _CHARGE, str(ledger), str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process: "subprocess.Popen[str]") -> None:
    """Let the process begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_that_charge_the_same_keys_charge_once_each(tmp_path: Path) -> None:
    """Eight processes make one ledger and charge twenty keys each: twenty charges, found by all."""
    processes = [start(tmp_path / "ledger", 20) for _ in range(8)]
    for process in processes:
        go(process)
    printed = [process.communicate()[0] for process in processes]
    assert len(set(printed)) == 1
    assert len(printed[0].split()) == len(charges(tmp_path / "ledger")) == 20


def test_a_killed_process_leaves_a_ledger_that_works(tmp_path: Path) -> None:
    """After kill -9 in the middle of its charges, each charge is there or not, and the rest can be made."""
    process = start(tmp_path / "ledger", 1_000)
    go(process)
    assert process.stdout is not None
    reported = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    process.communicate()
    other = Ledger(tmp_path / "ledger")
    again = [other.charge(f"key-{number}", order_id="order-1", payment="{}") for number in range(20)]
    assert [entry.charge_id for entry in again] == reported
    keys = [key for key, _ in charges(tmp_path / "ledger")]
    assert len(keys) == len(set(keys))


# ----------------------------------------------------------------------------------------------- activity


async def test_a_deduplicated_call_charges_once_for_all_its_attempts(tmp_path: Path) -> None:
    """The key of the execution goes to the provider, so attempts on any worker are one charge."""
    activities = PaymentActivities(LedgerTransport(tmp_path / "ledger"))
    for attempt in (1, 2):
        await run(
            activities,
            workflow_type=DELEGATED,
            workflow_id="org:acme:order-1",
            activity_id=format_activity_id(1, "0a1b2c-1"),
            attempt=attempt,
        )
    assert charges(tmp_path / "ledger") == [("0a1b2c-1", "order-1")]


async def test_the_attempts_of_a_plain_call_are_one_charge(tmp_path: Path) -> None:
    """Without a deduplication key, attempts of one call share a key of their own, and calls do not."""
    activities = PaymentActivities(LedgerTransport(tmp_path / "ledger"))
    for activity_id, attempt in (("1", 1), ("1", 2), ("2", 1)):
        await run(activities, activity_id=activity_id, attempt=attempt)
    assert charges(tmp_path / "ledger") == [("test-run-1", "order-1"), ("test-run-2", "order-1")]


async def run(activities: PaymentActivities, **info: Any) -> None:
    """Run the activity as an attempt that Temporal describes like this."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, **info)
    await environment.run(activities.charge, ORDER)


# ----------------------------------------------------------------------------------------------- settings


class Worker(BaseSettings):
    """Settings that nest a service's, as the worker's do."""

    model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__", hide_input_in_errors=True)

    payments: PaymentSettings = LedgerSettings()


def test_settings_choose_the_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is the default; environment variables choose and set up either transport."""
    assert Worker().payments == LedgerSettings()
    monkeypatch.setenv("APP_PAYMENTS__TRANSPORT", "ledger")
    monkeypatch.setenv("APP_PAYMENTS__PATH", str(tmp_path / "new" / "ledger"))
    assert isinstance(Worker().payments.open(), LedgerTransport)
    assert charges(tmp_path / "new" / "ledger") == []

    monkeypatch.delenv("APP_PAYMENTS__PATH")
    monkeypatch.setenv("APP_PAYMENTS__TRANSPORT", "stripe")
    monkeypatch.setenv("APP_PAYMENTS__API_KEY", " sk_test_123 ")
    settings = Worker().payments
    assert settings == StripeSettings(api_key=SecretStr("sk_test_123"))
    assert isinstance(settings.open(), StripeTransport)
    assert "sk_test_123" not in repr(settings)


@pytest.mark.parametrize(
    ("mode", "key"), [("live", "sk_test_1"), ("test", "sk_live_1"), ("test", "sk_1"), (None, "rk_live_1")]
)
def test_a_key_of_the_other_mode_is_refused(mode: str | None, key: str) -> None:
    """Who tests takes no money by accident, and who sells is not paid in play money. Test is the default."""
    section = {"api_key": key} if mode is None else {"api_key": key, "mode": mode}
    with pytest.raises(ValidationError, match=f"no key of {mode or 'test'} mode") as raised:
        StripeSettings.model_validate(section)
    assert key not in str(raised.value)
    assert StripeSettings.model_validate({"api_key": "rk_live_1", "mode": "live"}).mode == "live"


@pytest.mark.parametrize("name", ["PATH", "API_KEYS"])
def test_a_setting_that_the_transport_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What belongs to another transport, or is misspelt, is refused before the worker starts."""
    for variable, value in (("TRANSPORT", "stripe"), ("API_KEY", "sk_secret"), (name, "x")):
        monkeypatch.setenv(f"APP_PAYMENTS__{variable}", value)
    with pytest.raises(ValidationError) as raised:
        Worker()
    assert "sk_secret" not in str(raised.value)


def test_a_ledger_that_cannot_be_made_is_an_error_at_start(tmp_path: Path) -> None:
    """A worker does not start with a ledger that takes no charges."""
    (tmp_path / "file").write_text("This is no ledger. " * 1_000)
    with pytest.raises(sqlite3.DatabaseError):
        LedgerSettings(path=tmp_path / "file").open()

"""The local provider as a process of its own, as the tests that kill workers use it."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import stripe
from pydantic import SecretStr

from activities.payments import Charge, StripeTransport
from tests.fakes.ledger import Ledger
from tests.fakes.stripe_server import API_KEY

ROOT = Path(__file__).parents[2]
ORDER = Charge(order_id="order-1", customer="cus_ada", amount=1_099, currency="eur")


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK keeps a telemetry id in the home directory.
    monkeypatch.setattr(stripe, "enable_telemetry", False)


def transport(provider: "subprocess.Popen[str]") -> StripeTransport:
    """Return a transport to the provider, which prints its address once it can be reached."""
    assert provider.stdout is not None
    url = provider.stdout.readline().strip()
    return StripeTransport(api_key=SecretStr(API_KEY), base_url=url, timeout=timedelta(seconds=10))


def start(*options: str | Path) -> "subprocess.Popen[str]":
    """Start a provider in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.stripe_server", *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_charges_outlive_the_provider_that_made_them(tmp_path: Path) -> None:
    """A provider that is killed and started again on its ledger still knows every key."""
    ledger = tmp_path / "stripe.sqlite3"
    receipts = []
    for _ in range(2):
        with start("--ledger", ledger) as process:
            receipts.append(await transport(process).charge(ORDER, "k"))
            process.kill()
    assert receipts[1] == receipts[0].model_copy(update={"replayed": True})
    assert len(Ledger(ledger).effects()) == 1


async def test_a_provider_can_be_told_to_ignore_keys(tmp_path: Path) -> None:
    """Started like this, it shows what happens where a provider knows no idempotency keys."""
    ledger = tmp_path / "stripe.sqlite3"
    with start(
        "--ledger", ledger, "--ignore-idempotency", "--delay", "0.01", "--answer-delay", "0.01"
    ) as process:
        client = transport(process)
        for _ in range(2):
            await client.charge(ORDER, "k")
        process.kill()
    assert [effect.key for effect in Ledger(ledger).effects()] == ["k", "k"]

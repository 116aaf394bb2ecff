"""The jobs, with the transports they have by default, or with ones that fail."""

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import HttpUrl, SecretStr
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

from activities.database import DatabaseActivities, Statement
from activities.email import Email, EmailActivities, EmailReceipt, EmailTransport, OutboxTransport
from activities.errors import ErrorKind, provider_error
from activities.payments import Charge, ChargeReceipt, LedgerTransport, PaymentActivities, PaymentTransport
from activities.slack import FolderTransport as SlackFolder
from activities.slack import SlackActivities, SlackMessage, SlackReceipt, SlackTransport
from activities.webhook import FolderTransport, WebhookActivities
from dedupe import DidNotHappen, Scope, UnknownOutcomeError
from dedupe.model.names import CLAIM
from tests.support.ground import Ground
from workflows.digest import KEPT_FOR, Digest, DigestJob
from workflows.invoice import OTHER_CHARGE, Invoice, InvoiceJob, ReceiptNotSent, ReceiptSent
from workflows.onboarding import OnboardingJob, welcome_key
from workflows.order import Order, OrderJob
from workflows.user import User

ADA = User(id="u1", name="Ada", email="ada@example.com")
ORDER = Charge(order_id="o1", customer="c1", amount=1099, currency="eur")


class Refusing:
    """Takes no message."""

    def __init__(self, kind: ErrorKind) -> None:
        """Refuse for this reason, which is retried or not."""
        self._kind = kind
        self.keys: list[str | None] = []

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """See `EmailTransport`."""
        self.keys.append(idempotency_key)
        raise provider_error(self._kind, f"the provider says no to {email.to}")

    async def find(self, email: Email, idempotency_key: str) -> DidNotHappen:
        """See `EmailTransport`."""
        del email, idempotency_key
        return DidNotHappen()


class Declining(LedgerTransport):
    """A ledger that declines one card."""

    async def charge(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt:
        """See `PaymentTransport`."""
        if charge.payment_method == "empty":
            raise provider_error(ErrorKind.PAYMENT_DECLINED, "no funds")
        return await super().charge(charge, idempotency_key)


class Shop:
    """Workers of the jobs on a ground, over an outbox and a ledger of their own."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        """Begin with nothing sent and nothing charged."""
        self.ground = ground
        self.outbox = OutboxTransport(folder / "outbox")
        self.ledger = LedgerTransport(folder / "ledger.sqlite3")
        self.webhooks = FolderTransport(folder / "webhooks")
        self.slack = SlackFolder(folder / "slack")
        self.database = DatabaseActivities(SecretStr(f"sqlite:///{folder}/database.sqlite3"))
        self._folder = folder

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return what a statement returns."""
        return list((await self.database.execute(Statement(sql=sql), f"key-{time.time_ns()}")).rows)

    def entries(self, table: str) -> int:
        """Return how many charges, or refunds, the ledger holds."""
        with closing(sqlite3.connect(self._folder / "ledger.sqlite3")) as file:
            return int(file.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a test's word

    @property
    def notes(self) -> int:
        """How many notes were really posted."""
        return len(list((self._folder / "slack").iterdir()))

    @property
    def events(self) -> int:
        """How many webhooks were really sent."""
        return len(list((self._folder / "webhooks").iterdir()))

    @property
    def messages(self) -> int:
        """How many messages were really sent."""
        return len(list((self._folder / "outbox" / "new").iterdir()))

    @asynccontextmanager
    async def open(
        self,
        ground: Ground | None = None,
        *,
        email: EmailTransport | None = None,
        payments: PaymentTransport | None = None,
        slack: SlackTransport | None = None,
    ) -> AsyncGenerator[None]:
        """Run a worker of the jobs."""
        async with (ground or self.ground).worker(
            workflows=[OnboardingJob, InvoiceJob, DigestJob, OrderJob],
            activities=[
                EmailActivities(email or self.outbox).send_email,
                PaymentActivities(payments or self.ledger).charge,
                PaymentActivities(payments or self.ledger).find_charge,
                PaymentActivities(payments or self.ledger).refund,
                WebhookActivities(self.webhooks).send_webhook,
                SlackActivities(slack or self.slack).post_message,
                SlackActivities(slack or self.slack).find_message,
                self.database.execute_statement,
            ],
        ):
            yield


@pytest.fixture
def shop(skipping: Ground, tmp_path: Path) -> Shop:
    """A shop on the server that skips time."""
    return Shop(skipping, tmp_path)


def reason(error: WorkflowFailureError) -> ApplicationError:
    """Return what the job failed with, under the activity's error if there is one."""
    cause = error.cause.cause if isinstance(error.cause, ActivityError) else error.cause
    assert isinstance(cause, ApplicationError)
    return cause


ORDERS = "CREATE TABLE orders (order_id TEXT PRIMARY KEY, charge_id TEXT, amount INTEGER, currency TEXT)"


async def test_an_order_is_paid_booked_and_announced_once(shop: Shop) -> None:
    """However many jobs it has."""
    await shop.rows(ORDERS)
    order = Order(
        charge=ORDER,
        receipt_to=ADA.email,
        note_to="C024BE91L",
        announce_to=HttpUrl("http://127.0.0.1:9/hooks"),
    )
    async with shop.open():
        first = await shop.ground.run(OrderJob.run, order)
        assert await shop.ground.run(OrderJob.run, order) == first
    assert first.receipt is not None
    assert first.note is not None
    assert shop.notes == 1
    assert first.announcement is not None
    assert await shop.rows("SELECT order_id, charge_id FROM orders") == [
        {"order_id": "o1", "charge_id": first.charge_id}
    ]
    assert (shop.entries("charges"), shop.entries("refunds"), shop.messages, shop.events) == (1, 0, 1, 1)


class Breaking(SlackFolder):
    """Posts, and says that it cannot tell."""

    async def post(self, message: SlackMessage, idempotency_key: str) -> SlackReceipt:
        """See base class."""
        await super().post(message, idempotency_key)
        raise UnknownOutcomeError("the connection broke")


async def test_a_note_that_nobody_knows_of_is_looked_for(shop: Shop, tmp_path: Path) -> None:
    """It is posted once, and the order goes on."""
    await shop.rows(ORDERS)
    async with shop.open(slack=Breaking(tmp_path / "slack")):
        done = await shop.ground.run(OrderJob.run, Order(charge=ORDER, note_to="C024BE91L"))
    assert done.note is not None
    assert shop.notes == 1


async def test_an_order_that_cannot_be_booked_is_given_back_once(shop: Shop) -> None:
    """The money goes back, and no later job takes the charge for a payment."""
    order = Order(charge=ORDER, receipt_to=ADA.email)
    async with shop.open():
        for _ in range(2):
            with pytest.raises(WorkflowFailureError) as caught:
                await shop.ground.run(OrderJob.run, order)
            assert "no such table" in reason(caught.value).message
        await shop.rows(ORDERS)
        with pytest.raises(WorkflowFailureError):
            await shop.ground.run(OrderJob.run, order)
    assert (shop.entries("charges"), shop.entries("refunds"), shop.messages) == (1, 1, 0)


async def test_a_user_is_welcomed_once(shop: Shop) -> None:
    """Of two deliveries the first sends the message; the second gets its record, without a claim."""
    ground = shop.ground
    async with shop.open():
        first = await ground.run(OnboardingJob.run, ADA)
        second = await ground.run(OnboardingJob.run, ADA)
    assert first == second
    assert shop.messages == 1
    assert await ground.scheduled(0) == [CLAIM]
    await ground.assert_hit(1)
    record = await ground.keys.get(welcome_key(ADA))
    assert record is not None
    assert record.started_by == ground.jobs[0].id


async def test_a_welcome_that_fails_fails_the_job_and_is_tried_by_the_next(shop: Shop) -> None:
    """What a provider refuses for good fails the job; the next delivery sends."""
    async with shop.open(email=Refusing(ErrorKind.UNAUTHORIZED)):
        with pytest.raises(WorkflowFailureError) as caught:
            await shop.ground.run(OnboardingJob.run, ADA)
    assert reason(caught.value).type == ErrorKind.UNAUTHORIZED
    async with shop.open():
        await shop.ground.run(OnboardingJob.run, ADA)
    assert shop.messages == 1


@pytest.mark.parametrize(
    ("job", "wrong"),
    [
        ("OnboardingJob", {"id": "u1", "name": "Ada", "email": "nobody"}),
        ("InvoiceJob", {"charge": {"order_id": "o1", "customer": "c1", "amount": -1, "currency": "eur"}}),
        ("DigestJob", {"user": ADA.model_dump(), "day": "some day", "headlines": ["news"]}),
    ],
)
async def test_an_input_that_cannot_be_read_fails_the_job(
    shop: Shop, job: str, wrong: dict[str, Any]
) -> None:
    """A job with a bad input ends with what is wrong, instead of failing workflow tasks for ever."""
    async with shop.open():
        with pytest.raises(WorkflowFailureError) as caught:
            await shop.ground.run(job, wrong)
    assert reason(caught.value).type == "ValidationError"
    assert shop.messages == 0


async def test_an_order_is_charged_once_in_the_organization(shop: Shop) -> None:
    """A job of another project finds the order paid, and its receipt sent."""
    invoice = Invoice(charge=ORDER, receipt_to="ada@example.com")
    billing = shop.ground.beside(project="billing")
    async with shop.open():
        first = await shop.ground.run(InvoiceJob.run, invoice)
    async with shop.open(billing):
        second = await billing.run(InvoiceJob.run, invoice)
    assert first == second
    assert isinstance(first.receipt, ReceiptSent)
    assert shop.messages == 1
    assert await billing.scheduled() == []


async def test_a_receipt_that_cannot_be_sent_does_not_undo_the_sale(shop: Shop) -> None:
    """The job goes on, and its result says that there is no receipt, and why."""
    async with shop.open(email=Refusing(ErrorKind.INVALID_REQUEST)):
        paid = await shop.ground.run(InvoiceJob.run, Invoice(charge=ORDER, receipt_to="ada@example.com"))
    assert paid.order_id == "o1"
    assert isinstance(paid.receipt, ReceiptNotSent)
    assert paid.receipt.reason.startswith("InvalidRequest: the provider says no")


async def test_a_receipt_holds_up_the_job_for_an_hour_at_most(shop: Shop) -> None:
    """A provider that is down for long is retried with growing pauses, and then given up."""
    down = Refusing(ErrorKind.UNAVAILABLE)
    async with shop.open(email=down):
        paid = await shop.ground.run(InvoiceJob.run, Invoice(charge=ORDER, receipt_to="ada@example.com"))
    assert isinstance(paid.receipt, ReceiptNotSent)
    assert 5 < len(down.keys) < 20
    assert len(set(down.keys)) == 1


async def test_without_an_address_there_is_no_receipt(shop: Shop) -> None:
    """Who asks for no receipt gets none, and the result says so."""
    async with shop.open():
        paid = await shop.ground.run(InvoiceJob.run, Invoice(charge=ORDER))
    assert paid.receipt == ReceiptNotSent(reason="nobody asked for one")
    assert shop.messages == 0


async def test_a_declined_order_can_be_paid_with_another_card(shop: Shop, tmp_path: Path) -> None:
    """A declined charge fails the job; the next job of the order charges the other card."""
    async with shop.open(payments=Declining(tmp_path / "cards.sqlite3")):
        with pytest.raises(WorkflowFailureError) as caught:
            await shop.ground.run(InvoiceJob.run, Invoice(charge=with_card("empty")))
        assert reason(caught.value).type == ErrorKind.PAYMENT_DECLINED
        paid = await shop.ground.run(InvoiceJob.run, Invoice(charge=with_card("other")))
    assert paid.charge_id.startswith("ch_")


def with_card(card: str) -> Charge:
    """Return the order, to be paid with a card."""
    return ORDER.model_copy(update={"payment_method": card})


async def test_a_charge_of_another_amount_is_no_answer(shop: Shop) -> None:
    """A job that asks for more than was charged fails, and charges nothing."""
    async with shop.open():
        await shop.ground.run(InvoiceJob.run, Invoice(charge=ORDER))
        more = ORDER.model_copy(update={"amount": 2000})
        with pytest.raises(WorkflowFailureError) as caught:
            await shop.ground.run(InvoiceJob.run, Invoice(charge=more))
    assert reason(caught.value).type == OTHER_CHARGE
    assert "1099 eur" in str(reason(caught.value))


async def test_a_user_gets_one_digest_a_week(real: Ground, tmp_path: Path) -> None:
    """Two runs in one ISO week send one digest; the week after sends the next."""
    # Between two jobs the server that skips time may leap ten years, and the week's record would expire.
    shop = Shop(real, tmp_path)
    days = [date(2026, 3, 2), date(2026, 3, 8), date(2026, 3, 9)]
    async with shop.open():
        results = [
            await shop.ground.run(DigestJob.run, Digest(user=ADA, day=day, headlines=("news",)))
            for day in days
        ]
    assert [result.week for result in results] == ["2026-W10", "2026-W10", "2026-W11"]
    assert results[0] == results[1]
    assert shop.messages == 2
    record = await shop.ground.keys.get("digest-u1-2026-W10", scope=Scope.JOB, job="DigestJob")
    assert record is not None
    assert record.settled_at is not None
    assert record.expires_at == record.settled_at + KEPT_FOR


@pytest.mark.parametrize(
    ("day", "week"),
    [(date(2025, 12, 29), "2026-W01"), (date(2027, 1, 3), "2026-W53"), (date(2026, 3, 2), "2026-W10")],
)
def test_weeks_are_those_of_iso_8601(day: date, week: str) -> None:
    """Around New Year a day belongs to the week that holds its Thursday."""
    assert Digest(user=ADA, day=day, headlines=("news",)).week == week

"""`OrderJob`: an order is paid, booked and announced, each once; and given back once if it cannot be booked.

- Scope: the organization, for all of it, as in `invoice`.
- The charge is held where nobody knows whether it happened (`reconcile`): the provider is asked, and nothing
  is charged a second time, however long ago its window of idempotency ended.
- The booking is a row in a database, in one transaction with the record that it was made. If the database
  refuses it for good, the money goes back, once, and the job fails, as do later jobs of the order: a charge
  that was given back pays for nothing. If it could not be reached, the job fails too, and the next goes on.
- The receipt, the note in Slack and the webhook are courtesies: the order stands without them, and the
  result says so.
"""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, HttpUrl, JsonValue, ValidationError
from temporalio import workflow

from dedupe import FailedResult, Scope, execute_activity

with workflow.unsafe.imports_passed_through():
    from activities.database import DatabaseActivities, Statement, StatementResult
    from activities.email import Email, EmailActivities, Recipient
    from activities.errors import RETRY_POLICY, ErrorKind
    from activities.payments import Charge, ChargeReceipt, PaymentActivities, Refund
    from activities.slack import SlackActivities, SlackChannel, SlackMessage
    from activities.webhook import Event, WebhookActivities

BOOK = """
INSERT INTO orders (order_id, charge_id, amount, currency)
VALUES (:order_id, :charge_id, :amount, :currency)
"""
"""The table is the application's own."""
_FINAL = {ErrorKind.INVALID_REQUEST.value}
"""Types of failures of the booking after which it certainly has not happened, and never will."""
_COURTESY = timedelta(hours=1)
"""How long what the order stands without may hold up the job."""


class Order(BaseModel):
    """An order, and who wants to know of it."""

    model_config = ConfigDict(frozen=True)

    charge: Charge
    receipt_to: Recipient | None = None
    note_to: SlackChannel | None = None
    announce_to: HttpUrl | None = None


class Ordered(BaseModel):
    """What came of the job: the order is paid and booked."""

    model_config = ConfigDict(frozen=True)

    order_id: str
    charge_id: str
    receipt: str | None
    """Id of the message; None: none was asked for, or it could not be sent."""
    note: str | None
    """Id of the message in Slack; None: as above."""
    announcement: str | None
    """Id of the webhook; None: as above."""


# An input that cannot be read fails the job; by default it would fail workflow tasks, for ever.
@workflow.defn(failure_exception_types=[ValidationError])
class OrderJob:
    """Charges, books and announces an order."""

    @workflow.run
    async def run(self, order: Order) -> Ordered:
        """Carry the order out, as far as it was not before."""
        charge = order.charge
        paid = await execute_activity(
            PaymentActivities.charge,
            charge,
            deduplication_key=f"charge-order-{charge.order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            reconcile=PaymentActivities.find_charge,
            # A lost attempt has to be over, by this, before the provider is asked about it.
            start_to_close_timeout=timedelta(seconds=25),
            schedule_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        await self._book_or_give_back(charge, paid)
        return Ordered(
            order_id=charge.order_id,
            charge_id=paid.charge_id,
            receipt=await self._send_receipt(order, paid),
            note=await self._note(order),
            announcement=await self._announce(order, paid),
        )

    async def _book_or_give_back(self, charge: Charge, paid: ChargeReceipt) -> None:
        booked = await self._book(charge, paid, skip_failure=True)
        if isinstance(booked, FailedResult) and booked.type not in _FINAL and booked.reused:
            # An earlier job could not reach the database. What it could not do for good stays undone.
            booked = await self._book(charge, paid, skip_failure=False)
        if isinstance(booked, FailedResult):
            if booked.type in _FINAL:
                await self._give_back(charge, paid)
            raise booked.error

    async def _book(
        self, charge: Charge, paid: ChargeReceipt, *, skip_failure: bool
    ) -> StatementResult | FailedResult:
        row: dict[str, JsonValue] = {
            "order_id": charge.order_id,
            "charge_id": paid.charge_id,
            "amount": paid.amount,
            "currency": paid.currency,
        }
        return await execute_activity(
            DatabaseActivities.execute_statement,
            Statement(sql=BOOK, parameters=row),
            deduplication_key=f"book-order-{charge.order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            skip_failure=skip_failure,
            start_to_close_timeout=timedelta(minutes=1),
            schedule_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(seconds=15),
            retry_policy=RETRY_POLICY,
        )

    async def _give_back(self, charge: Charge, paid: ChargeReceipt) -> None:
        await execute_activity(
            PaymentActivities.refund,
            Refund(
                order_id=charge.order_id,
                charge_id=paid.charge_id,
                amount=paid.amount,
                currency=paid.currency,
            ),
            deduplication_key=f"refund-order-{charge.order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            start_to_close_timeout=timedelta(minutes=1),
            # Less than the 24 hours for which the provider remembers the idempotency key.
            schedule_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=timedelta(seconds=15),
            retry_policy=RETRY_POLICY,
        )

    async def _send_receipt(self, order: Order, paid: ChargeReceipt) -> str | None:
        if order.receipt_to is None:
            return None
        order_id = order.charge.order_id
        sent = await execute_activity(
            EmailActivities.send_email,
            Email(
                to=order.receipt_to,
                subject=f"Receipt for order {order_id}",
                text=f"Order {order_id} is paid.\nPayment: {paid.charge_id}\n",
            ),
            deduplication_key=f"receipt-email-{order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            skip_failure=True,
            start_to_close_timeout=timedelta(seconds=30),
            schedule_to_close_timeout=_COURTESY,
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        return None if isinstance(sent, FailedResult) else sent.message_id

    async def _note(self, order: Order) -> str | None:
        if order.note_to is None:
            return None
        order_id = order.charge.order_id
        posted = await execute_activity(
            SlackActivities.post_message,
            SlackMessage(channel=order.note_to, text=f"Order {order_id} is paid."),
            deduplication_key=f"note-order-{order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            reconcile=SlackActivities.find_message,  # Slack takes no idempotency key
            skip_failure=True,
            start_to_close_timeout=timedelta(seconds=30),
            schedule_to_close_timeout=_COURTESY,
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        return None if isinstance(posted, FailedResult) else posted.ts

    async def _announce(self, order: Order, paid: ChargeReceipt) -> str | None:
        if order.announce_to is None:
            return None
        order_id = order.charge.order_id
        sent = await execute_activity(
            WebhookActivities.send_webhook,
            Event(
                url=order.announce_to,
                type="order.paid",
                data={"order_id": order_id, "charge_id": paid.charge_id},
                happened_at=workflow.now(),
            ),
            deduplication_key=f"announce-order-{order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            skip_failure=True,
            start_to_close_timeout=timedelta(seconds=30),
            schedule_to_close_timeout=_COURTESY,
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        return None if isinstance(sent, FailedResult) else sent.webhook_id

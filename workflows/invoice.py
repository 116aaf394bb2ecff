"""`InvoiceJob`: an order is charged once, and its customer gets a receipt if one can be sent.

- Scope: the organization, for both. An order belongs to the organization, and shop, back office and billing
  are projects that may all ask for the money; the customer pays once.
- Failure of the charge: it fails the job. A charge that was declined is made again by the next job of the
  order, say with another card; one that was made never is.
- Failure of the receipt: the job goes on (`skip_failure=True`). The receipt is a courtesy, and no reason to
  call a paid order failed. The result says whether it went out.

The key is the order and not the card, so that a second try with another card is still the same charge. But a
record of another amount is no answer to this order: then the job fails.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from dedupe import FailedResult, Scope, execute_activity

with workflow.unsafe.imports_passed_through():
    from activities.email import Email, EmailActivities, Recipient
    from activities.errors import RETRY_POLICY
    from activities.payments import Charge, ChargeReceipt, PaymentActivities

OTHER_CHARGE = "OtherCharge"
"""Type of the error of a job whose order was charged before, with another amount."""


class Invoice(BaseModel):
    """An order to be paid."""

    model_config = ConfigDict(frozen=True)

    charge: Charge
    receipt_to: Recipient | None = None
    """Who gets the receipt. None: nobody asked for one."""


class ReceiptSent(BaseModel):
    """The receipt went out, now or in an earlier job of the order."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["sent"] = "sent"
    message_id: str


class ReceiptNotSent(BaseModel):
    """There is no receipt."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["not sent"] = "not sent"
    reason: str


class Invoiced(BaseModel):
    """What came of the job: the order is paid."""

    model_config = ConfigDict(frozen=True)

    order_id: str
    charge_id: str
    receipt: Annotated[ReceiptSent | ReceiptNotSent, Field(discriminator="kind")]


# An input that cannot be read fails the job; by default it would fail workflow tasks, for ever.
@workflow.defn(failure_exception_types=[ValidationError])
class InvoiceJob:
    """Charges an order and sends its receipt."""

    @workflow.run
    async def run(self, invoice: Invoice) -> Invoiced:
        """Charge the order, unless it is paid; then send the receipt, unless it was sent."""
        charge = invoice.charge
        paid = await execute_activity(
            PaymentActivities.charge,
            charge,
            deduplication_key=f"charge-order-{charge.order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            start_to_close_timeout=timedelta(minutes=1),
            # Less than the 24 hours for which a provider remembers the idempotency key.
            schedule_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=timedelta(seconds=15),
            retry_policy=RETRY_POLICY,
        )
        if (paid.amount, paid.currency) != (charge.amount, charge.currency):
            raise ApplicationError(
                f"Order {charge.order_id!r} was charged {paid.amount} {paid.currency} before, as "
                f"{paid.charge_id}. This job asks for {charge.amount} {charge.currency}: which is right?",
                type=OTHER_CHARGE,
                non_retryable=True,
            )
        receipt = await self._send_receipt(invoice, paid)
        return Invoiced(order_id=charge.order_id, charge_id=paid.charge_id, receipt=receipt)

    async def _send_receipt(self, invoice: Invoice, paid: ChargeReceipt) -> ReceiptSent | ReceiptNotSent:
        order_id = invoice.charge.order_id
        if invoice.receipt_to is None:
            return ReceiptNotSent(reason="nobody asked for one")
        sent = await execute_activity(
            EmailActivities.send_email,
            Email(
                to=invoice.receipt_to,
                subject=f"Receipt for order {order_id}",
                text=f"Order {order_id} is paid.\nPayment: {paid.charge_id}\n",
            ),
            deduplication_key=f"receipt-email-{order_id}",
            deduplication_scope=Scope.ORGANIZATION,
            skip_failure=True,
            start_to_close_timeout=timedelta(seconds=30),
            # How long a courtesy may hold up the job.
            schedule_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        if isinstance(sent, FailedResult):
            return ReceiptNotSent(reason=f"{sent.type}: {sent.message}")
        return ReceiptSent(message_id=sent.message_id)

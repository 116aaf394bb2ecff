"""Charges and refunds, and the activities that make them over one transport or another."""

from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from temporalio import activity

from activities.attempt import heartbeating, idempotency_key
from dedupe import DidNotHappen, Happened

Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=255)]
"""An identifier that means something to someone else."""

Currency = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z]{3}$")]
"""An ISO 4217 code, kept in lower case as Stripe writes it."""


class Charge(BaseModel):
    """An amount that a customer owes for an order."""

    model_config = ConfigDict(frozen=True)

    order_id: Identifier
    customer: Identifier
    """The provider's id of the customer."""
    amount: Annotated[int, Field(strict=True, gt=0, lt=2**53)]
    """In the smallest unit of the currency: 1099 is 10.99 euros, or 1099 yen."""
    currency: Currency
    payment_method: Identifier | None = None
    """The provider's id of what to charge. None: the customer's default source."""


class ChargeReceipt(BaseModel):
    """What a transport says of a payment it took."""

    model_config = ConfigDict(frozen=True)

    charge_id: str
    """The provider's id of the payment: the same however often it is asked for with one key."""
    status: Literal["succeeded", "processing"]
    """Processing: the bank takes days, as for direct debits; the provider reports the end elsewhere."""
    amount: int
    currency: str
    replayed: bool
    """Whether an earlier request with the same idempotency key made the charge."""
    live: bool = False
    """Whether money moves: neither the ledger nor Stripe's test mode takes any."""


class Refund(BaseModel):
    """The whole of a charge, given back."""

    model_config = ConfigDict(frozen=True)

    order_id: Identifier
    charge_id: Identifier
    """As the receipt of the charge has it."""
    amount: Annotated[int, Field(strict=True, gt=0, lt=2**53)]
    currency: Currency


class RefundReceipt(BaseModel):
    """What a transport says of a refund: the same however often it is asked for with one key."""

    model_config = ConfigDict(frozen=True)

    refund_id: str
    amount: int
    currency: str


class PaymentTransport(Protocol):
    """Takes payments."""

    async def charge(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt:
        """Charge the customer, once for all requests with this key; without a key, every time.

        Raises:
            ApplicationError: It was not charged, or nobody knows; the type is an `ErrorKind`.
        """
        ...

    async def find(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt | None:
        """Return the charge of an order that was made before; None where there is none.

        Raises:
            ApplicationError: The provider could not be asked; the type is an `ErrorKind`.
        """
        ...

    async def refund(self, refund: Refund, idempotency_key: str | None) -> RefundReceipt:
        """Give a charge back, once for all requests with this key; without a key, every time.

        Raises:
            ApplicationError: It was not refunded, or nobody knows; the type is an `ErrorKind`.
        """
        ...


class PaymentActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: PaymentTransport) -> None:
        self._transport = transport

    @activity.defn(name="charge")
    async def charge(self, charge: Charge) -> ChargeReceipt:
        """Charge a customer, once for all attempts under the call's idempotency key."""
        async with heartbeating():
            return await self._transport.charge(charge, idempotency_key())

    @activity.defn(name="find_charge")
    async def find_charge(self, charge: Charge) -> Happened[ChargeReceipt] | DidNotHappen:
        """Find out what became of a charge, for `reconcile`."""
        async with heartbeating():
            receipt = await self._transport.find(charge, idempotency_key())
        return DidNotHappen() if receipt is None else Happened(receipt)

    @activity.defn(name="refund")
    async def refund(self, refund: Refund) -> RefundReceipt:
        """Give a charge back, once for all attempts under the call's idempotency key."""
        async with heartbeating():
            return await self._transport.refund(refund, idempotency_key())

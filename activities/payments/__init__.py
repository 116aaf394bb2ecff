"""`charge`: a payment into a ledger on disk, or through Stripe; `find_charge`: what became of one.

Both transports are idempotent: a key that is sent again charges nothing and gets the first charge back, and
with another payment it is an error. The ledger knows a key for ever; Stripe for 24 hours, so retry for less
than that: give the call a schedule-to-close timeout. Stripe also keeps the errors of requests it has begun to
carry out: a card that was declined stays declined under its key, and a server error comes back unchanged.

A job that would rather ask than trust in the key gives `reconcile="find_charge"`: it looks for a payment of
the order among those of the customer.
"""

from typing import Annotated

from pydantic import Field

from activities.payments.on_disk import LedgerSettings, LedgerTransport
from activities.payments.service import (
    Charge,
    ChargeReceipt,
    Currency,
    Identifier,
    PaymentActivities,
    PaymentTransport,
    Refund,
    RefundReceipt,
)
from activities.payments.through_stripe import StripeSettings, StripeTransport

__all__ = [
    "Charge",
    "ChargeReceipt",
    "Currency",
    "Identifier",
    "LedgerSettings",
    "LedgerTransport",
    "PaymentActivities",
    "PaymentSettings",
    "PaymentTransport",
    "Refund",
    "RefundReceipt",
    "StripeSettings",
    "StripeTransport",
]

PaymentSettings = Annotated[LedgerSettings | StripeSettings, Field(discriminator="transport")]

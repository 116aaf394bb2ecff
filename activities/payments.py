"""`charge`: a payment into a ledger on disk, or through Stripe; `find_charge`: what became of one.

Both transports are idempotent: a key that is sent again charges nothing and gets the first charge back, and
with another payment it is an error. The ledger knows a key for ever; Stripe for 24 hours, so retry for less
than that: give the call a schedule-to-close timeout. Stripe also keeps the errors of requests it has begun to
carry out: a card that was declined stays declined under its key, and a server error comes back unchanged.

A job that would rather ask than trust in the key gives `reconcile="find_charge"`: it looks for a payment of
the order among those of the customer.
"""

import asyncio
import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self, assert_never

import stripe
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints, model_validator
from stripe.params import PaymentIntentCreateParams, RefundCreateParams
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value, heartbeating, idempotency_key
from activities.errors import ErrorKind, header, provider_error
from activities.ledger import Ledger
from activities.settings import ApiKey, RequestTimeout, Section
from dedupe import DidNotHappen, Happened

Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=255)]
"""An identifier that means something to someone else."""

Currency = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z]{3}$")]
"""An ISO 4217 code, kept in lower case as Stripe writes it."""

_STRIPE_KEY_LIMIT = 255
_TAKEN = {"succeeded", "processing"}
"""States of a PaymentIntent whose money was taken, or is on its way."""


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


class LedgerTransport:
    """Writes charges into a SQLite file, and takes money from nobody."""

    def __init__(self, path: Path, *, answers_after: timedelta = timedelta(0)) -> None:
        """Make the file, if it is not there yet.

        Args:
            path: Where it is.
            answers_after: How long a charge that is written goes unanswered, as with a slow bank.

        Raises:
            OSError: Its folder cannot be made.
            sqlite3.Error: The file cannot be made, or is no ledger.
        """
        self._ledger = Ledger(path)
        self._answers_after = answers_after

    async def charge(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt:
        """See `PaymentTransport`. sqlite3.Error, which Temporal retries: the disk would not take it."""
        entry = await asyncio.to_thread(
            self._ledger.charge,
            idempotency_key,
            order_id=charge.order_id,
            payment=charge.model_dump_json(),
        )
        await asyncio.sleep(self._answers_after.total_seconds())
        if Charge.model_validate_json(entry.payment) != charge:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The ledger holds another charge under idempotency key {idempotency_key!r}",
            )
        return ChargeReceipt(
            charge_id=entry.charge_id,
            status="succeeded",
            amount=charge.amount,
            currency=charge.currency,
            replayed=not entry.is_new,
        )

    async def find(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt | None:
        """See `PaymentTransport`."""
        charge_id = await asyncio.to_thread(self._ledger.find, idempotency_key)
        if charge_id is None:
            return None
        return ChargeReceipt(
            charge_id=charge_id,
            status="succeeded",
            amount=charge.amount,
            currency=charge.currency,
            replayed=True,
        )

    async def refund(self, refund: Refund, idempotency_key: str | None) -> RefundReceipt:
        """See `PaymentTransport`."""
        entry = await asyncio.to_thread(
            self._ledger.refund,
            idempotency_key,
            order_id=refund.order_id,
            payment=refund.model_dump_json(),
        )
        if Refund.model_validate_json(entry.payment) != refund:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The ledger holds another refund under idempotency key {idempotency_key!r}",
            )
        return RefundReceipt(refund_id=entry.charge_id, amount=refund.amount, currency=refund.currency)


class StripeTransport:
    """Charges through Stripe (https://stripe.com): a PaymentIntent, confirmed while the customer is away."""

    def __init__(
        self,
        *,
        api_key: ApiKey,
        base_url: str = "https://api.stripe.com",
        timeout: timedelta = timedelta(seconds=20),
    ) -> None:
        self._api_key = api_key
        self._client = stripe.StripeClient(
            api_key.get_secret_value(),
            base_addresses={"api": base_url.rstrip("/")},
            max_network_retries=0,  # Temporal retries, and its attempts are seen.
            http_client=stripe.RequestsClient(timeout=math.ceil(timeout.total_seconds())),
        )

    async def charge(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt:
        """See `PaymentTransport`."""
        return await asyncio.to_thread(self._charge, charge, idempotency_key)

    def _charge(self, charge: Charge, key: str | None) -> ChargeReceipt:
        params: PaymentIntentCreateParams = {
            "amount": charge.amount,
            "currency": charge.currency,
            "customer": charge.customer,
            "confirm": True,
            "off_session": True,
            # Without a customer to follow it, a redirect is an error at once instead of a payment that hangs.
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"order_id": charge.order_id},
        }
        if charge.payment_method is not None:
            params["payment_method"] = charge.payment_method
        try:
            intent = self._client.v1.payment_intents.create(
                params,
                {} if key is None else {"idempotency_key": header_value(key, limit=_STRIPE_KEY_LIMIT)},
            )
        except stripe.StripeError as error:
            raise self._refusal(error) from None
        try:
            return _receipt(intent)
        except AttributeError:  # what the SDK says of a field that is not there
            raise provider_error(ErrorKind.UNAVAILABLE, "Stripe answered without a payment") from None

    async def find(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt | None:
        """See `PaymentTransport`. It is found by its order: Stripe answers no question about a key."""
        del idempotency_key
        return await asyncio.to_thread(self._find, charge)

    def _find(self, charge: Charge) -> ChargeReceipt | None:
        try:
            listed = self._client.v1.payment_intents.list({"customer": charge.customer, "limit": 100})
            for intent in listed.auto_paging_iter():
                order_id = intent.metadata.to_dict().get("order_id")
                if order_id == charge.order_id and intent.status in _TAKEN:
                    return _receipt(intent).model_copy(update={"replayed": True})
        except stripe.StripeError as error:
            raise self._refusal(error) from None
        return None

    async def refund(self, refund: Refund, idempotency_key: str | None) -> RefundReceipt:
        """See `PaymentTransport`."""
        return await asyncio.to_thread(self._refund, refund, idempotency_key)

    def _refund(self, refund: Refund, key: str | None) -> RefundReceipt:
        params: RefundCreateParams = {
            "payment_intent": refund.charge_id,
            "amount": refund.amount,
            "metadata": {"order_id": refund.order_id},
        }
        try:
            made = self._client.v1.refunds.create(
                params,
                {} if key is None else {"idempotency_key": header_value(key, limit=_STRIPE_KEY_LIMIT)},
            )
        except stripe.StripeError as error:
            raise self._refusal(error) from None
        return RefundReceipt(refund_id=made.id, amount=made.amount, currency=made.currency)

    def _refusal(self, error: stripe.StripeError) -> ApplicationError:
        # https://docs.stripe.com/error-low-level
        match error:
            case stripe.CardError():
                kind = ErrorKind.PAYMENT_DECLINED
            case stripe.IdempotencyError():
                kind = ErrorKind.IDEMPOTENCY_KEY_REUSED
            case _:
                kind = ErrorKind.of_status(error.http_status)
        said = error.error
        code = None if said is None else said.decline_code or said.code or said.type
        status = "did not answer" if error.http_status is None else f"answered {error.http_status}"
        return provider_error(
            kind,
            f"Stripe {status} ({code}): {error}",
            code=code,
            headers=error.headers,
            secret=self._api_key,
        )


def _receipt(intent: stripe.PaymentIntent) -> ChargeReceipt:
    succeeded = intent.status == "succeeded"
    if not succeeded and intent.status != "processing":
        raise provider_error(
            ErrorKind.PAYMENT_DECLINED,
            f"Stripe left payment {intent.id} as {intent.status}",
            code=intent.status,
        )
    response = intent.last_response
    return ChargeReceipt(
        charge_id=intent.id,
        status="succeeded" if succeeded else "processing",
        amount=intent.amount,
        currency=intent.currency,
        replayed=response is not None and header(response.headers, "Idempotent-Replayed") == "true",
        live=intent.livemode,
    )


class LedgerSettings(Section):
    """Charges stay on this machine."""

    transport: Literal["ledger"] = "ledger"
    path: Path = Path("var/ledger.sqlite3")
    """SQLite file that holds them; made where it is not there yet."""
    answers_after: Annotated[timedelta, Ge(timedelta(0))] = timedelta(0)
    """How long a charge that is written goes unanswered, as with a slow bank."""


class StripeSettings(Section):
    """Charges go through Stripe."""

    transport: Literal["stripe"] = "stripe"
    mode: Literal["test", "live"] = "test"
    """Live takes money. Give each mode a project of its own: a key that was charged in one is charged."""
    api_key: ApiKey
    """Secret or restricted key of that mode that may create PaymentIntents: sk_test_..., rk_live_..."""
    base_url: HttpUrl = HttpUrl("https://api.stripe.com")
    """Where Stripe is."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long Stripe may stay silent: 1 second to 5 minutes."""

    @model_validator(mode="after")
    def _key_of_the_mode(self) -> Self:
        if not re.match(f"[rs]k_{self.mode}_", self.api_key.get_secret_value()):
            raise ValueError(
                f"api_key is no key of {self.mode} mode (sk_{self.mode}_... or rk_{self.mode}_...): "
                "use one, or set mode to the key's"
            )
        return self


PaymentSettings = Annotated[LedgerSettings | StripeSettings, Field(discriminator="transport")]


def payment_transport(settings: LedgerSettings | StripeSettings) -> PaymentTransport:
    """Return the transport that the settings choose.

    Raises:
        OSError: The ledger's folder cannot be made.
        sqlite3.Error: The ledger cannot be made, or the file is no ledger.
    """
    match settings:
        case LedgerSettings():
            return LedgerTransport(settings.path, answers_after=settings.answers_after)
        case StripeSettings():
            return StripeTransport(
                api_key=settings.api_key, base_url=str(settings.base_url), timeout=settings.timeout
            )
        case _ as never:
            assert_never(never)

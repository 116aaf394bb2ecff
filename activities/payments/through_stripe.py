"""Through Stripe (https://stripe.com), which knows a key for 24 hours."""

import asyncio
import math
import re
from datetime import timedelta
from typing import Literal, Self

import stripe
from pydantic import HttpUrl, model_validator
from stripe.params import PaymentIntentCreateParams, RefundCreateParams
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value
from activities.errors import ErrorKind, header, provider_error
from activities.payments.service import Charge, ChargeReceipt, Refund, RefundReceipt
from activities.settings import ApiKey, RequestTimeout, Section

_STRIPE_KEY_LIMIT = 255
_TAKEN = {"succeeded", "processing"}
"""States of a PaymentIntent whose money was taken, or is on its way."""


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

    def open(self) -> StripeTransport:
        """Return the transport."""
        return StripeTransport(api_key=self.api_key, base_url=str(self.base_url), timeout=self.timeout)

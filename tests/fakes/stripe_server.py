"""Stripe, as https://docs.stripe.com documents `POST /v1/payment_intents` with confirm=true, and its errors.

    python -m tests.fakes.stripe_server --port 8026 --ledger stripe.sqlite3

Idempotency keys (https://docs.stripe.com/api/idempotent_requests and .../error-low-level): up to 255
characters, known for 24 hours after a request was begun; its answer is kept whatever it is, a declined card
and a server error included. Rate limits and invalid parameters come before that and are not kept. Payment
methods are Stripe's own test ones: https://docs.stripe.com/testing.
"""

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from tests.fakes.ledger import Answer
from tests.fakes.provider import Provider, Request, main

API_KEY = "sk_test_loopback"
_LONGEST_KEY = 255
_CREATED = 1_760_000_000
_REQUIRED = ("amount", "currency", "customer")
_DECLINES = {
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline", "Your card was declined."),
    "pm_card_visa_chargeDeclinedInsufficientFunds": (
        "card_declined",
        "insufficient_funds",
        "Your card has insufficient funds.",
    ),
    "pm_card_authenticationRequired": (
        "authentication_required",
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
}


def error(status: int, type_: str, message: str, *, code: str | None = None, **more: str) -> Answer:
    """Return an error in Stripe's form; null fields are left out, as Stripe does."""
    fields = {"type": type_, "message": message, **({} if code is None else {"code": code}), **more}
    return Answer(status=status, body={"error": fields})


class StripeServer(Provider):
    """A local Stripe: `POST /v1/payment_intents` with confirm=true."""

    def handle(self, request: Request) -> Answer | None:
        """See `Provider`: every answer names the request, and its key."""
        answer = super().handle(request)
        if answer is None:
            return None
        echo = {} if request.key is None else {"Idempotency-Key": request.key}
        return replace(answer, headers={"Request-Id": f"req_{uuid4().hex[:14]}", **echo, **answer.headers})

    def check(self, request: Request) -> Answer | None:
        """See `Provider`."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if given != self._api_key:
            shown = f"{given[:8]}{'*' * 8}{given[-4:]}"
            return error(
                HTTPStatus.UNAUTHORIZED, "invalid_request_error", f"Invalid API Key provided: {shown}"
            )
        path, _, query = request.path.partition("?")
        if (request.method, path) == ("GET", "/v1/payment_intents"):
            return self._listed(dict(parse_qsl(query)))
        if (request.method, request.path) == ("POST", "/v1/refunds"):
            return self._why_no_refund(_fields(request))
        if (request.method, request.path) != ("POST", "/v1/payment_intents"):
            return error(
                HTTPStatus.NOT_FOUND,
                "invalid_request_error",
                f"Unrecognized request URL ({request.method}: {request.path}).",
            )
        if request.key is not None and len(request.key) > _LONGEST_KEY:
            return error(
                HTTPStatus.BAD_REQUEST, "idempotency_error", "Keys for idempotent requests are too long."
            )
        fields = _fields(request)
        missing = [field for field in _REQUIRED if field not in fields]
        if missing:
            return error(
                HTTPStatus.BAD_REQUEST,
                "invalid_request_error",
                f"Missing required param: {missing[0]}.",
                code="parameter_missing",
                param=missing[0],
            )
        return None

    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """See `Provider`."""
        fields = _fields(request)
        if request.path == "/v1/refunds":
            return _refund(fields)
        declined = _DECLINES.get(fields.get("payment_method", ""))
        if declined is not None:
            code, decline_code, message = declined
            return (
                error(
                    HTTPStatus.PAYMENT_REQUIRED, "card_error", message, code=code, decline_code=decline_code
                ),
                None,
            )
        content = {"id": f"pi_{uuid4().hex[:24]}", **fields}
        return Answer(status=HTTPStatus.OK, body=_intent(content)), content

    def _why_no_refund(self, fields: Mapping[str, str]) -> Answer | None:
        """https://docs.stripe.com/api/refunds/create: of a payment that is there, and was not given back."""
        intent = fields.get("payment_intent", "")
        contents = [effect.content for effect in self.effects]
        if all(each["id"] != intent for each in contents):
            return error(
                HTTPStatus.NOT_FOUND,
                "invalid_request_error",
                f"No such payment_intent: '{intent}'",
                code="resource_missing",
                param="payment_intent",
            )
        return None

    def _listed(self, query: Mapping[str, str]) -> Answer:
        """https://docs.stripe.com/api/payment_intents/list: the newest first, in pages."""
        effects = [each.content for each in reversed(self.effects) if "customer" in each.content]
        found = [each for each in effects if each["customer"] == query.get("customer", each["customer"])]
        if after := query.get("starting_after"):
            ids = [each["id"] for each in found]
            found = found[ids.index(after) + 1 :] if after in ids else []
        limit = int(query.get("limit", "10"))
        page: dict[str, Any] = {
            "object": "list",
            "url": "/v1/payment_intents",
            "has_more": len(found) > limit,
            "data": [_intent(each) for each in found[:limit]],
        }
        return Answer(status=HTTPStatus.OK, body=page)

    def keeps(self, answer: Answer) -> bool:
        """See `Provider`: errors too."""
        return True

    def in_progress(self, key: str) -> Answer:
        """See `Provider`."""
        conflict = error(
            HTTPStatus.CONFLICT,
            "idempotency_error",
            f"There is currently another in-progress request using this Idempotent Key: {key}. "
            "Please try again later.",
            code="idempotency_key_in_use",
        )
        return replace(conflict, headers={"Stripe-Should-Retry": "true"})

    def mismatch(self, key: str) -> Answer:
        """See `Provider`."""
        return error(
            HTTPStatus.BAD_REQUEST,
            "idempotency_error",
            "Keys for idempotent requests can only be used with the same parameters they were first used "
            f"with. Try using a key other than '{key}' if you meant to execute a different request.",
        )

    def replay(self, answer: Answer) -> Answer:
        """See `Provider`."""
        return replace(answer, headers={**answer.headers, "Idempotent-Replayed": "true"})


def _intent(content: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": content["id"],
        "object": "payment_intent",
        "amount": int(content["amount"]),
        "amount_capturable": 0,
        "amount_received": int(content["amount"]),
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "created": _CREATED,
        "currency": content["currency"],
        "customer": content["customer"],
        "metadata": {"order_id": content.get("metadata[order_id]", "")},
        "payment_method": content.get("payment_method"),
        "payment_method_types": ["card"],
        "status": "succeeded",
        "livemode": False,
    }


def _refund(fields: Mapping[str, str]) -> tuple[Answer, Mapping[str, str]]:
    content = {"id": f"re_{uuid4().hex[:24]}", **fields}
    body: dict[str, Any] = {
        "id": content["id"],
        "object": "refund",
        "amount": int(fields["amount"]),
        "created": _CREATED,
        "currency": "eur",
        "payment_intent": fields["payment_intent"],
        "status": "succeeded",
    }
    return Answer(status=HTTPStatus.OK, body=body), content


def _fields(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


if __name__ == "__main__":
    main(StripeServer, api_key=API_KEY)

"""What a provider answers, as errors that Temporal retries or does not.

The kind of an error says whether another attempt can help; it is the `type` of the `ApplicationError`, and
the first of its details is the provider's own code. An error that is flagged non-retryable is a definite no:
nothing was sent or charged. After any other, but for `NOT_TAKEN`, the effect may have happened, so whoever
tries again has to use the same idempotency key; where that is of no use either, `RETRY_POLICY` stops at the
type.
No message holds an API key.
"""

import math
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

from pydantic import SecretStr
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

_LONGEST_DELAY = timedelta(days=1)
_LONGEST_ANSWER = 1_000


class ErrorKind(StrEnum):
    """Why a provider did not do what it was asked to. The value is the type of the `ApplicationError`."""

    INVALID_REQUEST = "InvalidRequest"
    """The request as it stands can never work."""
    UNAUTHORIZED = "Unauthorized"
    """The API key, or what it is allowed to do, is not enough."""
    PAYMENT_DECLINED = "PaymentDeclined"
    """The customer's bank said no, or wants to hear from the customer."""
    IDEMPOTENCY_KEY_REUSED = "IdempotencyKeyReused"
    """The idempotency key stands for a request with other contents, which may have had its effect."""
    RATE_LIMITED = "RateLimited"
    """Too many requests, or a quota is used up."""
    IN_PROGRESS = "InProgress"
    """An earlier request with this idempotency key is not answered yet."""
    NOT_TAKEN = "NotTaken"
    """The provider was not reached, or said that it has taken nothing, and may later."""
    UNAVAILABLE = "ProviderUnavailable"
    """No answer, or a fault of the provider: the effect may have happened."""
    UNKNOWN = "UnknownOutcome"
    """The same, of a provider that takes no idempotency key: another attempt may have the effect again. It is
    the type of `dedupe.UnknownOutcomeError`: a call with `on_unknown="hold"` holds the key."""

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE[self]

    @property
    def definite(self) -> bool:
        """Whether nothing was sent or charged, and never will be by this request."""
        return self in {ErrorKind.INVALID_REQUEST, ErrorKind.UNAUTHORIZED, ErrorKind.PAYMENT_DECLINED}

    @classmethod
    def of_status(cls, status: int | None) -> "ErrorKind":
        """Return what the status of an answer that is no success means; None: there was no answer."""
        match status:
            case None | HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.FAILED_DEPENDENCY | HTTPStatus.TOO_EARLY:
                return cls.UNAVAILABLE
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return cls.UNAUTHORIZED
            case HTTPStatus.CONFLICT:
                return cls.IN_PROGRESS
            case HTTPStatus.TOO_MANY_REQUESTS:
                return cls.RATE_LIMITED
            case _:
                client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
                return cls.INVALID_REQUEST if client_error else cls.UNAVAILABLE


RETRY_POLICY = RetryPolicy(
    maximum_interval=timedelta(minutes=10),
    # Another attempt is of no use, though the effect may have happened.
    non_retryable_error_types=[ErrorKind.IDEMPOTENCY_KEY_REUSED.value],
)
"""How jobs retry a provider."""

_ADVICE = {
    ErrorKind.INVALID_REQUEST: "Correct the request.",
    ErrorKind.UNAUTHORIZED: "Set an API key that is allowed to do this.",
    ErrorKind.PAYMENT_DECLINED: "Ask the customer for another way to pay.",
    ErrorKind.IDEMPOTENCY_KEY_REUSED: "Make the same request again, or use another deduplication key.",
    ErrorKind.RATE_LIMITED: "Send less at once, or have the limit raised.",
    ErrorKind.IN_PROGRESS: "Ask again later, with the same idempotency key.",
    ErrorKind.NOT_TAKEN: "Nothing was sent: ask again later.",
    ErrorKind.UNAVAILABLE: "The effect may have happened: ask again only with the same idempotency key.",
    ErrorKind.UNKNOWN: "The effect may have happened: find out before it is asked for again.",
}


def provider_error(
    kind: ErrorKind,
    happened: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    secret: SecretStr | None = None,
) -> ApplicationError:
    """Return the error to raise, `from None`: the SDK's own may quote the request, and with it the API key.

    Args:
        kind: Decides about retries, and what to do.
        happened: The message's beginning: what was answered, without a full stop.
        code: The provider's own code for it; becomes the error's only detail.
        headers: Of the answer: its Retry-After becomes the delay before the next attempt.
        secret: The API key, which is struck out of the message.
    """
    if secret is not None:
        for word in secret.get_secret_value().split():
            happened = happened.replace(word, str(secret))
    # Providers' texts come in several lines, and a broken proxy answers with a whole page.
    happened = textwrap.shorten(happened, _LONGEST_ANSWER, placeholder=" ...").rstrip(".")
    return ApplicationError(
        f"{happened}. {kind.advice}",
        *(() if code is None else (code,)),
        type=kind.value,
        non_retryable=kind.definite,
        next_retry_delay=None if kind.definite else retry_after(headers or {}),
    )


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long Retry-After asks to wait, at most a day; None where it says nothing that can be read.

    RFC 9110, section 10.2.3: a number of seconds, or an HTTP date.
    """
    value = header(headers, "Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    if math.isnan(seconds):
        return None
    return timedelta(seconds=min(max(seconds, 0), _LONGEST_DELAY.total_seconds()))


def header(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header's value, whatever the case of its name."""
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)

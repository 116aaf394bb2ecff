"""Through Resend (https://resend.com), which knows a key for 24 hours."""

import asyncio
from datetime import timedelta
from typing import Literal

import resend
from pydantic import HttpUrl
from resend.exceptions import NoContentError, ResendError
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value
from activities.email.mime import sender_of
from activities.email.resend_account import Account
from activities.email.service import Email, EmailReceipt, Finding, Sender
from activities.errors import ErrorKind, provider_error
from activities.settings import ApiKey, RequestTimeout, Section
from dedupe import StillUnknown

_KEY_LIMIT = 256


class ResendTransport:
    """Sends messages through Resend (https://resend.com), each call in a thread of its own."""

    def __init__(
        self,
        *,
        api_key: ApiKey,
        sender: Sender,
        base_url: str = "https://api.resend.com",
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self._account = Account(api_key=api_key, base_url=base_url.rstrip("/"), timeout=timeout)
        self._sender = sender

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """See `EmailTransport`."""
        return await asyncio.to_thread(self._send, email, idempotency_key)

    async def find(self, email: Email, idempotency_key: str) -> Finding:
        """See `EmailTransport`. Resend lists messages without their keys, so nobody can tell."""
        del email, idempotency_key
        return StillUnknown()

    def _send(self, email: Email, key: str | None) -> EmailReceipt:
        params: resend.Emails.SendParams = {
            "from": str(sender_of(email, self._sender)),
            "to": email.to,
            "subject": email.subject,
            "text": email.text,
        }
        if email.html is not None:
            params["html"] = email.html
        options: resend.Emails.SendOptions = {}
        if key is not None:
            options["idempotency_key"] = header_value(key, limit=_KEY_LIMIT)
        try:
            message_id = self._account.send(params, options)
        except ResendError as error:
            raise self._refusal(error) from None
        except (NoContentError, KeyError):
            raise provider_error(
                ErrorKind.UNAVAILABLE, "Resend answered without an id of the e-mail"
            ) from None
        return EmailReceipt(message_id=message_id, transport="resend")

    def _refusal(self, error: ResendError) -> ApplicationError:
        # https://resend.com/docs/api-reference/errors
        match error.error_type:
            case "invalid_idempotent_request":
                kind = ErrorKind.IDEMPOTENCY_KEY_REUSED
            case "validation_error":  # also as 403, for a sender whose domain is not verified
                kind = ErrorKind.INVALID_REQUEST
            case _:
                kind = ErrorKind.of_status(int(error.code))
        return provider_error(
            kind,
            f"Resend answered {error.code} {error.error_type}: {error.message}",
            code=error.error_type,
            headers=error.headers,
            secret=self._account.api_key,
        )


class ResendSettings(Section):
    """Messages go out through Resend."""

    transport: Literal["resend"] = "resend"
    api_key: ApiKey
    """Key that may send e-mail."""
    sender: Sender
    """Of messages that name none: an address of a domain that is verified at Resend."""
    base_url: HttpUrl = HttpUrl("https://api.resend.com")
    """Where Resend is."""
    timeout: RequestTimeout = timedelta(seconds=10)
    """How long Resend may stay silent: 1 second to 5 minutes."""

    def open(self) -> ResendTransport:
        """Return the transport."""
        return ResendTransport(
            api_key=self.api_key,
            sender=self.sender,
            base_url=str(self.base_url),
            timeout=self.timeout,
        )

"""`send_webhook`: an event to somebody's endpoint, signed as Standard Webhooks have it; or into a folder.

https://www.standardwebhooks.com: the header `webhook-id` names the event, and is the same for all attempts,
so a receiver that remembers ids takes each event once. It is made of the call's idempotency key. How long a
receiver remembers is its own affair: the guarantee is as good as that. `webhook-timestamp` is the attempt's,
and receivers refuse what is older than a few minutes.
"""

import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal, Protocol

import httpx
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    JsonValue,
    SecretStr,
    StringConstraints,
)
from standardwebhooks import Webhook
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value, heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error
from activities.folder import Folder
from activities.settings import RequestTimeout, Section

_ID_LIMIT = 255
_TOO_LARGE = 413  # it has changed its name between Pythons


class Event(BaseModel):
    """Something that happened, for somebody who wants to know."""

    model_config = ConfigDict(frozen=True)

    url: HttpUrl
    """Of the receiver."""
    type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$", max_length=255)]
    """Such as `order.paid`."""
    data: JsonValue
    happened_at: AwareDatetime
    """Given by the job, so that all attempts say the same."""

    @property
    def body(self) -> str:
        """What is sent, and signed: the same, byte for byte, each time."""
        content = {"type": self.type, "timestamp": self.happened_at.isoformat(), "data": self.data}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))


class WebhookReceipt(BaseModel):
    """What became of an event."""

    model_config = ConfigDict(frozen=True)

    webhook_id: str
    status: int
    """Of the receiver's answer."""


class WebhookTransport(Protocol):
    """Takes events."""

    async def send(self, event: Event, idempotency_key: str) -> WebhookReceipt:
        """Send an event, under the id that the key makes.

        Raises:
            ApplicationError: It was not taken, or nobody knows; the type is an `ErrorKind`.
        """
        ...


class WebhookActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: WebhookTransport) -> None:
        self._transport = transport

    @activity.defn(name="send_webhook")
    async def send_webhook(self, event: Event) -> WebhookReceipt:
        """Send an event, under one id for all attempts."""
        async with heartbeating():
            return await self._transport.send(event, idempotency_key())


class FolderTransport:
    """Writes events into a folder, one file for each id, and sends them to nobody."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._folder = Folder(directory)

    async def send(self, event: Event, idempotency_key: str) -> WebhookReceipt:
        """See `WebhookTransport`."""
        webhook_id = _id(idempotency_key)
        await self._folder.put(webhook_id, event.body)
        return WebhookReceipt(webhook_id=webhook_id, status=HTTPStatus.OK)


class HttpTransport:
    """Sends events by HTTP, signed."""

    def __init__(self, *, secret: SecretStr, timeout: timedelta = timedelta(seconds=20)) -> None:
        """Sign with a secret, as the receivers have it: base64, with or without `whsec_`.

        Raises:
            ValueError: It is not base64.
        """
        self._secret = secret
        self._webhook = Webhook(secret.get_secret_value())
        self._timeout = timeout.total_seconds()

    async def send(self, event: Event, idempotency_key: str) -> WebhookReceipt:
        """See `WebhookTransport`."""
        webhook_id, body, now = _id(idempotency_key), event.body, datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(webhook_id, now, body),
        }
        try:
            # A redirect is an answer like others: what is signed goes to the address that was given.
            async with httpx.AsyncClient(timeout=self._timeout, follow_redirects=False) as client:
                response = await client.post(str(event.url), content=body, headers=headers)
        except httpx.HTTPError as error:
            raise self._refusal(event, None, f"did not answer ({type(error).__name__})", {}) from None
        if not response.is_success:
            status = response.status_code
            raise self._refusal(event, status, f"answered {status}: {response.text}", dict(response.headers))
        return WebhookReceipt(webhook_id=webhook_id, status=response.status_code)

    def _refusal(
        self, event: Event, status: int | None, happened: str, headers: dict[str, str]
    ) -> ApplicationError:
        # Receivers are down, or being deployed, or do not know the route yet: all but the clearest no's are
        # tried again. 410 is the receiver's word that it wants no more.
        kind = {
            HTTPStatus.GONE: ErrorKind.INVALID_REQUEST,
            _TOO_LARGE: ErrorKind.INVALID_REQUEST,
            HTTPStatus.TOO_MANY_REQUESTS: ErrorKind.RATE_LIMITED,
        }.get(status or 0, ErrorKind.UNAVAILABLE)
        where = f"{event.url.scheme}://{event.url.host}"
        return provider_error(
            kind,
            f"The receiver at {where} {happened}",
            code=None if status is None else str(status),
            headers=headers,
            secret=self._secret,
        )


def _id(key: str) -> str:
    return f"msg_{header_value(key, limit=_ID_LIMIT - 4)}"


def _checked(secret: SecretStr) -> SecretStr:
    Webhook(secret.get_secret_value())  # ValueError: it is not base64
    return secret


class FolderSettings(Section):
    """Webhooks stay on this machine."""

    transport: Literal["folder"] = "folder"
    directory: Path = Path("var/webhooks")
    """Folder that holds them; made where it is not there yet."""

    def open(self) -> FolderTransport:
        """Return the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        return FolderTransport(self.directory)


class HttpSettings(Section):
    """Webhooks are sent."""

    transport: Literal["http"] = "http"
    secret: Annotated[SecretStr, AfterValidator(_checked)]
    """What receivers check signatures with: base64, with or without whsec_."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long a receiver may stay silent: 1 second to 5 minutes."""

    def open(self) -> HttpTransport:
        """Return the transport."""
        return HttpTransport(secret=self.secret, timeout=self.timeout)


WebhookSettings = Annotated[FolderSettings | HttpSettings, Field(discriminator="transport")]

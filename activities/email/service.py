"""Messages, and the activities that send them over one transport or another."""

from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, StringConstraints
from temporalio import activity

from activities.attempt import heartbeating, idempotency_key
from dedupe import DidNotHappen, Happened, StillUnknown

# RFC 5322's dot-atom on both sides: what every provider takes. Domains in other scripts come as punycode.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*"

Recipient = Annotated[str, StringConstraints(pattern=rf"^{_ADDRESS}$", max_length=254)]
"""A bare address: `ada@example.com`."""

Sender = Annotated[
    str, StringConstraints(pattern=rf'^(?:[^\x00-\x1f\x7f<>"]+ <{_ADDRESS}>|{_ADDRESS})$', max_length=320)
]
"""An address, with or without a name: `ada@example.com` or `Ada Lovelace <ada@example.com>`."""


class Email(BaseModel):
    """A message to one person."""

    model_config = ConfigDict(frozen=True)

    to: Recipient
    subject: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=998)]
    text: Annotated[str, StringConstraints(min_length=1)]
    html: Annotated[str, StringConstraints(min_length=1)] | None = None
    """The same in HTML, for readers that show it."""
    sender: Sender | None = None
    """None: the sender of the transport's settings."""


class EmailReceipt(BaseModel):
    """What a transport says of a message it took: the same however often it is sent with one key."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    """Outbox and mail server: the message's Message-ID. Resend: its id of the e-mail."""
    transport: Literal["outbox", "resend", "smtp"]


Finding = Happened[EmailReceipt] | DidNotHappen | StillUnknown


class EmailTransport(Protocol):
    """Takes messages."""

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """Send the message, once for all sends with this key; without a key, every time.

        Raises:
            ApplicationError: It was not taken; the type is an `ErrorKind`.
        """
        ...

    async def find(self, email: Email, idempotency_key: str) -> Finding:
        """Look for a message that was sent with this key.

        Raises:
            ApplicationError: The provider cannot be asked; the type is an `ErrorKind`.
        """
        ...


class EmailActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: EmailTransport) -> None:
        self._transport = transport

    @activity.defn(name="send_email")
    async def send_email(self, email: Email) -> EmailReceipt:
        """Send a message, once for all attempts under the call's idempotency key."""
        async with heartbeating():
            return await self._transport.send(email, idempotency_key())

    @activity.defn(name="find_email")
    async def find_email(self, email: Email) -> Happened[EmailReceipt] | DidNotHappen | StillUnknown:
        """Find out what became of a message, for `reconcile`."""
        async with heartbeating():
            return await self._transport.find(email, idempotency_key())

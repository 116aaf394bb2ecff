"""Through a mail server, which takes what it gets, and may file what it took."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from annotated_types import Ge
from pydantic import Field, SecretStr, StringConstraints, model_validator

from activities.email.mail_server import MailServer
from activities.email.mime import FINGERPRINT, compose, message_id_of, name_of, sender_of
from activities.email.sent_folder import SentFolder
from activities.email.service import Email, EmailReceipt, Finding, Sender
from activities.settings import RequestTimeout, Section
from dedupe import DidNotHappen, Happened, StillUnknown


class SmtpTransport:
    """Sends messages through a mail server, which files them where there is a folder of what was sent."""

    def __init__(self, server: MailServer, *, sender: Sender, sent: SentFolder | None = None) -> None:
        self._server = server
        self._sender = sender
        self._sent = sent

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """See `EmailTransport`."""
        sender = sender_of(email, self._sender)
        message = compose(email, sender=sender, name=name_of(idempotency_key))
        del message[FINGERPRINT]
        await self._server.send(message, sender=sender.addr_spec, recipient=email.to)
        return EmailReceipt(message_id=str(message["Message-ID"]), transport="smtp")

    async def find(self, email: Email, idempotency_key: str) -> Finding:
        """See `EmailTransport`. Without a folder of what was sent, nobody can tell."""
        if self._sent is None:
            return StillUnknown()
        message_id = message_id_of(name_of(idempotency_key), sender_of(email, self._sender))
        if await self._sent.holds(message_id):
            return Happened(EmailReceipt(message_id=message_id, transport="smtp"))
        return DidNotHappen()


class SmtpSettings(Section):
    """Messages go out through a mail server."""

    transport: Literal["smtp"] = "smtp"
    host: Annotated[str, StringConstraints(min_length=1)]
    """Its name."""
    port: Annotated[int, Field(gt=0, lt=65_536)] = 587
    """Where it takes messages of its users."""
    encryption: Literal["tls", "starttls", "none"] = "starttls"
    """None is for a server on the same machine."""
    username: str | None = None
    """None: it asks for none."""
    password: SecretStr | None = None
    """Of the user."""
    sender: Sender
    """Of messages that name none: an address that the server lets this user send from."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long the server may stay silent: 1 second to 5 minutes."""
    sent_host: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Where what was sent is read (IMAP), by the same user. None: `find_email` cannot tell."""
    sent_port: Annotated[int, Field(gt=0, lt=65_536)] = 993
    """Where it is read there."""
    sent_encryption: Literal["tls", "starttls", "none"] = "tls"
    """None is for a server on the same machine."""
    sent_folder: Annotated[str, StringConstraints(pattern=r'^[^\x00-\x1f\x7f-\U0010ffff"\\]+$')] = "Sent"
    """Where the server itself files each message that it takes, with the Message-ID that it came with."""
    sent_filed_within: Annotated[timedelta, Ge(timedelta(0))] = timedelta(seconds=5)
    """How much longer than ten seconds that may take; `find_email` waits so long before it says no."""

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.sent_host is not None and (self.username is None or self.password is None):
            raise ValueError("what was sent is read by a user: give username and password")
        return self

    def open(self) -> SmtpTransport:
        """Return the transport."""
        server = MailServer(
            host=self.host,
            port=self.port,
            encryption=self.encryption,
            username=self.username,
            password=self.password,
            timeout=self.timeout,
        )
        return SmtpTransport(server, sender=self.sender, sent=self._sent())

    def _sent(self) -> SentFolder | None:
        if self.sent_host is None or self.username is None or self.password is None:
            return None
        return SentFolder(
            host=self.sent_host,
            port=self.sent_port,
            encryption=self.sent_encryption,
            username=self.username,
            password=self.password,
            folder=self.sent_folder,
            filed_within=self.sent_filed_within,
            timeout=self.timeout,
        )

"""`send_email`: a message into an outbox on disk, through Resend, or through a mail server; `find_email`:
what became of one.

The outbox and Resend are idempotent: a key that is sent again sends nothing and gets the first receipt, and
with another message it is an error. The outbox knows a key for as long as its message is there; Resend for 24
hours, so retry for less than that: give the call a schedule-to-close timeout.

A mail server (SMTP) takes what it gets. All attempts send one Message-ID, by which many mailboxes show a
message once, and none promises to. So what cannot be sent twice holds what nobody knows. Where the server
files what its users send, `find_email` looks for the Message-ID in that folder; otherwise a person does:

    reconcile="find_email"
    on_unknown="hold"
"""

import asyncio
import hashlib
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import default as modern
from email.utils import localtime
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self, assert_never
from uuid import uuid4

import resend
from annotated_types import Ge
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
    model_validator,
)
from resend.exceptions import NoContentError, ResendError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value, heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error
from activities.mail_server import MailServer
from activities.maildir import Maildir
from activities.resend_account import Account
from activities.sent_folder import SentFolder
from activities.settings import ApiKey, RequestTimeout, Section
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

# RFC 5322's longest line, so that no word of a header is broken.
_FORMAT = modern.clone(max_line_length=998)
_FINGERPRINT = "X-Outbox-Fingerprint"
_RESEND_KEY_LIMIT = 256


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


class OutboxTransport:
    """Leaves messages in a Maildir, where any mail reader opens them, and sends them to nobody."""

    def __init__(self, directory: Path, *, sender: Sender = "Acme <hello@acme.example>") -> None:
        """Make the folder, if it is not there yet.

        Raises:
            OSError: It cannot be made.
        """
        self._maildir = Maildir(directory)
        self._sender = sender

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """See `EmailTransport`. OSError, which Temporal retries: the disk would not take the message."""
        return await asyncio.to_thread(self._send, email, idempotency_key)

    async def find(self, email: Email, idempotency_key: str) -> Finding:
        """See `EmailTransport`."""
        name = _name(idempotency_key)
        if not await asyncio.to_thread(self._maildir.holds, name):
            return DidNotHappen()
        message_id = _message_id(name, _sender(email, self._sender))
        return Happened(EmailReceipt(message_id=message_id, transport="outbox"))

    def _send(self, email: Email, key: str | None) -> EmailReceipt:
        name = _name(key)
        message = _compose(email, sender=_sender(email, self._sender), name=name)
        delivered = BytesHeaderParser(policy=_FORMAT).parsebytes(
            self._maildir.deliver(name, message.as_bytes())
        )
        if delivered[_FINGERPRINT] != message[_FINGERPRINT]:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The outbox holds another message under idempotency key {key!r}",
            )
        return EmailReceipt(message_id=str(delivered["Message-ID"]), transport="outbox")


def _compose(email: Email, *, sender: Address, name: str) -> EmailMessage:
    message = EmailMessage(policy=_FORMAT)
    message["From"] = sender
    message["To"] = Address(addr_spec=email.to)
    message["Subject"] = email.subject
    message["Date"] = localtime()
    message["Message-ID"] = _message_id(name, sender)
    # Of all that the sender chose, so that a key that is used for another message is found out.
    content = f"{sender}\n{email.model_dump_json(exclude={'sender'})}"
    message[_FINGERPRINT] = hashlib.sha256(content.encode()).hexdigest()
    message.set_content(email.text)
    if email.html is not None:
        message.add_alternative(email.html, subtype="html")
    return message


def _name(key: str | None) -> str:
    """Return what a message is called: the same for all attempts under a key."""
    return uuid4().hex if key is None else hashlib.sha256(key.encode()).hexdigest()


def _message_id(name: str, sender: Address) -> str:
    return f"<{name}@{sender.domain}>"


def _sender(email: Email, default: Sender) -> Address:
    name, _, address = (email.sender or default).rpartition(" ")
    return Address(display_name=name, addr_spec=address.strip("<>"))


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
            "from": str(_sender(email, self._sender)),
            "to": email.to,
            "subject": email.subject,
            "text": email.text,
        }
        if email.html is not None:
            params["html"] = email.html
        options: resend.Emails.SendOptions = {}
        if key is not None:
            options["idempotency_key"] = header_value(key, limit=_RESEND_KEY_LIMIT)
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


class SmtpTransport:
    """Sends messages through a mail server, which files them where there is a folder of what was sent."""

    def __init__(self, server: MailServer, *, sender: Sender, sent: SentFolder | None = None) -> None:
        self._server = server
        self._sender = sender
        self._sent = sent

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """See `EmailTransport`."""
        sender = _sender(email, self._sender)
        message = _compose(email, sender=sender, name=_name(idempotency_key))
        del message[_FINGERPRINT]
        await self._server.send(message, sender=sender.addr_spec, recipient=email.to)
        return EmailReceipt(message_id=str(message["Message-ID"]), transport="smtp")

    async def find(self, email: Email, idempotency_key: str) -> Finding:
        """See `EmailTransport`. Without a folder of what was sent, nobody can tell."""
        if self._sent is None:
            return StillUnknown()
        message_id = _message_id(_name(idempotency_key), _sender(email, self._sender))
        if await self._sent.holds(message_id):
            return Happened(EmailReceipt(message_id=message_id, transport="smtp"))
        return DidNotHappen()


class OutboxSettings(Section):
    """Messages stay on this machine."""

    transport: Literal["outbox"] = "outbox"
    directory: Path = Path("var/outbox")
    """Maildir that holds them; made where it is not there yet."""
    sender: Sender = "Acme <hello@acme.example>"
    """Of messages that name none."""


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


EmailSettings = Annotated[OutboxSettings | ResendSettings | SmtpSettings, Field(discriminator="transport")]


def email_transport(settings: OutboxSettings | ResendSettings | SmtpSettings) -> EmailTransport:
    """Return the transport that the settings choose.

    Raises:
        OSError: The outbox cannot be made.
    """
    match settings:
        case OutboxSettings():
            return OutboxTransport(settings.directory, sender=settings.sender)
        case ResendSettings():
            return ResendTransport(
                api_key=settings.api_key,
                sender=settings.sender,
                base_url=str(settings.base_url),
                timeout=settings.timeout,
            )
        case SmtpSettings():
            server = MailServer(
                host=settings.host,
                port=settings.port,
                encryption=settings.encryption,
                username=settings.username,
                password=settings.password,
                timeout=settings.timeout,
            )
            return SmtpTransport(server, sender=settings.sender, sent=_sent_folder(settings))
        case _ as never:
            assert_never(never)


def _sent_folder(settings: SmtpSettings) -> SentFolder | None:
    if settings.sent_host is None or settings.username is None or settings.password is None:
        return None
    return SentFolder(
        host=settings.sent_host,
        port=settings.sent_port,
        encryption=settings.sent_encryption,
        username=settings.username,
        password=settings.password,
        folder=settings.sent_folder,
        filed_within=settings.sent_filed_within,
        timeout=settings.timeout,
    )

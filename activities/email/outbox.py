"""Into an outbox on disk, which knows a key for as long as its message is there."""

import asyncio
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Literal

from activities.email.maildir import Maildir
from activities.email.mime import FINGERPRINT, FORMAT, compose, message_id_of, name_of, sender_of
from activities.email.service import Email, EmailReceipt, Finding, Sender
from activities.errors import ErrorKind, provider_error
from activities.settings import Section
from dedupe import DidNotHappen, Happened


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
        name = name_of(idempotency_key)
        if not await asyncio.to_thread(self._maildir.holds, name):
            return DidNotHappen()
        message_id = message_id_of(name, sender_of(email, self._sender))
        return Happened(EmailReceipt(message_id=message_id, transport="outbox"))

    def _send(self, email: Email, key: str | None) -> EmailReceipt:
        name = name_of(key)
        message = compose(email, sender=sender_of(email, self._sender), name=name)
        delivered = BytesHeaderParser(policy=FORMAT).parsebytes(
            self._maildir.deliver(name, message.as_bytes())
        )
        if delivered[FINGERPRINT] != message[FINGERPRINT]:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The outbox holds another message under idempotency key {key!r}",
            )
        return EmailReceipt(message_id=str(delivered["Message-ID"]), transport="outbox")


class OutboxSettings(Section):
    """Messages stay on this machine."""

    transport: Literal["outbox"] = "outbox"
    directory: Path = Path("var/outbox")
    """Maildir that holds them; made where it is not there yet."""
    sender: Sender = "Acme <hello@acme.example>"
    """Of messages that name none."""

    def open(self) -> OutboxTransport:
        """Return the outbox.

        Raises:
            OSError: It cannot be made.
        """
        return OutboxTransport(self.directory, sender=self.sender)

"""A mail server on loopback: it takes messages of one user, or answers as it is told to."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.servers import free_port

USER, PASSWORD = "shop", "open-sesame"


class Mailbox:
    """What the server took, and how it answers."""

    def __init__(
        self, *, delay: timedelta = timedelta(0), file: Callable[[bytes], None] | None = None
    ) -> None:
        """Take everything.

        Args:
            delay: Before a message is taken, and again before the answer.
            file: Files each message that is taken.
        """
        self.taken: list[EmailMessage] = []
        self.recipient_answer = "250 OK"
        self.answer: str | None = "250 OK"
        """To the message; None: the connection is closed."""
        self.attempts = 0
        self._delay = delay
        self._file = file

    async def handle_RCPT(  # noqa: N802 - the server's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient."""
        del server, session, options
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        """Take a message."""
        del session
        self.attempts += 1
        await asyncio.sleep(self._delay.total_seconds())
        if self.answer is None or self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            message = message_from_bytes(envelope.content, policy=modern)
            assert isinstance(message, EmailMessage)
            self.taken.append(message)
            if self._file is not None:
                self._file(envelope.content)
        await asyncio.sleep(self._delay.total_seconds())
        if self.answer is None:
            assert server.transport is not None
            server.transport.close()
            await asyncio.sleep(10)
        return self.answer or ""


@contextmanager
def mail_server(mailbox: Mailbox) -> Generator[int]:
    """Serve a mailbox, on a thread of its own, and yield the port."""
    port = free_port()
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        authenticator=_authenticate,
        auth_require_tls=False,
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    del server, session, envelope, mechanism
    assert isinstance(data, LoginPassword)
    is_known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_known, handled=is_known)  # what is not handled is refused

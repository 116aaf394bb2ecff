"""A mail server, and what its answers mean (RFC 5321): up to the message itself nothing has been sent."""

from datetime import timedelta
from email.message import EmailMessage
from typing import Literal

import aiosmtplib
from aiosmtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind, provider_error

_PERMANENT = 500
_NO_ACCESS = {530, 534, 535, 538}
"""RFC 4954: authentication is needed, and was not given, or not accepted."""


class MailServer:
    """A server that takes messages of its users."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        encryption: Literal["tls", "starttls", "none"],
        username: str | None,
        password: SecretStr | None,
        timeout: timedelta,
    ) -> None:
        self._host = host
        self._port = port
        self._encryption = encryption
        self._username = username
        self._password = password
        self._timeout = timeout.total_seconds()

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """Send a message.

        Raises:
            ApplicationError: It was not taken, or nobody knows; the type is an `ErrorKind`.
        """
        server = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            use_tls=self._encryption == "tls",
            start_tls=self._encryption == "starttls",
            username=self._username,
            password=None if self._password is None else self._password.get_secret_value(),
            timeout=self._timeout,
        )
        try:
            await server.connect()
            await server.mail(sender)
            await server.rcpt(recipient)
        except (SMTPException, OSError) as error:
            server.close()
            raise self._refusal(error, ErrorKind.NOT_TAKEN) from None
        try:
            await server.data(message.as_bytes())
        except (SMTPException, OSError) as error:
            raise self._refusal(error, ErrorKind.UNKNOWN) from None
        finally:
            server.close()  # the server has answered: a QUIT would only be one more that can fail

    def _refusal(self, error: SMTPException | OSError, no_answer: ErrorKind) -> ApplicationError:
        if isinstance(error, SMTPRecipientsRefused):
            error = error.recipients[0]
        if not isinstance(error, SMTPResponseException):
            return provider_error(
                no_answer,
                f"The mail server {self._host} did not answer ({type(error).__name__})",
                secret=self._password,
            )
        if error.code in _NO_ACCESS:
            kind = ErrorKind.UNAUTHORIZED
        else:  # of 4xx it is said that the message was not taken, and may be later
            kind = ErrorKind.INVALID_REQUEST if error.code >= _PERMANENT else ErrorKind.NOT_TAKEN
        return provider_error(
            kind,
            f"The mail server {self._host} answered {error.code}: {error.message}",
            code=str(error.code),
            secret=self._password,
        )

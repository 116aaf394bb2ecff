"""The folder in which a mail server files what its users send: was a message taken? IMAP4rev1, RFC 3501."""

import asyncio
import imaplib
import ssl
from datetime import timedelta
from typing import Literal

from pydantic import SecretStr

from activities.errors import ErrorKind, provider_error


class SentFolder:
    """A folder of the user whose mail is sent."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        encryption: Literal["tls", "starttls", "none"],
        username: str,
        password: SecretStr,
        folder: str,
        filed_within: timedelta,
        timeout: timedelta,
    ) -> None:
        self._host = host
        self._port = port
        self._encryption = encryption
        self._username = username
        self._password = password
        self._folder = folder
        self._filed_within = filed_within.total_seconds()
        self._timeout = timeout.total_seconds()

    async def holds(self, message_id: str) -> bool:
        """Whether a message is there, or comes within the time that the server takes to file one.

        Raises:
            ApplicationError: The folder cannot be read; the type is an `ErrorKind`.
        """
        if await asyncio.to_thread(self._look, message_id):
            return True
        await asyncio.sleep(self._filed_within)
        return await asyncio.to_thread(self._look, message_id)

    def _look(self, message_id: str) -> bool:
        kind = ErrorKind.UNAVAILABLE
        verified = ssl.create_default_context()  # the library's own verifies no certificate
        try:
            with self._connect(verified) as server:
                if self._encryption == "starttls":
                    server.starttls(ssl_context=verified)
                kind = ErrorKind.UNAUTHORIZED
                server.login(self._username, self._password.get_secret_value())
                kind = ErrorKind.INVALID_REQUEST
                said, _ = server.select(f'"{self._folder}"', readonly=True)
                if said != "OK":
                    raise server.error("there is no such folder")
                kind = ErrorKind.UNAVAILABLE
                said, found = server.uid("SEARCH", "HEADER", "Message-ID", f'"{message_id}"')
                if said != "OK":
                    raise server.error("it cannot be searched")
                return any(found)
        except (imaplib.IMAP4.error, OSError) as error:
            # An abort is a connection that broke, whatever was asked.
            is_answer = isinstance(error, imaplib.IMAP4.error) and not isinstance(error, imaplib.IMAP4.abort)
            raise provider_error(
                kind if is_answer else ErrorKind.UNAVAILABLE,
                f"The folder {self._folder!r} at {self._host} cannot be read ({_said(error)})",
                secret=self._password,
            ) from None

    def _connect(self, verified: ssl.SSLContext) -> imaplib.IMAP4:
        if self._encryption == "tls":
            return imaplib.IMAP4_SSL(self._host, self._port, ssl_context=verified, timeout=self._timeout)
        return imaplib.IMAP4(self._host, self._port, timeout=self._timeout)


def _said(error: Exception) -> str:
    # The library passes on bytes of the server's answer.
    said = error.args[0] if error.args else type(error).__name__
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)

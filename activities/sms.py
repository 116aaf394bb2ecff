"""`send_sms`: a text message through Twilio, or into a folder; `find_sms`: what became of one.

Twilio takes no idempotency key, and a message has no room for one that people do not see. So a message names
a reference that its text holds, such as an order's number, and `find_sms` looks for the text among the newest
messages to that number. A job that wants one message holds what nobody knows, and has it looked for:

    on_unknown="hold", reconcile="find_sms"

Without these an attempt that is repeated sends a second one.
"""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self

import requests
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints, model_validator
from temporalio import activity
from temporalio.exceptions import ApplicationError

# The SDK's types are written down, and it says so nowhere.
from twilio.base.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    TwilioException,
    TwilioRestException,
    TwilioServiceException,
)
from twilio.http.http_client import TwilioHttpClient  # pyright: ignore[reportMissingTypeStubs]
from twilio.rest import Client  # pyright: ignore[reportMissingTypeStubs]

from activities.attempt import heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error
from activities.folder import Folder
from activities.settings import ApiKey, RequestTimeout, Section
from dedupe import DidNotHappen, Happened, StillUnknown

_SEARCHED = 200
"""How many of the newest messages to a number are looked through."""

PhoneNumber = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{4,14}$")]
"""E.164: `+491701234567`."""


class Sms(BaseModel):
    """A text message."""

    model_config = ConfigDict(frozen=True)

    to: PhoneNumber
    text: Annotated[str, StringConstraints(min_length=1, max_length=1_600)]
    reference: Annotated[str, StringConstraints(min_length=1)]
    """What the message is about, and no other to this number: a part of its text."""

    @model_validator(mode="after")
    def _is_in_the_text(self) -> Self:
        if self.reference not in self.text:
            raise ValueError("the text does not hold the reference, by which the message is found again")
        return self


class SmsReceipt(BaseModel):
    """A message that was taken."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    """The provider's id of it."""


Finding = Happened[SmsReceipt] | DidNotHappen | StillUnknown


class SmsTransport(Protocol):
    """Takes messages."""

    async def send(self, sms: Sms, idempotency_key: str) -> SmsReceipt:
        """Send a message.

        Raises:
            ApplicationError: It was not taken, or nobody knows; the type is an `ErrorKind`.
        """
        ...

    async def find(self, sms: Sms, idempotency_key: str) -> Finding:
        """Look for a message.

        Raises:
            ApplicationError: The provider cannot be asked; the type is an `ErrorKind`.
        """
        ...


class SmsActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: SmsTransport) -> None:
        self._transport = transport

    @activity.defn(name="send_sms")
    async def send_sms(self, sms: Sms) -> SmsReceipt:
        """Send a message."""
        async with heartbeating():
            return await self._transport.send(sms, idempotency_key())

    @activity.defn(name="find_sms")
    async def find_sms(self, sms: Sms) -> Happened[SmsReceipt] | DidNotHappen | StillUnknown:
        """Find out what became of a message, for `reconcile`."""
        async with heartbeating():
            return await self._transport.find(sms, idempotency_key())


class FolderTransport:
    """Writes messages into a folder, one file for each key, and sends them to nobody."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._folder = Folder(directory)

    async def send(self, sms: Sms, idempotency_key: str) -> SmsReceipt:
        """See `SmsTransport`."""
        await self._folder.put(idempotency_key, sms.model_dump_json())
        return SmsReceipt(message_id=idempotency_key)

    async def find(self, sms: Sms, idempotency_key: str) -> Finding:
        """See `SmsTransport`."""
        del sms
        if await self._folder.holds(idempotency_key):
            return Happened(SmsReceipt(message_id=idempotency_key))
        return DidNotHappen()


class TwilioTransport:
    """Sends through Twilio's Programmable Messaging (https://www.twilio.com/docs/messaging)."""

    def __init__(
        self,
        *,
        account_sid: str,
        auth_token: ApiKey,
        sender: PhoneNumber,
        base_url: str = "https://api.twilio.com",
        timeout: timedelta = timedelta(seconds=20),
    ) -> None:
        self._auth_token = auth_token
        self._sender = sender
        self._client = Client(  # type: ignore[no-untyped-call]
            account_sid,
            auth_token.get_secret_value(),
            http_client=TwilioHttpClient(timeout=timeout.total_seconds()),
        )
        self._client.api.base_url = base_url.rstrip("/")

    async def send(self, sms: Sms, idempotency_key: str) -> SmsReceipt:
        """See `SmsTransport`."""
        del idempotency_key
        return await asyncio.to_thread(self._send, sms)

    def _send(self, sms: Sms) -> SmsReceipt:
        try:
            sent = self._client.messages.create(to=sms.to, from_=self._sender, body=sms.text)
        except (TwilioException, requests.RequestException) as error:
            raise self._refusal(error, ErrorKind.UNKNOWN) from None
        return SmsReceipt(message_id=str(sent.sid))

    async def find(self, sms: Sms, idempotency_key: str) -> Finding:
        """See `SmsTransport`. Still unknown: the number got more messages than are looked through."""
        del idempotency_key
        return await asyncio.to_thread(self._find, sms)

    def _find(self, sms: Sms) -> Finding:
        try:
            newest = self._client.messages.list(to=sms.to, limit=_SEARCHED)
        except (TwilioException, requests.RequestException) as error:
            raise self._refusal(error, ErrorKind.UNAVAILABLE) from None
        for each in newest:
            if each.body == sms.text:
                return Happened(SmsReceipt(message_id=str(each.sid)))
        return StillUnknown() if len(newest) == _SEARCHED else DidNotHappen()

    def _refusal(
        self, error: TwilioException | requests.RequestException, perhaps: ErrorKind
    ) -> ApplicationError:
        match error:
            case TwilioRestException(status=status, code=code, msg=said):
                pass
            case TwilioServiceException(status=status, code=code, title=said):
                pass
            case _:
                return provider_error(perhaps, f"Twilio did not answer ({type(error).__name__})")
        kind = ErrorKind.of_status(status)
        return provider_error(
            perhaps if kind is ErrorKind.UNAVAILABLE else kind,
            f"Twilio answered {status} ({code}): {said}",
            code=None if code is None else str(code),
            secret=self._auth_token,
        )


class FolderSettings(Section):
    """Text messages stay on this machine."""

    transport: Literal["folder"] = "folder"
    directory: Path = Path("var/sms")
    """Folder that holds them; made where it is not there yet."""

    def open(self) -> FolderTransport:
        """Return the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        return FolderTransport(self.directory)


class TwilioSettings(Section):
    """Text messages go out through Twilio."""

    transport: Literal["twilio"] = "twilio"
    account_sid: Annotated[str, StringConstraints(pattern=r"^AC[0-9a-fA-F]{32}$")]
    """Of the account: AC..."""
    auth_token: ApiKey
    """Of the account."""
    sender: PhoneNumber
    """A number of the account."""
    base_url: HttpUrl = HttpUrl("https://api.twilio.com")
    """Where Twilio is."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long Twilio may stay silent: 1 second to 5 minutes."""

    def open(self) -> TwilioTransport:
        """Return the transport."""
        return TwilioTransport(
            account_sid=self.account_sid,
            auth_token=self.auth_token,
            sender=self.sender,
            base_url=str(self.base_url),
            timeout=self.timeout,
        )


SmsSettings = Annotated[FolderSettings | TwilioSettings, Field(discriminator="transport")]

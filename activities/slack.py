"""`post_message`: a message in a Slack channel, or in a folder; `find_message`: what became of one.

Slack takes no idempotency key. A message carries the call's key as metadata, which only apps see
(https://docs.slack.dev/messaging/message-metadata), and `find_message` looks for it among the newest
messages of the channel. So a job that wants one message holds what nobody knows, and has it looked for:

    on_unknown="hold", reconcile="find_message"

Without these an attempt that is repeated posts a second time.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value, heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error
from activities.folder import Folder
from activities.settings import ApiKey, RequestTimeout, Section
from dedupe import DidNotHappen, Happened, StillUnknown

_EVENT_TYPE = "deduplicated_message"
_KEY_LIMIT = 255
_PAGE = 200
_PAGES = 5
_NO_ACCESS = {
    "invalid_auth",
    "not_authed",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "missing_scope",
}
_PERHAPS = {"internal_error", "fatal_error", "request_timeout", "service_unavailable"}
"""Errors of which Slack says that some of what was asked for may have been done."""
_RATE_LIMITS = {"ratelimited", "rate_limited", "message_limit_exceeded"}


SlackChannel = Annotated[str, StringConstraints(pattern=r"^[CGD][A-Z0-9]{2,}$")]
"""Slack's id of a channel, such as C024BE91L: history is not read by name."""


class SlackMessage(BaseModel):
    """A text for a channel."""

    model_config = ConfigDict(frozen=True)

    channel: SlackChannel
    text: Annotated[str, StringConstraints(min_length=1, max_length=40_000)]
    """In Slack's own markup."""


class SlackReceipt(BaseModel):
    """A message that is there."""

    model_config = ConfigDict(frozen=True)

    channel: str
    ts: str
    """Slack's id of the message inside its channel."""


class SlackTransport(Protocol):
    """Takes messages."""

    async def post(self, message: SlackMessage, idempotency_key: str) -> SlackReceipt:
        """Post a message that carries the key.

        Raises:
            ApplicationError: It was not posted, or nobody knows; the type is an `ErrorKind`.
        """
        ...

    async def find(
        self, message: SlackMessage, idempotency_key: str
    ) -> Happened[SlackReceipt] | DidNotHappen | StillUnknown:
        """Look for the message that carries the key.

        Raises:
            ApplicationError: The channel cannot be read; the type is an `ErrorKind`.
        """
        ...


class SlackActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: SlackTransport) -> None:
        self._transport = transport

    @activity.defn(name="post_message")
    async def post_message(self, message: SlackMessage) -> SlackReceipt:
        """Post a message."""
        async with heartbeating():
            return await self._transport.post(message, idempotency_key())

    @activity.defn(name="find_message")
    async def find_message(
        self, message: SlackMessage
    ) -> Happened[SlackReceipt] | DidNotHappen | StillUnknown:
        """Find out what became of a message, for `reconcile`."""
        async with heartbeating():
            return await self._transport.find(message, idempotency_key())


class FolderTransport:
    """Writes messages into a folder, one file for each key, and posts them nowhere."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._folder = Folder(directory)

    async def post(self, message: SlackMessage, idempotency_key: str) -> SlackReceipt:
        """See `SlackTransport`."""
        await self._folder.put(idempotency_key, message.model_dump_json())
        return SlackReceipt(channel=message.channel, ts=idempotency_key)

    async def find(
        self, message: SlackMessage, idempotency_key: str
    ) -> Happened[SlackReceipt] | DidNotHappen | StillUnknown:
        """See `SlackTransport`."""
        if await self._folder.holds(idempotency_key):
            return Happened(SlackReceipt(channel=message.channel, ts=idempotency_key))
        return DidNotHappen()


class ApiTransport:
    """Posts through Slack's Web API, as the app that the token belongs to.

    The app needs the scopes `chat:write` and, to find messages, `channels:history` (or those of the other
    kinds of channels), and has to be a member of the channel.
    """

    def __init__(
        self,
        *,
        token: ApiKey,
        base_url: str = "https://slack.com/api/",
        timeout: timedelta = timedelta(seconds=20),
    ) -> None:
        self._token = token
        self._client = WebClient(
            token.get_secret_value(),
            base_url=f"{base_url.rstrip('/')}/",
            timeout=math.ceil(timeout.total_seconds()),
            retry_handlers=[],  # Temporal retries, and its attempts are seen.
        )

    async def post(self, message: SlackMessage, idempotency_key: str) -> SlackReceipt:
        """See `SlackTransport`."""
        metadata = {
            "event_type": _EVENT_TYPE,
            "event_payload": {"idempotency_key": _carried(idempotency_key)},
        }
        post = partial(
            self._client.chat_postMessage, channel=message.channel, text=message.text, metadata=metadata
        )
        said = await asyncio.to_thread(self._ask, "chat.postMessage", post, ErrorKind.UNKNOWN)
        return SlackReceipt(channel=said["channel"], ts=said["ts"])

    async def find(
        self, message: SlackMessage, idempotency_key: str
    ) -> Happened[SlackReceipt] | DidNotHappen | StillUnknown:
        """See `SlackTransport`. Still unknown: there are more new messages than are looked through."""
        return await asyncio.to_thread(self._find, message, _carried(idempotency_key))

    def _find(
        self, message: SlackMessage, carried: str
    ) -> Happened[SlackReceipt] | DidNotHappen | StillUnknown:
        cursor = ""
        for _ in range(_PAGES):
            read = partial(
                self._client.conversations_history,
                channel=message.channel,
                include_all_metadata=True,
                limit=_PAGE,
                cursor=cursor or None,
            )
            page = self._ask("conversations.history", read, ErrorKind.UNAVAILABLE)
            for ts in _carriers(page, carried):
                return Happened(SlackReceipt(channel=message.channel, ts=ts))
            cursor = str(_inner(page, "response_metadata").get("next_cursor", ""))
            if not cursor:
                return DidNotHappen()
        return StillUnknown()

    def _ask(self, method: str, request: Callable[[], SlackResponse], perhaps: ErrorKind) -> dict[str, Any]:
        """Return what Slack answers.

        Raises:
            ApplicationError: It refuses. Where nobody knows what it did, the type is `perhaps`.
        """
        try:
            answer = request()
        except SlackApiError as error:
            raise self._refusal(method, error, perhaps) from None
        except (SlackClientError, OSError) as error:  # the SDK passes on what urllib says
            raise provider_error(perhaps, f"Slack did not answer {method} ({type(error).__name__})") from None
        data = cast("dict[str, Any] | bytes", answer.data)
        if isinstance(data, bytes):
            raise provider_error(perhaps, f"Slack's answer to {method} cannot be read")
        return data

    def _refusal(self, method: str, error: SlackApiError, perhaps: ErrorKind) -> ApplicationError:
        response: Any = error.response  # which the SDK does not type
        status = int(response.status_code)
        code = str(response.get("error", "no error code")) if status == HTTPStatus.OK else None
        if code is None:
            kind = ErrorKind.of_status(status)
        elif code in _NO_ACCESS:
            kind = ErrorKind.UNAUTHORIZED
        elif code in _RATE_LIMITS:
            kind = ErrorKind.RATE_LIMITED
        else:
            kind = ErrorKind.UNAVAILABLE if code in _PERHAPS else ErrorKind.INVALID_REQUEST
        return provider_error(
            perhaps if kind is ErrorKind.UNAVAILABLE else kind,
            f"Slack answered {method} with {code or status}",
            code=code or str(status),
            headers=cast("dict[str, str]", response.headers),
            secret=self._token,
        )


def _carried(key: str) -> str:
    return header_value(key, limit=_KEY_LIMIT)


def _carriers(page: Mapping[str, Any], carried: str) -> Iterator[str]:
    """Yield the messages of a page that carry a key."""
    for each in page.get("messages", []):
        metadata = _inner(each, "metadata")
        payload = _inner(metadata, "event_payload")
        if (metadata.get("event_type"), payload.get("idempotency_key")) == (_EVENT_TYPE, carried):
            yield each["ts"]


def _inner(outer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return outer.get(name) or {}


class FolderSettings(Section):
    """Slack messages stay on this machine."""

    transport: Literal["folder"] = "folder"
    directory: Path = Path("var/slack")
    """Folder that holds them; made where it is not there yet."""

    def open(self) -> FolderTransport:
        """Return the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        return FolderTransport(self.directory)


class ApiSettings(Section):
    """Slack messages are posted."""

    transport: Literal["slack"] = "slack"
    token: ApiKey
    """Of a bot: xoxb-..."""
    base_url: HttpUrl = HttpUrl("https://slack.com/api/")
    """Where Slack is."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long Slack may stay silent: 1 second to 5 minutes."""

    def open(self) -> ApiTransport:
        """Return the transport."""
        return ApiTransport(token=self.token, base_url=str(self.base_url), timeout=self.timeout)


SlackSettings = Annotated[FolderSettings | ApiSettings, Field(discriminator="transport")]

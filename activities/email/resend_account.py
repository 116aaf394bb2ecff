"""One account at Resend, kept apart from all others in the process.

The SDK takes its API key, its base URL and its HTTP client from variables of its module. Here only the HTTP
client is ever set, once, to one that asks a context variable whose call it carries: a call made through an
`Account` goes out with that account's key, URL and timeout, and any other use of the SDK in the process as it
did before.
"""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any, cast

import resend
from pydantic import SecretStr
from typing_extensions import override

_installing = Lock()


@dataclass(frozen=True, kw_only=True)
class Account:
    """An API key, and where and how it is used."""

    api_key: SecretStr
    base_url: str
    timeout: timedelta

    def send(self, params: resend.Emails.SendParams, options: resend.Emails.SendOptions) -> str:
        """Send an e-mail with the SDK, blocking, and return Resend's id of it.

        Raises:
            ResendError: Resend did not take it, or did not answer: then the code is 500.
            NoContentError: Resend answered with nothing.
        """
        _Switch.install()
        caller = _calling.set(self)
        try:
            return str(resend.Emails.send(params, options)["id"])
        finally:
            _calling.reset(caller)


_calling: ContextVar[Account | None] = ContextVar("calling", default=None)


class _Switch(resend.HTTPClient):
    """Sends a request as the account that makes it."""

    def __init__(self, otherwise: resend.HTTPClient) -> None:
        self._otherwise = otherwise

    @classmethod
    def install(cls) -> None:
        """Put a switch before the SDK's HTTP client, if there is none."""
        with _installing:
            if not isinstance(resend.default_http_client, cls):
                resend.default_http_client = cls(cast("resend.HTTPClient", resend.default_http_client))

    @override
    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: dict[str, object] | list[object] | None = None,
        files: dict[str, Any] | None = None,
        data: dict[str, str] | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        # The SDK leaves these two out where they are None, and not every client of a user's own knows them.
        more = {name: value for name, value in (("files", files), ("data", data)) if value is not None}
        account = _calling.get()
        if account is None:
            return self._otherwise.request(method, url, headers, json, **more)
        client = resend.RequestsClient(timeout=math.ceil(account.timeout.total_seconds()))
        url = account.base_url + url.removeprefix(resend.api_url)
        headers = {**headers, "Authorization": f"Bearer {account.api_key.get_secret_value()}"}
        return client.request(method, url, headers, json, **more)

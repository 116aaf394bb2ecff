"""Twilio, as https://www.twilio.com/docs/messaging/api/message-resource documents messages, and its errors.

    python -m tests.fakes.twilio_server --port 8029 --ledger twilio.sqlite3

There are no idempotency keys: every request that is taken sends. Lists hold the newest first, in pages.
"""

import base64
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.fakes.ledger import Answer
from tests.fakes.provider import KeylessProvider, Request, main

ACCOUNT = "AC" + "0" * 32
API_KEY = "twilio-token-of-tests"
_WRITTEN_AT = "Thu, 01 Jan 2026 12:00:00 +0000"
_MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"


def error(status: int, code: int, message: str) -> Answer:
    """Return an error in Twilio's form."""
    more = f"https://www.twilio.com/docs/errors/{code}"
    return Answer(status=status, body={"code": code, "message": message, "more_info": more, "status": status})


class TwilioServer(KeylessProvider):
    """A local Twilio, with one account."""

    def check(self, request: Request) -> Answer | None:
        """See `Provider`. Reading is answered here: it has no effect."""
        given = request.headers.get("authorization", "").removeprefix("Basic ")
        if base64.b64decode(given).decode() != f"{ACCOUNT}:{self._api_key}":
            return error(HTTPStatus.UNAUTHORIZED, 20003, "Authenticate")
        path, _, query = request.path.partition("?")
        if path != _MESSAGES:
            return error(HTTPStatus.NOT_FOUND, 20404, f"The requested resource {path} was not found")
        if request.method == "GET":
            return self._list(dict(parse_qsl(query)))
        if not dict(parse_qsl(request.body.decode())).get("Body"):
            return error(HTTPStatus.BAD_REQUEST, 21602, "Message body is required")
        return None

    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """See `Provider`."""
        fields = dict(parse_qsl(request.body.decode()))
        content = {
            "sid": f"SM{len(self.effects):032x}",
            "from": fields["From"],
            "to": fields["To"],
            "body": fields["Body"],
        }
        return Answer(status=HTTPStatus.CREATED, body=_shown(content)), content

    def _list(self, query: Mapping[str, str]) -> Answer:
        found = [each.content for each in reversed(self.effects) if each.content["to"] == query.get("To")]
        page, size = int(query.get("Page", "0")), int(query.get("PageSize", "50"))
        has_more = len(found) > (page + 1) * size
        following = urlencode({**query, "Page": page + 1})
        body: dict[str, Any] = {
            "messages": [_shown(each) for each in found[page * size : (page + 1) * size]],
            "page": page,
            "page_size": size,
            "next_page_uri": f"{_MESSAGES}?{following}" if has_more else None,
        }
        return Answer(status=HTTPStatus.OK, body=body)


def _shown(content: Mapping[str, str]) -> dict[str, Any]:
    uri = f"{_MESSAGES.removesuffix('.json')}/{content['sid']}"
    return {
        **content,
        "account_sid": ACCOUNT,
        "api_version": "2010-04-01",
        "date_created": _WRITTEN_AT,
        "date_sent": None,
        "date_updated": _WRITTEN_AT,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "price_unit": "USD",
        "status": "queued",
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "uri": f"{uri}.json",
    }


if __name__ == "__main__":
    main(TwilioServer, api_key=API_KEY)

"""Slack, as https://docs.slack.dev documents `chat.postMessage`, `conversations.history` and their errors.

    python -m tests.fakes.slack_server --port 8027 --ledger slack.sqlite3

There are no idempotency keys: every request that is taken posts. An error is 200 with `ok: false`; a rate
limit is 429 with Retry-After. Metadata comes with history only where it is asked for.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes.ledger import Answer
from tests.fakes.provider import KeylessProvider, Request, main

API_KEY = "xoxb-loopback"
CHANNEL = "C024BE91L"
_FIRST = 1_700_000_000


def error(code: str, **more: object) -> Answer:
    """Return an error in Slack's form."""
    return Answer(status=HTTPStatus.OK, body={"ok": False, "error": code, **more})


class SlackServer(KeylessProvider):
    """A local Slack, with one channel."""

    def check(self, request: Request) -> Answer | None:
        """See `Provider`. Reading is answered here: it has no effect."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            return error("not_authed")
        if given != self._api_key:
            return error("invalid_auth")
        path, _, query = request.path.partition("?")
        fields = _fields(request, query)
        if path not in {"/chat.postMessage", "/conversations.history"}:
            return error("unknown_method", req_method=path.strip("/"))
        if fields.get("channel") != CHANNEL:
            return error("channel_not_found")
        if path == "/conversations.history":
            return self._history(fields)
        return None if fields.get("text") else error("no_text")

    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """See `Provider`."""
        fields = _fields(request, "")
        metadata = fields.get("metadata", {})
        # Form fields come as text, JSON as what it is.
        parsed = json.loads(metadata) if isinstance(metadata, str) else metadata
        content = {"text": str(fields["text"]), "metadata": json.dumps(parsed)}
        ts = f"{_FIRST + len(self.effects)}.000100"
        answer = {"ok": True, "channel": CHANNEL, "ts": ts, "message": _shown(ts, content["text"])}
        return Answer(status=HTTPStatus.OK, body=answer), {"ts": ts, **content}

    def _history(self, fields: Mapping[str, Any]) -> Answer:
        """The newest first, in pages; a cursor is where the next one begins."""
        with_metadata = str(fields.get("include_all_metadata", "")).lower() in {"1", "true"}
        messages = [
            {
                **_shown(effect.content["ts"], effect.content["text"]),
                **({"metadata": json.loads(effect.content["metadata"])} if with_metadata else {}),
            }
            for effect in reversed(self.effects)
        ]
        begin, limit = int(fields.get("cursor") or 0), int(fields.get("limit", 100))
        has_more = len(messages) > begin + limit
        body: dict[str, Any] = {
            "ok": True,
            "messages": messages[begin : begin + limit],
            "has_more": has_more,
            "response_metadata": {"next_cursor": str(begin + limit) if has_more else ""},
        }
        return Answer(status=HTTPStatus.OK, body=body)


def _shown(ts: str, text: str) -> dict[str, str]:
    return {"type": "message", "subtype": "bot_message", "bot_id": "B019GNRLDS7", "text": text, "ts": ts}


def _fields(request: Request, query: str) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        fields: dict[str, Any] = json.loads(request.body)
        return fields
    return dict(parse_qsl(query or request.body.decode()))


if __name__ == "__main__":
    main(SlackServer, api_key=API_KEY)

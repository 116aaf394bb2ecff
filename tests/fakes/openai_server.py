"""OpenAI, as https://platform.openai.com/docs/api-reference/responses documents responses and their errors.

    python -m tests.fakes.openai_server --port 8031 --ledger openai.sqlite3

There are no idempotency keys: every request that is taken asks the model, and is billed. Only responses in
the background are made here: they are queued at first, and complete by the second look.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tests.fakes.ledger import Answer
from tests.fakes.provider import KeylessProvider, Request, main

API_KEY = "sk-loopback"
_RESPONSES = "/v1/responses"
FAILS, CUT_OFF = "Fail with ", "Write a very long novel."
"""Inputs: a response to the first fails with the code that follows; the second is too long."""


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    """Return an error in OpenAI's form."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(status=status, body=body, headers=headers)


class OpenAIServer(KeylessProvider):
    """A local OpenAI, with one model."""

    def check(self, request: Request) -> Answer | None:
        """See `Provider`. Reading is answered here: it has no effect."""
        if request.headers.get("authorization", "").removeprefix("Bearer ") != self._api_key:
            message = "Incorrect API key provided."
            return error(HTTPStatus.UNAUTHORIZED, "invalid_api_key", message)
        if request.method == "GET":
            return self._shown(request.path.removeprefix(f"{_RESPONSES}/"))
        if request.path != _RESPONSES:
            return error(HTTPStatus.NOT_FOUND, "unknown_url", f"Unknown request URL: POST {request.path}")
        fields = json.loads(request.body)
        if not fields.get("model") or not fields.get("input"):
            return error(HTTPStatus.BAD_REQUEST, "missing_required_parameter", "Missing required parameter.")
        if not (fields.get("background") and fields.get("store")):
            return error(
                HTTPStatus.BAD_REQUEST, "unsupported_parameter", "Only in the background, and stored."
            )
        return None

    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """See `Provider`."""
        fields = json.loads(request.body)
        content = {
            "id": f"resp_{len(self.effects):048x}",
            "model": fields["model"],
            "input": fields["input"],
            "metadata": json.dumps(fields.get("metadata", {})),
        }
        return Answer(status=HTTPStatus.OK, body=_response(content, status="queued")), content

    def _shown(self, response_id: str) -> Answer:
        path = f"{_RESPONSES}/{response_id}"
        for effect in self.effects:
            if effect.content["id"] == response_id:
                looks = sum(request.path == path for request in self.requests)
                status = "in_progress" if looks == 1 else "completed"
                return Answer(status=HTTPStatus.OK, body=_response(effect.content, status=status))
        message = f"Response with id '{response_id}' not found."
        return error(HTTPStatus.NOT_FOUND, "response_not_found", message)


def _response(content: Mapping[str, str], *, status: str) -> dict[str, Any]:
    failure, details = None, None
    if status == "completed" and content["input"].startswith(FAILS):
        status, code = "failed", content["input"].removeprefix(FAILS)
        failure = {"code": code, "message": "The model did not come to an end."}
    elif status == "completed" and content["input"] == CUT_OFF:
        status, details = "incomplete", {"reason": "max_output_tokens"}
    has_text = status in {"completed", "incomplete"}
    text: dict[str, Any] = {"type": "output_text", "text": f"You said: {content['input']}", "annotations": []}
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [text],
    }
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 16,
    }
    return {
        "id": content["id"],
        "object": "response",
        "created_at": 1_760_000_000,
        "status": status,
        "background": True,
        "store": True,
        "error": failure,
        "incomplete_details": details,
        "model": content["model"],
        "metadata": json.loads(content["metadata"]),
        "output": [message] if has_text else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if has_text else None,
    }


if __name__ == "__main__":
    main(OpenAIServer, api_key=API_KEY)

"""Resend, as https://resend.com/docs/api-reference documents `POST /emails` and its errors.

    python -m tests.fakes.resend_server --port 8025 --ledger resend.sqlite3

Idempotency keys (https://resend.com/docs/dashboard/emails/idempotency-keys): 1 to 256 characters, known for
24 hours after an e-mail was sent; errors are not kept.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from uuid import uuid4

from tests.fakes.ledger import Answer
from tests.fakes.provider import Provider, Request, main

API_KEY = "re_test_loopback"
_LONGEST_KEY = 256


def error(status: int, name: str, message: str, **headers: str) -> Answer:
    """Return an error in Resend's form; an underscore in a header's name stands for a hyphen."""
    return Answer(
        status=status,
        body={"statusCode": status, "name": name, "message": message},
        headers={header.replace("_", "-"): value for header, value in headers.items()},
    )


class ResendServer(Provider):
    """A local Resend: `POST /emails`."""

    def check(self, request: Request) -> Answer | None:
        """See `Provider`."""
        if request.path != "/emails":
            return error(HTTPStatus.NOT_FOUND, "not_found", "The requested endpoint does not exist.")
        if request.method != "POST":
            return error(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method is not allowed for the requested path.",
            )
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            return error(
                HTTPStatus.UNAUTHORIZED, "missing_api_key", "Missing API key in the authorization header."
            )
        if given != self._api_key:
            return error(HTTPStatus.FORBIDDEN, "invalid_api_key", "API key is invalid.")
        if request.key is not None and not 1 <= len(request.key) <= _LONGEST_KEY:
            return error(
                HTTPStatus.BAD_REQUEST, "invalid_idempotency_key", "The key must be between 1-256 chars."
            )
        missing = [field for field in ("from", "to", "subject") if not json.loads(request.body).get(field)]
        if missing:
            return error(
                HTTPStatus.UNPROCESSABLE_ENTITY, "missing_required_field", f"Missing `{missing[0]}` field."
            )
        return None

    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """See `Provider`."""
        email_id = str(uuid4())
        return Answer(status=HTTPStatus.OK, body={"id": email_id}), {
            "id": email_id,
            **json.loads(request.body),
        }

    def keeps(self, answer: Answer) -> bool:
        """See `Provider`."""
        return answer.status == HTTPStatus.OK

    def in_progress(self, key: str) -> Answer:
        """See `Provider`."""
        return error(
            HTTPStatus.CONFLICT,
            "concurrent_idempotent_requests",
            "Same idempotency key used while original request is still in progress.",
        )

    def mismatch(self, key: str) -> Answer:
        """See `Provider`."""
        return error(
            HTTPStatus.CONFLICT,
            "invalid_idempotent_request",
            "Same idempotency key used with a different request payload.",
        )

    def replay(self, answer: Answer) -> Answer:
        """See `Provider`: it cannot be told from the first."""
        return answer


if __name__ == "__main__":
    main(ResendServer, api_key=API_KEY)

"""`send_email` through Resend: the real SDK against a local server that behaves as Resend documents."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import resend
from pydantic import SecretStr
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from activities.email import Email, ResendTransport
from activities.errors import ErrorKind
from tests.fakes.ledger import Answer
from tests.fakes.provider import LOOPBACK, Drop, Refuse
from tests.fakes.resend_server import API_KEY, ResendServer, error

SENDER = "Acme <hello@acme.example>"
WELCOME = Email(to="ada@example.com", subject="Welcome", text="Hello, Ada.")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ResendServer]:
    """A Resend of this test's own."""
    with ResendServer(ledger=tmp_path / "resend.sqlite3", api_key=API_KEY) as server:
        yield server


def transport(server: ResendServer, *, api_key: str = API_KEY) -> ResendTransport:
    """Return a transport to the server."""
    return ResendTransport(
        api_key=SecretStr(api_key), sender=SENDER, base_url=server.url, timeout=timedelta(seconds=1)
    )


async def failure(server: ResendServer, *, api_key: str = API_KEY, key: str | None = "k") -> ApplicationError:
    """Return the error of a send that does not work."""
    with pytest.raises(ApplicationError) as raised:
        await transport(server, api_key=api_key).send(WELCOME, key)
    return raised.value


# ----------------------------------------------------------------------------------------------- it works


async def test_an_email_goes_out_as_it_is(server: ResendServer) -> None:
    """Resend gets every field, and the receipt holds its id of the e-mail."""
    email = Email(
        to="ada@example.com", subject="Zoë", text="Hi", html="<p>Hi</p>", sender="Zoë, PhD <z@b.example>"
    )
    receipt = await transport(server).send(email, "welcome-1")
    (effect,) = server.effects
    assert effect.key == "welcome-1"
    assert effect.content == {
        "id": receipt.message_id,
        "from": '"Zoë, PhD" <z@b.example>',
        "to": "ada@example.com",
        "subject": "Zoë",
        "text": "Hi",
        "html": "<p>Hi</p>",
    }
    assert receipt.transport == "resend"


async def test_the_same_key_sends_one_email(server: ResendServer) -> None:
    """A key that is sent again sends nothing and gives the same receipt."""
    receipts = [await transport(server).send(WELCOME, "welcome-1") for _ in range(2)]
    assert receipts[0] == receipts[1]
    assert len(server.effects) == 1


async def test_every_send_without_a_key_is_an_email(server: ResendServer) -> None:
    """No key, no deduplication."""
    receipts = {(await transport(server).send(WELCOME, None)).message_id for _ in range(2)}
    assert len(receipts) == len(server.effects) == 2
    assert [request.key for request in server.requests] == [None, None]


async def test_a_key_too_long_for_resend_still_sends_one_email(server: ResendServer) -> None:
    """Resend takes 256 characters; a longer key is hashed, never cut, so it stands for itself alone."""
    for key in ("k" * 257, "k" * 257, "k" * 258):
        await transport(server).send(WELCOME, key)
    assert len(server.effects) == 2


async def test_a_lost_answer_does_not_send_twice(server: ResendServer) -> None:
    """The e-mail was sent and the answer lost: the next attempt gets the receipt of the first."""
    server.inject(Drop(after_effect=True))
    lost = await failure(server, key="welcome-1")
    assert (lost.type, lost.non_retryable) == ("ProviderUnavailable", False)
    receipt = await transport(server).send(WELCOME, "welcome-1")
    assert [effect.content["id"] for effect in server.effects] == [receipt.message_id]


async def test_without_honoured_keys_a_lost_answer_sends_twice(tmp_path: Path) -> None:
    """Where a provider ignores idempotency keys, an attempt after a lost answer is a second e-mail."""
    with ResendServer(ledger=tmp_path / "l.sqlite3", api_key=API_KEY, honours_keys=False) as server:
        server.inject(Drop(after_effect=True))
        await failure(server, key="welcome-1")
        await transport(server).send(WELCOME, "welcome-1")
        assert [effect.key for effect in server.effects] == ["welcome-1", "welcome-1"]


async def test_a_key_is_known_for_a_day_only(tmp_path: Path) -> None:
    """After the time that Resend keeps keys, the same key is a new e-mail."""
    with ResendServer(ledger=tmp_path / "l.sqlite3", api_key=API_KEY, keeps_answers=timedelta(0)) as server:
        for _ in range(2):
            await transport(server).send(WELCOME, "welcome-1")
        assert len(server.effects) == 2


# ------------------------------------------------------------------------------------------ it does not work


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "validation_error", ErrorKind.INVALID_REQUEST),
        (400, "invalid_idempotency_key", ErrorKind.INVALID_REQUEST),
        (401, "missing_api_key", ErrorKind.UNAUTHORIZED),
        (401, "restricted_api_key", ErrorKind.UNAUTHORIZED),
        (403, "invalid_api_key", ErrorKind.UNAUTHORIZED),
        (403, "validation_error", ErrorKind.INVALID_REQUEST),
        (404, "not_found", ErrorKind.INVALID_REQUEST),
        (405, "method_not_allowed", ErrorKind.INVALID_REQUEST),
        (409, "invalid_idempotent_request", ErrorKind.IDEMPOTENCY_KEY_REUSED),
        (409, "concurrent_idempotent_requests", ErrorKind.IN_PROGRESS),
        (422, "missing_required_field", ErrorKind.INVALID_REQUEST),
        (422, "validation_error", ErrorKind.INVALID_REQUEST),
        (422, "something_new", ErrorKind.INVALID_REQUEST),
        (429, "rate_limit_exceeded", ErrorKind.RATE_LIMITED),
        (429, "daily_quota_exceeded", ErrorKind.RATE_LIMITED),
        (451, "security_error", ErrorKind.INVALID_REQUEST),
        (500, "application_error", ErrorKind.UNAVAILABLE),
        (500, "internal_server_error", ErrorKind.UNAVAILABLE),
        (503, "something_new", ErrorKind.UNAVAILABLE),
    ],
)
async def test_every_documented_error_has_a_kind(
    server: ResendServer, status: int, name: str, kind: ErrorKind
) -> None:
    """What Resend answers decides whether it is tried again, and the message says what to do."""
    server.inject(Refuse(error(status, name, "Because.")))
    failed = await failure(server)
    assert failed.type == kind
    assert failed.non_retryable is kind.definite
    assert list(failed.details) == [name]
    assert failed.message.startswith(f"Resend answered {status} {name}: ")
    assert failed.message.endswith(kind.advice)
    assert failed.__cause__ is None
    assert server.effects == []


async def test_a_wrong_api_key_is_refused_for_good(server: ResendServer) -> None:
    """An API key that Resend does not know will not work the next time."""
    failed = await failure(server, api_key="re_other")
    assert (failed.type, failed.non_retryable) == ("Unauthorized", True)


async def test_a_key_with_another_email_is_refused_for_good(server: ResendServer) -> None:
    """Resend remembers what a key was used for."""
    await transport(server).send(WELCOME.model_copy(update={"text": "Other"}), "k")
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("IdempotencyKeyReused", False)
    assert len(server.effects) == 1


async def test_a_key_in_progress_is_tried_again(server: ResendServer) -> None:
    """While the first request with a key is not answered, others come back later, and get its receipt."""
    with server.paused():
        first = asyncio.create_task(transport(server).send(WELCOME, "k"))
        assert await asyncio.to_thread(server.arrived.acquire, timeout=10)
        failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("InProgress", False)
    assert await first == await transport(server).send(WELCOME, "k")
    assert len(server.effects) == 1


async def test_a_rate_limit_says_when_to_come_back(server: ResendServer) -> None:
    """The next attempt waits for as long as Retry-After says."""
    server.inject(Refuse(error(429, "rate_limit_exceeded", "Too many requests.", retry_after="7")))
    assert (await failure(server)).next_retry_delay == timedelta(seconds=7)
    server.inject(Refuse(error(429, "rate_limit_exceeded", "Too many requests.")))
    assert (await failure(server)).next_retry_delay is None


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_page_from_a_broken_proxy_is_tried_again(server: ResendServer, status: int) -> None:
    """An answer that is not Resend's is a fault that passes."""
    server.inject(Refuse(Answer(status=status, body="<html>Bad gateway</html>")))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)


@pytest.mark.parametrize("body", ["<html>OK</html>", {}, {"object": "email"}], ids=["page", "empty", "no id"])
async def test_a_success_without_an_id_is_tried_again(
    server: ResendServer, body: Mapping[str, object] | str
) -> None:
    """Where nobody can tell whether an e-mail was sent, the same key asks again."""
    server.inject(Refuse(Answer(status=HTTPStatus.OK, body=body)))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)


async def test_a_connection_that_breaks_is_tried_again(server: ResendServer) -> None:
    """No answer is no decision."""
    server.inject(Drop(after_effect=False))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)


async def test_a_provider_that_is_not_there_is_tried_again() -> None:
    """A refused connection is a fault that passes."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        nowhere = ResendTransport(
            api_key=SecretStr(API_KEY), sender=SENDER, base_url=f"http://{LOOPBACK}:{taken.getsockname()[1]}"
        )
        with pytest.raises(ApplicationError) as raised:
            await nowhere.send(WELCOME, "k")
    assert (raised.value.type, raised.value.non_retryable) == ("ProviderUnavailable", False)


async def test_a_provider_that_hangs_is_given_up(server: ResendServer) -> None:
    """The transport's own timeout ends a call that is not answered, so no thread is held for ever."""
    with server.paused():
        failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)
    assert "timed out" in failed.message


# ------------------------------------------------------------------------------------------------ secrets


async def test_no_error_holds_the_api_key(server: ResendServer) -> None:
    """Not even a server that quotes the request brings the API key into a failure that Temporal records."""
    key = "re_very_secret"
    server.inject(Refuse(error(403, "invalid_api_key", f"API key {key} is invalid: Bearer {key}")))
    assert key not in await recorded(await failure(server, api_key=key))


async def test_no_error_of_the_http_client_holds_the_api_key(server: ResendServer) -> None:
    """An API key that is no header makes the HTTP client quote it; the failure does not."""
    key = "re_very_secret\n"
    assert "re_very_secret" not in await recorded(await failure(server, api_key=key))
    assert server.requests == []


async def recorded(failed: ApplicationError) -> str:
    """Return all that Temporal writes into a history, causes and stack traces included."""
    encoded = Failure()
    await DataConverter.default.encode_failure(failed, encoded)
    return str(encoded)


async def test_two_accounts_do_not_see_each_other(
    server: ResendServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's variables belong to the process; two transports, and other code, still do not mix."""

    class Own(resend.HTTPClient):
        """What other code in the process set up."""

        urls: list[tuple[str, str]] = []  # noqa: RUF012

        def request(
            self,
            method: str,
            url: str,
            headers: Mapping[str, str],
            json: dict[str, object] | list[object] | None = None,
            files: dict[str, Any] | None = None,
            data: dict[str, str] | None = None,
        ) -> tuple[bytes, int, Mapping[str, str]]:
            self.urls.append((url, headers["Authorization"]))
            return b'{"id": "own"}', 200, {"content-type": "application/json"}

    monkeypatch.setattr(resend, "default_http_client", Own())
    monkeypatch.setattr(resend, "api_key", "re_own")
    own_url = resend.api_url
    with ResendServer(ledger=tmp_path / "other.sqlite3", api_key="re_other") as other:
        here, there = transport(server), transport(other, api_key="re_other")
        await asyncio.gather(*(side.send(WELCOME, None) for _ in range(10) for side in (here, there)))
        assert len(server.effects) == len(other.effects) == 10
    params: resend.Emails.SendParams = {"from": SENDER, "to": "a@b.example", "subject": "s", "text": "t"}
    assert resend.Emails.send(params)["id"] == "own"
    assert Own.urls == [(f"{own_url}/emails", "Bearer re_own")]
    assert (resend.api_key, resend.api_url) == ("re_own", own_url)

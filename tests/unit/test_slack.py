"""`post_message` and `find_message`: Slack's own SDK against a local server that behaves as documented."""

import json
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind
from activities.slack import (
    ApiSettings,
    ApiTransport,
    FolderSettings,
    FolderTransport,
    SlackMessage,
)
from dedupe import DidNotHappen, Happened, StillUnknown
from tests.fakes.ledger import Answer
from tests.fakes.provider import Drop, Refuse
from tests.fakes.slack_server import API_KEY, CHANNEL, SlackServer, error

PAID = SlackMessage(channel=CHANNEL, text="Order 7 is paid.")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SlackServer]:
    """A Slack of this test's own."""
    with SlackServer(ledger=tmp_path / "slack.sqlite3", api_key=API_KEY) as server:
        yield server


def transport(url: str, *, token: str = API_KEY) -> ApiTransport:
    """Return a transport to the server at this address."""
    return ApiTransport(token=SecretStr(token), base_url=url, timeout=timedelta(seconds=1))


async def failure(
    server: SlackServer, message: SlackMessage = PAID, *, token: str = API_KEY
) -> ApplicationError:
    """Return the error of a message that is not posted."""
    with pytest.raises(ApplicationError) as raised:
        await transport(server.url, token=token).post(message, "k")
    return raised.value


async def test_a_message_carries_its_key(server: SlackServer) -> None:
    """As metadata, which people do not see."""
    receipt = await transport(server.url).post(PAID, "k-1")
    [effect] = server.effects
    assert effect.content["text"] == "Order 7 is paid."
    assert json.loads(effect.content["metadata"])["event_payload"] == {"idempotency_key": "k-1"}
    assert receipt.ts == effect.content["ts"]


async def test_a_message_is_found_by_its_key(server: SlackServer) -> None:
    """Among others with the same text."""
    slack = transport(server.url)
    for key in ("k-0", "k-1", "k-2"):
        await slack.post(PAID, key)
    found = await slack.find(PAID, "k-1")
    assert isinstance(found, Happened)
    assert found.result.ts == server.effects[1].content["ts"]
    assert await slack.find(PAID, "k-3") == DidNotHappen()


async def test_history_is_read_in_pages(server: SlackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its end, or to as many messages as are looked through; then nobody can tell."""
    monkeypatch.setattr("activities.slack._PAGE", 2)
    slack = transport(server.url)
    for number in range(11):
        await slack.post(PAID, f"k-{number}")
    assert isinstance(await slack.find(PAID, "k-1"), Happened)
    assert await slack.find(PAID, "k-0") == StillUnknown()
    monkeypatch.setattr("activities.slack._PAGE", 3)
    assert isinstance(await slack.find(PAID, "k-0"), Happened)
    assert await slack.find(PAID, "another") == DidNotHappen()


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_connection_that_breaks_is_unknown(server: SlackServer, *, after_effect: bool) -> None:
    """The attempt cannot tell, and looking does."""
    server.inject(Drop(after_effect=after_effect))
    raised = await failure(server)
    assert (raised.type, raised.non_retryable) == ("UnknownOutcome", False)
    found = await transport(server.url).find(PAID, "k")
    assert isinstance(found, Happened if after_effect else DidNotHappen)


@pytest.mark.parametrize(
    ("answer", "kind", "definite"),
    [
        (error("channel_not_found"), ErrorKind.INVALID_REQUEST, True),
        (error("token_revoked"), ErrorKind.UNAUTHORIZED, True),
        (error("internal_error"), ErrorKind.UNKNOWN, False),
        (error("ratelimited"), ErrorKind.RATE_LIMITED, False),
        (Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body="<html>down</html>"), ErrorKind.UNKNOWN, False),
    ],
)
async def test_what_an_answer_means(
    server: SlackServer, answer: Answer, kind: ErrorKind, *, definite: bool
) -> None:
    """What can never work is not tried again; where the message may be there, nobody knows."""
    server.inject(Refuse(answer))
    raised = await failure(server)
    assert (raised.type, raised.non_retryable) == (kind, definite)
    assert server.effects == []


async def test_a_rate_limit_says_when_to_come_back(server: SlackServer) -> None:
    """By Retry-After."""
    limited = Answer(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        body={"ok": False, "error": "ratelimited"},
        headers={"Retry-After": "30"},
    )
    server.inject(Refuse(limited))
    raised = await failure(server)
    assert (raised.type, raised.next_retry_delay) == (ErrorKind.RATE_LIMITED, timedelta(seconds=30))


async def test_a_token_is_in_no_message(server: SlackServer) -> None:
    """Also where it is the wrong one."""
    raised = await failure(server, token="xoxb-somebody-elses")  # noqa: S106 - it opens nothing
    assert raised.type == ErrorKind.UNAUTHORIZED
    assert "xoxb-somebody-elses" not in str(raised)


async def test_a_server_that_is_not_there() -> None:
    """Where nothing answers, nobody can tell either: it is not taken apart."""
    with pytest.raises(ApplicationError, match=r"did not answer chat\.postMessage"):
        await transport("http://127.0.0.1:9").post(PAID, "k")


async def test_a_folder_holds_each_message_once(tmp_path: Path) -> None:
    """For a machine without Slack."""
    folder = FolderSettings(directory=tmp_path / "slack").open()
    assert isinstance(folder, FolderTransport)
    assert await folder.find(PAID, "k/1") == DidNotHappen()
    receipts = {(await folder.post(PAID, "k/1")).ts for _ in range(3)}
    assert receipts == {"k/1"}
    assert isinstance(await folder.find(PAID, "k/1"), Happened)
    assert len(list((tmp_path / "slack").iterdir())) == 1
    with pytest.raises(ApplicationError, match="something else"):
        await folder.post(PAID.model_copy(update={"text": "Another."}), "k/1")


def test_settings_choose_the_transport() -> None:
    """And a channel is given by its id."""
    assert isinstance(ApiSettings(token=SecretStr(API_KEY)).open(), ApiTransport)
    with pytest.raises(ValidationError):
        SlackMessage(channel="#general", text="x")

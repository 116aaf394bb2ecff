"""Issues and comments: an SDK of GitHub's REST API against a local server that behaves as documented."""

import time
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind
from activities.github import (
    ApiSettings,
    ApiTransport,
    FolderSettings,
    FolderTransport,
    NewComment,
    NewIssue,
)
from dedupe import DidNotHappen, Happened, StillUnknown
from tests.fakes.github_server import API_KEY, REPOSITORY, GitHubServer, error
from tests.fakes.ledger import Answer
from tests.fakes.provider import Drop, Refuse

ISSUE = NewIssue(repository=REPOSITORY, title="Order 7 cannot be sent", body="The address is missing.")
COMMENT = NewComment(repository=REPOSITORY, issue=1, body="It happened again.")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    """A GitHub of this test's own."""
    with GitHubServer(ledger=tmp_path / "github.sqlite3", api_key=API_KEY) as server:
        yield server


def transport(url: str, *, token: str = API_KEY) -> ApiTransport:
    """Return a transport to the server at this address."""
    return ApiTransport(token=SecretStr(token), base_url=url, timeout=timedelta(seconds=1))


async def failure(
    server: GitHubServer, content: NewIssue | NewComment = ISSUE, *, token: str = API_KEY
) -> ApplicationError:
    """Return the error of what is not written."""
    with pytest.raises(ApplicationError) as raised:
        await transport(server.url, token=token).write(content, "k")
    return raised.value


async def test_an_issue_is_opened(server: GitHubServer) -> None:
    """Its body ends in a mark that readers do not see; the key itself is in no text."""
    receipt = await transport(server.url).write(ISSUE, "key-->1")
    [effect] = server.effects
    assert effect.content["title"] == "Order 7 cannot be sent"
    assert effect.content["body"].startswith("The address is missing.\n\n<!-- deduplicated: ")
    assert "key-->1" not in effect.content["body"]
    assert (receipt.number, receipt.url) == (2, f"https://github.com/{REPOSITORY}/issues/2")


async def test_a_comment_is_added(server: GitHubServer) -> None:
    """With one request."""
    receipt = await transport(server.url).write(COMMENT, "k")
    assert [request.method for request in server.requests] == ["POST"]
    assert receipt.url.startswith(f"https://github.com/{REPOSITORY}/issues/1#issuecomment-")


@pytest.mark.parametrize("content", [ISSUE, COMMENT], ids=["issue", "comment"])
async def test_what_was_written_is_found_by_its_key(
    server: GitHubServer, monkeypatch: pytest.MonkeyPatch, content: NewIssue | NewComment
) -> None:
    """Among others of the same text, on any page; past what is looked through nobody can tell."""
    github = transport(server.url)
    written = [await github.write(content, f"k-{number}") for number in range(120)]
    for number in (0, 60, 119):
        assert await github.find(content, f"k-{number}") == Happened(written[number])
    assert await github.find(content, "another") == DidNotHappen()
    monkeypatch.setattr("activities.github._SEARCHED", 100)
    assert await github.find(content, "k-119") == Happened(written[119])
    assert await github.find(content, "k-0") == StillUnknown()


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_connection_that_breaks_is_unknown(server: GitHubServer, *, after_effect: bool) -> None:
    """The attempt cannot tell, and looking does."""
    server.inject(Drop(after_effect=after_effect))
    raised = await failure(server)
    assert (raised.type, raised.non_retryable) == ("UnknownOutcome", False)
    assert len(server.requests) == 1
    found = await transport(server.url).find(ISSUE, "k")
    assert isinstance(found, Happened if after_effect else DidNotHappen)


@pytest.mark.parametrize(
    ("answer", "kind", "definite"),
    [
        (error(404, "Not Found"), ErrorKind.INVALID_REQUEST, True),
        (error(410, "Issues are disabled for this repo"), ErrorKind.INVALID_REQUEST, True),
        (error(422, "Validation Failed"), ErrorKind.INVALID_REQUEST, True),
        (error(403, "Resource not accessible by personal access token"), ErrorKind.UNAUTHORIZED, True),
        (error(403, "Rate limit", Retry_After="7"), ErrorKind.RATE_LIMITED, False),
        (error(429, "Too many"), ErrorKind.RATE_LIMITED, False),
        (error(502, "Server Error"), ErrorKind.UNKNOWN, False),
        (Answer(status=HTTPStatus.BAD_GATEWAY, body="<html>Unicorn!</html>"), ErrorKind.UNKNOWN, False),
    ],
)
async def test_what_an_answer_means(
    server: GitHubServer, answer: Answer, kind: ErrorKind, *, definite: bool
) -> None:
    """What can never work is not tried again; where it may be there, nobody knows."""
    server.inject(Refuse(answer))
    raised = await failure(server)
    assert (raised.type, raised.non_retryable) == (kind, definite)


async def test_a_limit_that_is_used_up_says_until_when(server: GitHubServer) -> None:
    """By the header that GitHub has for it."""
    reset = str(int(time.time()) + 90)
    server.inject(
        Refuse(error(403, "API rate limit exceeded", X_RateLimit_Remaining="0", X_RateLimit_Reset=reset))
    )
    raised = await failure(server)
    assert raised.type == ErrorKind.RATE_LIMITED
    assert raised.next_retry_delay is not None
    assert timedelta(seconds=80) < raised.next_retry_delay <= timedelta(seconds=91)


async def test_a_token_is_in_no_message(server: GitHubServer) -> None:
    """Also where it is the wrong one."""
    raised = await failure(server, token="github_pat_other")  # noqa: S106 - it opens nothing
    assert raised.type == ErrorKind.UNAUTHORIZED
    assert "github_pat_other" not in str(raised)


async def test_a_folder_holds_each_once(tmp_path: Path) -> None:
    """For a machine without GitHub."""
    folder = FolderSettings(directory=tmp_path / "github").open()
    assert isinstance(folder, FolderTransport)
    assert await folder.find(ISSUE, "k") == DidNotHappen()
    receipts = {(await folder.write(ISSUE, "k")).number for _ in range(3)}
    assert len(receipts) == 1
    assert isinstance(await folder.find(ISSUE, "k"), Happened)


def test_settings_choose_the_transport() -> None:
    """And a repository is named with its owner."""
    assert isinstance(ApiSettings(token=SecretStr(API_KEY)).open(), ApiTransport)
    with pytest.raises(ValidationError):
        NewIssue(repository="shop", title="x", body="y")

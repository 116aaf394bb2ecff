"""`create_issue`, `add_comment`: on GitHub, or in a folder; `find_issue`, `find_comment`: what became of one.

GitHub takes no idempotency key. What is written ends in a comment that readers do not see and that holds the
call's key, and `find_...` looks for it among the newest. So a job that wants one issue holds what nobody
knows, and has it looked for:

    on_unknown="hold", reconcile="find_issue"

Without these an attempt that is repeated writes a second one.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar, assert_never

import requests
from github import Auth, Github, GithubException
from github.Issue import Issue
from github.IssueComment import IssueComment
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import heartbeating, idempotency_key
from activities.errors import ErrorKind, header, provider_error
from activities.folder import Folder
from activities.settings import ApiKey, RequestTimeout, Section
from dedupe import DidNotHappen, Happened, StillUnknown

_SEARCHED = 1_000
"""How many of the newest issues, or comments, are looked through."""
_PAGE = 100

T = TypeVar("T")

Repository = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", max_length=140)]
"""Owner and name: `acme/shop`."""

Body = Annotated[str, StringConstraints(min_length=1, max_length=65_000)]
"""Markdown. GitHub takes 65,536 characters, and the mark is among them."""


class NewIssue(BaseModel):
    """An issue to be opened."""

    model_config = ConfigDict(frozen=True)

    repository: Repository
    title: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    body: Body
    labels: tuple[str, ...] = ()


class NewComment(BaseModel):
    """A comment on an issue, or on a pull request."""

    model_config = ConfigDict(frozen=True)

    repository: Repository
    issue: Annotated[int, Field(strict=True, gt=0)]
    """Its number."""
    body: Body


class GitHubReceipt(BaseModel):
    """An issue, or a comment, that is there."""

    model_config = ConfigDict(frozen=True)

    number: int
    """Of an issue its number, of a comment its id."""
    url: str
    """Where people read it."""


Finding = Happened[GitHubReceipt] | DidNotHappen | StillUnknown


class GitHubTransport(Protocol):
    """Takes issues and comments."""

    async def write(self, content: NewIssue | NewComment, idempotency_key: str) -> GitHubReceipt:
        """Open an issue, or add a comment, that carries the key.

        Raises:
            ApplicationError: It was not written, or nobody knows; the type is an `ErrorKind`.
        """
        ...

    async def find(self, content: NewIssue | NewComment, idempotency_key: str) -> Finding:
        """Look for what carries the key.

        Raises:
            ApplicationError: The repository cannot be read; the type is an `ErrorKind`.
        """
        ...


class GitHubActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: GitHubTransport) -> None:
        self._transport = transport

    @activity.defn(name="create_issue")
    async def create_issue(self, issue: NewIssue) -> GitHubReceipt:
        """Open an issue."""
        async with heartbeating():
            return await self._transport.write(issue, idempotency_key())

    @activity.defn(name="find_issue")
    async def find_issue(self, issue: NewIssue) -> Happened[GitHubReceipt] | DidNotHappen | StillUnknown:
        """Find out what became of an issue, for `reconcile`."""
        async with heartbeating():
            return await self._transport.find(issue, idempotency_key())

    @activity.defn(name="add_comment")
    async def add_comment(self, comment: NewComment) -> GitHubReceipt:
        """Add a comment."""
        async with heartbeating():
            return await self._transport.write(comment, idempotency_key())

    @activity.defn(name="find_comment")
    async def find_comment(
        self, comment: NewComment
    ) -> Happened[GitHubReceipt] | DidNotHappen | StillUnknown:
        """Find out what became of a comment, for `reconcile`."""
        async with heartbeating():
            return await self._transport.find(comment, idempotency_key())


class FolderTransport:
    """Writes issues and comments into a folder, one file for each key, and sends them to nobody."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._folder = Folder(directory)

    async def write(self, content: NewIssue | NewComment, idempotency_key: str) -> GitHubReceipt:
        """See `GitHubTransport`."""
        await self._folder.put(idempotency_key, content.model_dump_json())
        return _local_receipt(content, idempotency_key)

    async def find(self, content: NewIssue | NewComment, idempotency_key: str) -> Finding:
        """See `GitHubTransport`."""
        if await self._folder.holds(idempotency_key):
            return Happened(_local_receipt(content, idempotency_key))
        return DidNotHappen()


def _local_receipt(content: NewIssue | NewComment, key: str) -> GitHubReceipt:
    number = content.issue if isinstance(content, NewComment) else int(_digest(key)[:6], 16)
    return GitHubReceipt(number=number, url=f"https://github.com/{content.repository}/issues/{number}")


class ApiTransport:
    """Writes through GitHub's REST API, as whom the token belongs to.

    A fine-grained token needs access to issues: read and write.
    """

    def __init__(
        self,
        *,
        token: ApiKey,
        base_url: str = "https://api.github.com",
        timeout: timedelta = timedelta(seconds=20),
    ) -> None:
        self._token = token
        self._github = Github(
            auth=Auth.Token(token.get_secret_value()),
            base_url=base_url.rstrip("/"),
            timeout=math.ceil(timeout.total_seconds()),
            retry=None,  # Temporal retries, and its attempts are seen.
            # The limits are the service's to say: it answers with the time to wait.
            seconds_between_requests=None,
            seconds_between_writes=None,
            per_page=_PAGE,
            lazy=True,
        )

    async def write(self, content: NewIssue | NewComment, idempotency_key: str) -> GitHubReceipt:
        """See `GitHubTransport`."""
        body = f"{content.body}\n\n{_mark(idempotency_key)}"
        return await asyncio.to_thread(
            self._asked, lambda: _receipt(self._write(content, body)), ErrorKind.UNKNOWN
        )

    async def find(self, content: NewIssue | NewComment, idempotency_key: str) -> Finding:
        """See `GitHubTransport`. Still unknown: there are more new ones than are looked through."""
        mark = _mark(idempotency_key)
        return await asyncio.to_thread(
            self._asked, lambda: _find(self._newest(content), mark), ErrorKind.UNAVAILABLE
        )

    def _write(self, content: NewIssue | NewComment, body: str) -> Issue | IssueComment:
        repository = self._github.get_repo(content.repository)
        match content:
            case NewIssue():
                return repository.create_issue(content.title, body, labels=list(content.labels))
            case NewComment():
                return repository.get_issue(content.issue).create_comment(body)
            case _ as never:
                assert_never(never)

    def _newest(self, content: NewIssue | NewComment) -> Iterable[Issue | IssueComment]:
        repository = self._github.get_repo(content.repository)
        match content:
            case NewIssue():
                return repository.get_issues(state="all", sort="created", direction="desc")
            case NewComment():
                # Of one issue they come in the order in which they were written.
                return repository.get_issue(content.issue).get_comments().reversed
            case _ as never:
                assert_never(never)

    def _asked(self, request: Callable[[], T], perhaps: ErrorKind) -> T:
        """Return what GitHub answers.

        Raises:
            ApplicationError: It refuses. Where nobody knows what it did, the type is `perhaps`.
        """
        try:
            return request()
        except GithubException as error:
            raise self._refusal(error, perhaps) from None
        except requests.RequestException as error:
            raise provider_error(perhaps, f"GitHub did not answer ({type(error).__name__})") from None

    def _refusal(self, error: GithubException, perhaps: ErrorKind) -> ApplicationError:
        headers = dict(error.headers or {})
        delay = _rate_limited_for(error.status, headers)
        if delay is not None:
            headers = {**headers, "Retry-After": delay}
        kind = ErrorKind.of_status(error.status) if delay is None else ErrorKind.RATE_LIMITED
        return provider_error(
            perhaps if kind is ErrorKind.UNAVAILABLE else kind,
            f"GitHub answered {error.status}: {error.message or ''}",
            code=str(error.status),
            headers=headers,
            secret=self._token,
        )


def _rate_limited_for(status: int, headers: dict[str, str]) -> str | None:
    """Return what to wait, in seconds; None where it was no rate limit.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api: a limit is 403 or 429,
    and either says when to come back, or which limit is used up until when.
    """
    if status not in {HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}:
        return None
    if (after := header(headers, "Retry-After")) is not None:
        return after
    if header(headers, "X-RateLimit-Remaining") == "0":
        reset = header(headers, "X-RateLimit-Reset") or "0"
        return str(max(int(reset) - math.floor(time.time()), 1) if reset.isdecimal() else 60)
    return "60" if status == HTTPStatus.TOO_MANY_REQUESTS else None


def _mark(key: str) -> str:
    # Not the key itself: it may hold what ends a comment.
    return f"<!-- deduplicated: {_digest(key)} -->"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _receipt(written: Issue | IssueComment) -> GitHubReceipt:
    number = written.number if isinstance(written, Issue) else written.id
    return GitHubReceipt(number=number, url=written.html_url)


def _find(newest: Iterable[Issue | IssueComment], mark: str) -> Finding:
    looked_through = 0
    for each in islice(newest, _SEARCHED):
        looked_through += 1
        if (each.body or "").rstrip().endswith(mark):
            return Happened(_receipt(each))
    return StillUnknown() if looked_through == _SEARCHED else DidNotHappen()


class FolderSettings(Section):
    """Issues and comments stay on this machine."""

    transport: Literal["folder"] = "folder"
    directory: Path = Path("var/github")
    """Folder that holds them; made where it is not there yet."""

    def open(self) -> FolderTransport:
        """Return the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        return FolderTransport(self.directory)


class ApiSettings(Section):
    """Issues and comments are written on GitHub."""

    transport: Literal["github"] = "github"
    token: ApiKey
    """That may read and write issues."""
    base_url: HttpUrl = HttpUrl("https://api.github.com")
    """Where GitHub's API is; of an Enterprise Server: https://HOST/api/v3."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long GitHub may stay silent: 1 second to 5 minutes."""

    def open(self) -> ApiTransport:
        """Return the transport."""
        return ApiTransport(token=self.token, base_url=str(self.base_url), timeout=self.timeout)


GitHubSettings = Annotated[FolderSettings | ApiSettings, Field(discriminator="transport")]

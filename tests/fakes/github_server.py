"""GitHub, as https://docs.github.com/en/rest documents issues and their comments, and its errors.

    python -m tests.fakes.github_server --port 8028 --ledger github.sqlite3

There are no idempotency keys: every request that is taken writes. Lists come in pages, with the next ones in
the header Link.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes.ledger import Answer
from tests.fakes.provider import KeylessProvider, Request, main

API_KEY = "github_pat_loopback"
REPOSITORY = "acme/shop"
_ISSUES = f"/repos/{REPOSITORY}/issues"
_WRITTEN_AT = "2026-01-01T12:00:00Z"


def error(status: int, message: str, *, errors: Sequence[Mapping[str, str]] = (), **headers: str) -> Answer:
    """Return an error in GitHub's form; an underscore in a header's name stands for a hyphen."""
    body: dict[str, Any] = {
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }
    return Answer(
        status=status,
        body={**body, "errors": errors} if errors else body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


class GitHubServer(KeylessProvider):
    """A local GitHub, with one repository, whose issue 1 is there from the start."""

    def check(self, request: Request) -> Answer | None:
        """See `Provider`. Reading is answered here: it has no effect."""
        # The SDK writes `token`, GitHub's documentation `Bearer`; GitHub takes both.
        given = request.headers.get("authorization", "").rpartition(" ")[2]
        if given != self._api_key:
            return error(HTTPStatus.UNAUTHORIZED, "Bad credentials")
        path, _, query = request.path.partition("?")
        parts = path.removeprefix(_ISSUES).strip("/").split("/")
        if not path.startswith(_ISSUES) or (parts != [""] and parts[1:] != ["comments"]):
            return error(HTTPStatus.NOT_FOUND, "Not Found")
        if parts != [""] and parts[0] not in self._numbers():
            return error(HTTPStatus.NOT_FOUND, "Not Found")
        if request.method == "GET":
            return self._list(path, dict(parse_qsl(query)))
        fields = json.loads(request.body)
        resource, needed = ("Issue", "title") if parts == [""] else ("IssueComment", "body")
        if fields.get(needed):
            return None
        missing = {"resource": resource, "code": "missing_field", "field": needed}
        return error(HTTPStatus.UNPROCESSABLE_ENTITY, "Validation Failed", errors=[missing])

    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """See `Provider`."""
        fields = json.loads(request.body)
        written = {
            "path": request.path,
            "number": str(len(self.effects) + 2),
            "title": fields.get("title", ""),
            "body": fields.get("body", ""),
        }
        return Answer(status=HTTPStatus.CREATED, body=self._shown(written)), written

    def _numbers(self) -> set[str]:
        issues = {each.content["number"] for each in self.effects if each.content["path"] == _ISSUES}
        return {"1", *issues}

    def _shown(self, written: Mapping[str, str]) -> dict[str, Any]:
        number = int(written["number"])
        shown: dict[str, Any] = {
            "id": 1_000 + number,
            "node_id": f"N_{number}",
            "body": written["body"],
            "user": _user(self.url),
            "created_at": _WRITTEN_AT,
            "updated_at": _WRITTEN_AT,
            "author_association": "COLLABORATOR",
        }
        issues, html = f"{self.url}{_ISSUES}", f"https://github.com/{REPOSITORY}/issues"
        if written["path"] != _ISSUES:
            issue = written["path"].split("/")[-2]
            return {
                **shown,
                "url": f"{issues}/comments/{shown['id']}",
                "issue_url": f"{issues}/{issue}",
                "html_url": f"{html}/{issue}#issuecomment-{shown['id']}",
            }
        return {
            **shown,
            "url": f"{issues}/{number}",
            "repository_url": f"{self.url}/repos/{REPOSITORY}",
            **{f"{of}_url": f"{issues}/{number}/{of}" for of in ("labels", "comments", "events")},
            "html_url": f"{html}/{number}",
            "number": number,
            "title": written["title"],
            "state": "open",
            "locked": False,
            "labels": [],
            "milestone": None,
            "comments": 0,
            "closed_at": None,
        }

    def _list(self, path: str, query: Mapping[str, str]) -> Answer:
        """Issues the newest first, comments the oldest first."""
        found = [self._shown(each.content) for each in self.effects if each.content["path"] == path]
        if path == _ISSUES:
            found.reverse()
        page, size = int(query.get("page", "1")), int(query.get("per_page", "30"))
        last = max((len(found) + size - 1) // size, 1)
        links = [("next", page + 1), ("last", last)] if page < last else []
        if page > 1:
            links += [("first", 1), ("prev", page - 1)]
        link = ", ".join(f'<{self.url}{path}?page={n}&per_page={size}>; rel="{rel}"' for rel, n in links)
        return Answer(
            status=HTTPStatus.OK,
            body=found[(page - 1) * size : page * size],
            headers={"Link": link} if link else {},
        )


def _user(url: str) -> dict[str, Any]:
    user = f"{url}/users/shop-bot"
    links = ("followers", "following", "gists", "starred", "subscriptions", "repos", "events")
    return {
        "login": "shop-bot",
        "id": 1,
        "node_id": "U_1",
        "avatar_url": "https://avatars.githubusercontent.com/u/1",
        "gravatar_id": "",
        "url": user,
        "html_url": "https://github.com/shop-bot",
        **{f"{of}_url": f"{user}/{of}" for of in links},
        "organizations_url": f"{user}/orgs",
        "received_events_url": f"{user}/received_events",
        "type": "Bot",
        "site_admin": False,
    }


if __name__ == "__main__":
    main(GitHubServer, api_key=API_KEY)

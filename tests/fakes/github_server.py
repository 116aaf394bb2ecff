"""GitHub, as https://docs.github.com/en/rest documents issues and their comments, and its errors.

    python -m tests.fakes.github_server --port 8028 --ledger github.sqlite3

There are no idempotency keys: every request that is taken writes. Lists come in pages, with the next ones in
the header Link.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes.ledger import Answer
from tests.fakes.provider import KeylessProvider, Request, main

API_KEY = "github_pat_loopback"
REPOSITORY = "acme/shop"
_ISSUES = f"/repos/{REPOSITORY}/issues"


def error(status: int, message: str, **headers: str) -> Answer:
    """Return an error in GitHub's form; an underscore in a header's name stands for a hyphen."""
    return Answer(
        status=status,
        body={"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)},
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
        needed = "title" if parts == [""] else "body"
        return None if fields.get(needed) else error(HTTPStatus.UNPROCESSABLE_ENTITY, "Validation Failed")

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
        shown: dict[str, Any] = {"id": 1_000 + number, "body": written["body"], "url": f"{self.url}/x"}
        if written["path"] == _ISSUES:
            html = f"https://github.com/{REPOSITORY}/issues/{number}"
            return {**shown, "number": number, "title": written["title"], "html_url": html}
        issue = written["path"].split("/")[-2]
        html = f"https://github.com/{REPOSITORY}/issues/{issue}#issuecomment-{shown['id']}"
        return {**shown, "html_url": html}

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


if __name__ == "__main__":
    main(GitHubServer, api_key=API_KEY)
